"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoglot.data.glossary import Scale

ArchivePath = Annotated[
    Path,
    typer.Option("--archive", "-a", envvar="GEOGLOT_ARCHIVE", metavar="FOLDER", help="The archive.", show_default=True),
]

ModelName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A model: geoglot models list. Default: the archive's own."),
]

Definitions = Annotated[
    Scale | None,
    typer.Option(help="Let what a named thing looks like join its name: in fine pictures, in coarse ones, or both."),
]
