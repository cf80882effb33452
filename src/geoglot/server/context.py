"""The context that all routes share: archives, jobs and settings. It is made once; requests only read it."""

from __future__ import annotations

import functools
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from geoglot.archive.archive import Archive, ArchiveInfo
from geoglot.archive.pictures import open_again
from geoglot.errors import NotThereError, UsageError
from geoglot.imagery.scene import Scene
from geoglot.imagery.tiles import Renderings
from geoglot.server.archives import ArchivePool
from geoglot.server.errors import complaint
from geoglot.server.jobs import JobBoard
from geoglot.server.metrics import Metrics
from geoglot.server.settings import Settings
from geoglot.server.stac import Documents
from geoglot.tasks.registry import Task, find_task
from geoglot.types import Chip, SceneInfo


class ServerContext:
    """Everything that outlives a request."""

    def __init__(self, pool: ArchivePool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings
        pool.hold_to(settings.reach)
        self.metrics = Metrics()
        self.renderings = Renderings()
        self.closing = threading.Event()
        self._infos: weakref.WeakKeyDictionary[Archive, ArchiveInfo] = weakref.WeakKeyDictionary()
        self._info_lock = threading.Lock()
        self.board = JobBoard(
            settings.state,
            self._run_job,
            threads=settings.job_threads,
            most=settings.max_jobs,
            job_s=settings.job_s,
            keep_s=settings.job_keep_s,
        )

    def archive(self, name: str) -> Archive:
        """The newest state of a collection's archive.

        Raises:
            NotThereError: No such collection.
            ArchiveError: It cannot be used now.
        """
        return self.pool.served(name).archive

    def info(self, archive: Archive) -> ArchiveInfo:
        """Its numbers, worked out once for each state."""
        with self._info_lock:  # when an archive has grown everybody asks at once, and one answer serves all
            found = self._infos.get(archive)
            if found is None:
                found = self._infos[archive] = archive.info()
        return found

    def scene(self, name: str, scene_id: str) -> SceneInfo:
        """A scene of a collection.

        Raises:
            NotThereError: No such collection or scene.
        """
        found = self.archive(name).scene(scene_id)
        if found is None:
            raise NotThereError(f"there is no scene {scene_id[:80]!r} in {name!r}", hint="Was it removed?")
        return found

    def chip(self, name: str, chip_id: str) -> tuple[Chip, SceneInfo]:
        """A chip of a collection, and its scene.

        Raises:
            NotThereError: No such collection or chip.
        """
        archive = self.archive(name)
        chip = archive.chip(chip_id)
        scene = archive.scene(chip.scene_id) if chip else None
        if chip is None or scene is None:
            raise NotThereError(f"there is no item {chip_id[:80]!r} in {name!r}", hint="Was its scene removed?")
        return chip, scene

    @contextmanager
    def open(self, info: SceneInfo) -> Iterator[Scene]:
        """A scene's file, if the server may read it.

        Raises:
            NotAllowedError: It lies outside the server's reach.
            SceneError, SourceError: It cannot be read.
        """
        with open_again(info, self.settings.reach) as scene:
            self.renderings.settle(scene)
            yield scene

    def request_of(self, task: Task, body: Mapping[str, Any]) -> Any:
        """A task's request from plain values.

        Raises:
            UsageError: A field is unknown or has the wrong type.
        """
        try:
            return _adapter(task).validate_python(dict(body))
        except ValidationError as error:
            hint = f"The fields of {task.name} stand under /tasks."
            raise UsageError(complaint(error.errors()[0]), hint=hint) from error

    def _run_job(
        self, task: str, collection: str, body: Mapping[str, Any], folder: Path, report: Callable[[float, str], None]
    ) -> None:
        found = find_task(task)
        archive, request = self.archive(collection), self.request_of(found, body)
        self.check_reach(found, archive, request)
        found.run_job(archive, request, folder, report)

    def check_reach(self, task: Task, archive: Archive, request: Any) -> None:
        """Refuse a task that would open what the server may not read.

        Raises:
            NotAllowedError: A scene lies outside the server's reach.
        """
        for info in task.reads(archive, request):
            self.settings.reach.check(info.uri)

    def close(self) -> None:
        """Stop what runs in the background."""
        self.pool.stop()
        self.board.close()


@functools.cache
def _adapter(task: Task) -> TypeAdapter[Any]:
    return TypeAdapter(task.request_type)


def body_schema(task: Task) -> dict[str, Any]:
    """The JSON schema of a task's body, its collection included."""
    schema = _adapter(task).json_schema()
    collection = {"type": "string", "description": "the archive"}
    schema["properties"] = {"collection": collection, **schema["properties"]}
    for field in task.request_type.__dataclass_fields__.values():
        if field.name in schema["properties"]:
            schema["properties"][field.name]["description"] = field.metadata.get("help", "")
    return {**schema, "required": ["collection"], "additionalProperties": False}


def context_of(request: Request) -> ServerContext:
    """The context of a request's app."""
    context: ServerContext = request.app.state.context
    return context


def documents_of(request: Request) -> Documents:
    """Documents with links that lead back to where the request came in."""
    settings = context_of(request).settings
    return Documents((settings.public_url or str(request.base_url)).rstrip("/"), settings.title)


@contextmanager
def kept_file(content: bytes) -> Iterator[Path]:
    """An upload as a file, for as long as it is looked at."""
    with tempfile.TemporaryDirectory(prefix="geoglot-") as folder:
        file = Path(folder) / "upload"
        file.write_bytes(content)
        yield file
