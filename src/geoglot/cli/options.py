"""Options that several commands share; and the options that a request's fields become."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from geoglot.data.glossary import Scale

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

Definitions = Annotated[
    Scale | None,
    typer.Option(help="Let what a named thing looks like join its name: in fine pictures, in coarse ones, or both."),
]


def reach_of(roots: list[Path] | None, hosts: list[str] | None) -> Reach:
    """What a command may read."""
    from geoglot.imagery.reach import Reach

    return Reach(tuple(roots or ()), tuple(hosts or ()))


KINDS: dict[Any, tuple[Any, str | None]] = {
    tuple[str, ...]: (list[str] | None, "TEXT"),
    tuple[float, ...] | None: (tuple[float, float, float, float] | None, "W S E N"),
    dict[str, Any] | None: (str | None, "GEOJSON"),
    str | None: (str | None, "TEXT"),
    str: (str, "TEXT"),
    float | None: (float | None, "N"),
    float: (float, "N"),
    int | None: (int | None, "N"),
    int: (int, "N"),
    bool: (bool, None),
}
"""Type of a request's field -> type and metavar of the option."""


def request_options(kind: type[Any], without: Collection[str] = ()) -> list[inspect.Parameter]:
    """One option for each field of a request, as parameters that Typer reads.

    Args:
        kind: A dataclass whose fields come from `geoglot.archive.request.option`.
        without: Fields that are no options.
    """
    hints = get_type_hints(kind)
    return [_option(field, hints[field.name]) for field in fields(kind) if field.name not in without]


def _option(field: Field[Any], hint: Any) -> inspect.Parameter:
    kind, metavar = KINDS[hint]
    help = field.metadata["help"] + ("; repeat for several" if hint == tuple[str, ...] else "")
    option = typer.Option(help=f"{help[0].upper()}{help[1:]}.", metavar=field.metadata["metavar"] or metavar)
    return keyword(field.name, Annotated[kind, option], None if field.default == () else field.default)


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter of a command that Typer reads."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def signed(command: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """A function with the parameters that Typer shall read."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of a request's fields, lists as tuples."""
    plain = {name: tuple(value) if isinstance(value, list | tuple) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None}


def with_options_of(
    kind: type[Any], without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a request; its parameter `request` takes them, made into one."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = request_options(kind, without)

        @functools.wraps(command)
        def run(**values: Any) -> None:
            request = kind(**given({option.name: values.pop(option.name) for option in options}))
            command(request=request, **values)

        parameters: list[inspect.Parameter] = []
        for name, own in inspect.signature(command, eval_str=True).parameters.items():
            parameters += options if name == "request" else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        return signed(run, parameters)

    return decorate
