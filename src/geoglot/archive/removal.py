"""Take scenes out of an archive by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from geoglot.archive.store import Store
from geoglot.errors import UnknownNameError
from geoglot.types import SceneInfo


def remove_scenes(archive_path: str | Path, names: Sequence[str]) -> tuple[SceneInfo, ...]:
    """Drop scenes and their chips, all in one commit; the files themselves are not touched.

    Args:
        archive_path: Folder of the archive.
        names: Scene ids, file names, paths or URLs, or shell patterns of these. A folder stands for all it holds.

    Returns:
        The scenes dropped, sorted by path.

    Raises:
        UnknownNameError: A name stands for no scene; then nothing is dropped.
        ArchiveBusyError: Another process is writing.
    """
    with Store.open(archive_path, write=True) as store:
        scenes = [record.info for record in store.scenes().values()]
        gone = {info.scene_id: info for name in names for info in _named(name, scenes)}
        store.remove_scenes(gone)
        store.finish()
    return tuple(sorted(gone.values(), key=lambda info: info.uri))


def _named(name: str, scenes: Sequence[SceneInfo]) -> list[SceneInfo]:
    """Scenes of that very name first: a file may well be called `a[1].tif`."""
    path = Path(name).expanduser().absolute()
    exact, patterns = {name, str(path)}, (name, str(path))
    found = [i for i in scenes if exact & {i.scene_id, i.name, i.uri} or path in Path(i.uri).parents]
    if not found:
        found = [i for i in scenes if any(fnmatch.fnmatchcase(t, p) for t in (i.name, i.uri) for p in patterns)]
    if not found:
        raise UnknownNameError("scene", name, [info.name for info in scenes[:200]])
    return found
