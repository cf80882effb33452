"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from geoglot.imagery.reach import Reach

ArchivePath = Annotated[
    Path,
    typer.Option("--archive", "-a", envvar="GEOGLOT_ARCHIVE", metavar="FOLDER", help="The archive.", show_default=True),
]

Roots = Annotated[
    list[Path] | None,
    typer.Option("--root", metavar="FOLDER", help="Links of scenes may lead below this folder; repeat for several."),
]

AllowedHosts = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="Read from this server on a private network; repeat."),
]

ModelName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A model: geoglot models list. Default: the archive's own."),
]


def reach_of(roots: list[Path] | None, hosts: list[str] | None) -> Reach:
    """What a command may read."""
    from geoglot.imagery.reach import Reach

    return Reach(tuple(roots or ()), tuple(hosts or ()))
