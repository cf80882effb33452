"""Every task that can be done with an archive: one table that feeds the command line, the REST API and the docs.

A task is a frozen dataclass of plain values (what is asked for) and a function. The dataclass's fields are the options
of `geoglot task NAME` and the body of `POST /tasks/NAME`; their help stands in the field's metadata
(`geoglot.archive.request.option`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoglot.errors import UnknownNameError

if TYPE_CHECKING:
    from geoglot.archive.archive import Archive
    from geoglot.types import SceneInfo

Report = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words; may raise to end the task."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that can be done.

    Attributes:
        name: As in the address and on the command line.
        summary: One sentence.
        answers: "now": `run(archive, request)` returns plain values. "job": `run(archive, request, folder, report)`
            writes files into the folder.
        module: Where it lives; imported when it is used.
        request: Name of its dataclass there.
        function: Name of its function there.
    """

    name: str
    summary: str
    answers: Literal["now", "job"]
    module: str
    request: str
    function: str

    @property
    def request_type(self) -> type[Any]:
        """The dataclass of what is asked for."""
        kind: type[Any] = getattr(import_module(self.module), self.request)
        return kind

    def run_now(self, archive: Archive, request: Any) -> Mapping[str, Any]:
        """Answer at once, in plain values."""
        answer: Mapping[str, Any] = getattr(import_module(self.module), self.function)(archive, request)
        return answer

    def reads(self, archive: Archive, request: Any) -> Iterable[SceneInfo]:
        """Scenes whose files the task will open; a server looks whether it may."""
        chosen: Iterable[SceneInfo] = request.reads(archive) if hasattr(request, "reads") else ()
        return chosen

    def run_job(self, archive: Archive, request: Any, folder: Path, report: Report) -> None:
        """Write the result's files into an empty folder."""
        getattr(import_module(self.module), self.function)(archive, request, folder, report)


_ALL = (
    Task(
        "classify",
        "Share a picture or a chip out among labels, without training.",
        "now",
        "geoglot.tasks.classify",
        "ClassifyRequest",
        "classify",
    ),
    Task(
        "classify-area",
        "Give each chip of an area the likeliest of some labels: a map, and the chips as places.",
        "job",
        "geoglot.tasks.classify_area",
        "AreaRequest",
        "classify_area",
    ),
    Task(
        "export",
        "Write the answer to a question as a file.",
        "job",
        "geoglot.tasks.export",
        "ExportRequest",
        "export",
    ),
    Task(
        "localize",
        "Show where in a scene sentences hold: heat maps, regions and pictures.",
        "job",
        "geoglot.tasks.localize.scene",
        "LocalizeRequest",
        "localize",
    ),
    Task(
        "heat",
        "Draw where an archive fits a question as a raster.",
        "job",
        "geoglot.tasks.heat",
        "HeatRequest",
        "heat",
    ),
    Task(
        "segment",
        "Map classes, asked for in words, over an archive's scenes: class maps, polygons, pictures.",
        "job",
        "geoglot.tasks.segment.scene",
        "SegmentRequest",
        "segment",
    ),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """A task by its name.

    Raises:
        UnknownNameError: There is none; suggests the nearest.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    return TASKS[name]
