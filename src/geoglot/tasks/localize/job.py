"""`localize` as a task: sentences against a scene of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geoglot.archive.archive import Archive
from geoglot.archive.pictures import open_again
from geoglot.errors import UnknownNameError, UsageError
from geoglot.tasks.localize.files import write_heats
from geoglot.tasks.localize.localizer import LocalizeSettings, localize_scene, make_plan
from geoglot.tasks.registry import Report, option
from geoglot.types import SceneInfo


@dataclass(frozen=True, kw_only=True)
class LocalizeRequest:
    """A scene, the sentences, and how to look."""

    scene: str = option("the scene, by its id or name", "")
    text: tuple[str, ...] = option("what to look for, one or several sentences", ())
    mode: str = option("fast, or strict: as the method's released code computes it", "fast")
    finer: bool = option("average with the places inside the smallest windows", False)
    sides_px: str = option("sides of the windows in pixels, separated by commas", "256,512,768")
    level: float = option("from here on, on a map from 0 to 1, cells make regions", 0.75)

    def reads(self, archive: Archive) -> tuple[SceneInfo, ...]:
        """The scene.

        Raises:
            UnknownNameError: There is none.
            UsageError: Several have that name.
        """
        return (find_scene(archive, self.scene),)


def localize(archive: Archive, request: LocalizeRequest, folder: Path, report: Report) -> None:
    """Write heat.tif, regions.geojson, report.json, and a picture a sentence.

    Raises:
        QueryError: No sentence, or no word of one is known.
        UsageError: A value is wrong, or the archive was opened without a model.
        SourceError, SceneError: The scene cannot be read again.
        StorageError: The folder cannot be written.
    """
    if archive.encoder is None:
        raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
    settings = LocalizeSettings(
        parse_sides(request.sides_px), mode=request.mode, finer=request.finer, level=request.level
    )
    with open_again(find_scene(archive, request.scene), archive.reach) as scene:
        plan = make_plan(scene, request.text, settings)
        heats = localize_scene(scene, archive.encoder, request.text, plan, report)
        write_heats(scene, plan, heats, request.text, folder)
    report(1.0, f"{len(request.text)} sentences")


def parse_sides(text: str) -> tuple[int, ...]:
    """ "256,512" -> (256, 512).

    Raises:
        UsageError: Not whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(
            f"{text!r} are not whole numbers separated by commas", hint="For example 256,512,768."
        ) from error


def find_scene(archive: Archive, name: str) -> SceneInfo:
    """A scene by its id or name.

    Raises:
        UnknownNameError: There is none.
        UsageError: Several have that name.
    """
    infos = [record.info for record in archive.scenes()]
    found = [info for info in infos if name in (info.scene_id, info.name)]
    if not found:
        raise UnknownNameError("scene", name, [info.name for info in infos])
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} scenes are called {name!r}", hint=f"Give an id: {', '.join(i.scene_id for i in found)}"
        )
    return found[0]
