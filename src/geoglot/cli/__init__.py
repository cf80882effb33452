"""The command line. One file per command group; the groups are loaded by `main`, heavy packages by the commands."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `geoglot` command."""
    from geoglot.cli.app import app

    app(prog_name="geoglot")
