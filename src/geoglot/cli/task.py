"""`geoglot task`: every task of the registry as a command; its options are the fields of the task's request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geoglot.cli.app import PLAIN
from geoglot.cli.options import ArchivePath, Definitions, given, keyword, request_options, signed
from geoglot.data.glossary import Scale
from geoglot.errors import UsageError
from geoglot.tasks.registry import TASKS, Task

Folder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files go.")]
PICTURES = ("picture", "image")


class TaskGroup(TyperGroup):
    """Commands from the registry; a task's module is imported when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The tasks."""
        return list(TASKS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A task as a command."""
        if cmd_name not in TASKS:
            return None
        own = typer.Typer(**PLAIN)
        own.command()(_command(TASKS[cmd_name]))
        command = typer.main.get_command(own)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the tasks without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(task.name, task.summary) for task in TASKS.values()])


app = typer.Typer(cls=TaskGroup, **PLAIN, help="What else can be done with an archive; the server does the same.")


@app.callback()
def tasks() -> None:
    """Run a task over an archive, as the server does."""


def _command(task: Task) -> Callable[..., None]:
    """A function that Typer can read: one option for each field of the task's request."""

    def command(archive: Path, definitions: Scale | None, **values: Any) -> None:
        _run(task, archive, definitions, values.pop("output", None), values)

    parameters = [
        keyword("archive", ArchivePath, Path(".geoglot")), keyword("definitions", Definitions, None),
        *request_options(task.request_type),
    ]  # fmt: skip
    if task.answers == "job":
        parameters.append(keyword("output", Folder, Path(task.name)))
    command.__doc__ = task.summary
    return signed(command, parameters)


def _run(task: Task, archive: Path, definitions: Scale | None, output: Path | None, values: dict[str, Any]) -> None:
    from geoglot.archive.archive import Archive
    from geoglot.archive.manifest import read_manifest
    from geoglot.cli.screen import say
    from geoglot.models.load import load_encoder

    encoder = load_encoder(read_manifest(archive).model, definitions=definitions)
    opened = Archive.open(archive, encoder)
    request = task.request_type(**{name: _value(name, value, encoder) for name, value in given(values).items()})
    if output is None:
        typer.echo(json.dumps(task.run_now(opened, request), indent=2, ensure_ascii=False))
        return
    output.mkdir(parents=True, exist_ok=True)
    task.run_job(opened, request, output, lambda share, words: None)
    for file in sorted(output.iterdir()):
        say(f"Wrote {file}")


def _value(name: str, value: Any, encoder: Any) -> Any:
    """As the request wants it: GeoJSON as a table, pictures as tokens."""
    if name in PICTURES:
        return _token(value, encoder) if isinstance(value, str) else tuple(_token(file, encoder) for file in value)
    if name == "intersects":
        try:
            return json.loads(value)
        except ValueError as error:
            raise UsageError(f"--intersects is not JSON: {error}", hint="Give a GeoJSON geometry.") from error
    return value


def _token(file: str, encoder: Any) -> str:
    from geoglot.archive.request import picture_token
    from geoglot.imagery.limits import Limits

    return picture_token(Path(file), encoder, Limits())
