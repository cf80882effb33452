"""One HTML file that shows answers on a map: nothing else to install, no network.

Scenes are embedded as small WebP pictures with the places of three of their corners, chips as pictures of their own,
and `map_page.html` draws them. A scene is placed by an affine map in Web Mercator, which is exact enough for looking:
over one degree the error stays under a thousandth of the scene's side below 60 degrees of latitude.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoglot.archive.pictures import Unread, chip_pictures, data_uri, open_again, thumbnail
from geoglot.errors import SceneError, SourceError, StorageError
from geoglot.imagery.reach import PUBLIC, Reach
from geoglot.types import Match, SceneInfo, Window

if TYPE_CHECKING:
    from PIL.Image import Image

    from geoglot.imagery.scene import Scene

CHIP_PX = 192
MAX_SCENES = 80
"""Scenes drawn at most, so that the file stays a few megabytes; the rest of an archive is left out of the page."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer.

    Attributes:
        text: As it was asked.
        matches: Best first.
        nothing_matches: The archive's verdict; matches, if any, are near misses.
        language: ISO 639-1 code, or empty.
    """

    text: str
    matches: Sequence[Match]
    nothing_matches: bool = False
    language: str = ""


def write_map_page(
    path: Path | str,
    questions: Sequence[Question],
    *,
    scenes: Sequence[SceneInfo] = (),
    title: str = "Places found",
    note: str = "",
    scene_px: int = 768,
    reach: Reach = PUBLIC,
) -> tuple[Unread, ...]:
    """Write the page; about 60 kB per scene and 8 kB per match.

    Args:
        path: The .html file to write.
        questions: Shown in this order.
        scenes: Scenes to draw beside those that hold matches.
        title: Heading of the page.
        note: A short label beside it, e.g. that the imagery is synthetic.
        scene_px: Longer side of a scene's picture.
        reach: Where the scenes may lie.

    Returns:
        Scenes whose pixels could not be read; their outlines are drawn all the same.

    Raises:
        StorageError: The file cannot be written.
    """
    matches = [match for question in questions for match in question.matches]
    shown = _scenes_to_show(matches, scenes)
    chips, unread_chips = chip_pictures(matches, CHIP_PX, reach)
    records, unread_scenes = _scene_records(shown, scene_px, reach)
    data = {
        "title": title,
        "note": note,
        "scenes": records,
        "questions": [_question_record(question, chips) for question in questions],
    }
    template = files("geoglot.archive").joinpath("map_page.html").read_text("utf-8")
    _write(Path(path), template.replace("/*DATA*/null", _embed(data), 1))
    return tuple(dict.fromkeys((*unread_chips, *unread_scenes)))


def _scenes_to_show(matches: Iterable[Match], others: Iterable[SceneInfo]) -> list[SceneInfo]:
    unique = {scene.scene_id: scene for scene in (*(m.scene for m in matches), *others)}
    return list(unique.values())[:MAX_SCENES]


def _scene_records(
    scenes: Sequence[SceneInfo], scene_px: int, reach: Reach
) -> tuple[list[dict[str, Any]], list[Unread]]:
    records, unread = [], []
    for scene in scenes:
        record = _describe(scene)
        try:
            with open_again(scene, reach) as opened:
                record |= _placed_picture(opened, scene_px)
        except (SceneError, SourceError) as error:
            unread.append(Unread(scene.name, str(error)))
        records.append(record)
    return records, unread


def _placed_picture(scene: Scene, scene_px: int) -> dict[str, Any]:
    corners = _corners(scene)
    if corners is None:
        return {}
    width, height = scene.info.width, scene.info.height
    picture = thumbnail(scene, Window(0, 0, width, height), min(scene_px, max(width, height)))
    return {"image": data_uri(picture), "corners": corners}


def _describe(scene: SceneInfo) -> dict[str, Any]:
    return {
        "id": scene.scene_id,
        "name": scene.name,
        "rings": scene.footprint_lonlat,
        "acquired": f"{scene.acquired:%Y-%m-%d}" if scene.acquired else None,
        "sensor": scene.sensor,
        "gsd_m": scene.gsd_m,
        "image": None,
        "corners": None,
    }


def _corners(scene: Scene) -> list[tuple[float, float]] | None:
    """(lon, lat) of the top left, top right and bottom left corner pixel, through the scene's own georeference."""
    info = scene.info
    right, bottom = info.width - 1, info.height - 1
    places = []
    for x, y in ((0, 0), (right, 0), (0, bottom)):
        box = scene.chip(Window(x, y, x + 1, y + 1)).bbox_lonlat
        if box is None:
            return None
        places.append(((box.west + box.east) / 2, (box.south + box.north) / 2))
    return places


def _question_record(question: Question, chips: dict[str, Image]) -> dict[str, Any]:
    return {
        "text": question.text,
        "language": question.language,
        "nothing": question.nothing_matches,
        "matches": [_match_record(match, chips.get(match.chip.chip_id)) for match in question.matches],
    }


def _match_record(match: Match, picture: Image | None) -> dict[str, Any]:
    return {
        "rank": match.rank,
        "score": round(match.score, 4),
        "confidence": None if match.confidence is None else round(match.confidence, 4),
        "scene": match.scene.scene_id,
        "rings": match.chip.footprint_lonlat,
        "box_px": match.chip.window.box_px,
        "ground_m": match.chip.ground_m,
        "merged": match.merged,
        "image": data_uri(picture) if picture else None,
    }


def _embed(data: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no `<`, so no scene's name can close it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="Choose another file.") from error
