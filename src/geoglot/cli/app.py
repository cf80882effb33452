"""The command's root: the verbs, and how errors are shown.

Exit codes: 0 done, 1 `doctor` or `index check` found something wrong or a pipe was closed, 2 wrong use or an error that
geoglot explains, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from geoglot.errors import GeoglotError, UsageError
from geoglot.version import __version__


class VerbGroup(TyperGroup):
    """A group with a verb that is used when none is named."""

    default_verb = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default verb, unless the first word is a verb or one of the group's own options."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if not args:
            args = ["--help"]
        elif args[0] not in self.list_commands(ctx) and args[0] not in own:
            self._refuse_slip(ctx, args[0])
            args = [self.default_verb, *args]
        return super().parse_args(ctx, args)

    def _refuse_slip(self, ctx: Any, word: str) -> None:
        """`geoglot serach x` must not search for "serach x"."""
        meant = [verb for verb in self.list_commands(ctx) if is_slip(word, verb)]
        if meant and not os.path.exists(word):  # noqa: PTH110 - a path that is there is meant as one
            raise UsageError(
                f"there is no command {word!r}; did you mean {meant[0]!r}?",
                hint=f"If you do mean the word {word!r}: {ctx.command_path} {self.default_verb} {word}",
            )


VERBS = {
    "search": "Ask an archive a question; the verb may be left out.",
    "index": "Bring an archive up to date with scenes; look into it; check it.",
    "models": "List, show, pull, bundle, convert, export and compare models.",
    "train": "Train a model by a recipe.",
    "segment": "Map classes, asked for in words, over a scene: a class map for QGIS.",
    "localize": "Show where in a scene sentences hold: a heat map, and regions.",
    "task": "What else can be done with an archive: classify, export, heat maps.",
    "data": "Look into sets of regions and dense masks; build region sets from them.",
    "serve": "Serve archives: a STAC API with language search, map tiles, and tasks.",
    "demo": "First success: draw a country, index it, ask five questions in five languages.",
    "eval": "Measure models by a named protocol, beside the published numbers.",
    "doctor": "Say what is installed, what is missing, and how to get it.",
}


class RootGroup(VerbGroup):
    """The `geoglot` command; search is the default verb.

    A verb's module, `geoglot.cli.<verb>`, is imported when the verb is used: this halves the time of `--help`.
    """

    default_verb = "search"

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, the commonest first."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        command = typer.main.get_command(import_module(f"geoglot.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run, and show geoglot's own errors as a message and a hint on stderr; `--debug` may stand anywhere."""
        words, debug = without_debug(sys.argv[1:] if args is None else list(args))
        for stream in (sys.stdout, sys.stderr):
            if reconfigure := getattr(stream, "reconfigure", None):
                reconfigure(errors="backslashreplace")  # file names need not be valid text
        try:
            return super().main(words, *rest, **options)
        except GeoglotError as error:
            if debug:
                traceback.print_exc()
            show_error(error)
            sys.exit(2)


def is_slip(word: str, verb: str) -> bool:
    """True when one letter was dropped, added, changed, or swapped with its neighbour."""
    ahead = _alike(word, verb)
    a, b = word[ahead:], verb[ahead:]
    behind = _alike(a[::-1], b[::-1])
    a, b = a[: len(a) - behind], b[: len(b) - behind]
    return word != verb and (max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1]))


def _alike(a: str, b: str) -> int:
    """How many letters the two share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def without_debug(args: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether it was there; what follows `--` is left alone."""
    end = args.index("--") if "--" in args else len(args)
    kept = [word for word in args[:end] if word != "--debug"]
    return kept + args[end:], len(kept) < end


def show_error(error: GeoglotError) -> None:
    """Message and hint on stderr, plain words, coloured on a terminal."""
    from geoglot.cli.screen import plain

    typer.secho("Error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(plain(str(error), keep="\n\t"), err=True)
    if error.hint:
        typer.secho("Hint:  ", fg="cyan", err=True, nl=False)
        typer.echo(plain(error.hint, keep="\n\t"), err=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geoglot {__version__}")
        raise typer.Exit


PLAIN: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,  # rich's help costs 0.3 s; plain help reads as well
    "pretty_exceptions_enable": False,
}

app = typer.Typer(
    cls=RootGroup,
    **PLAIN,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Without a command, geoglot searches: geoglot "boats moored in a harbour" --limit 5',
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; may stand anywhere."),
) -> None:
    """Ask an archive of satellite and aerial scenes a question in plain words; get places on a map back."""
