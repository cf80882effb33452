"""Pictures of answers: the pixels behind a match, and the contact sheet that lays matches out in a grid.

Pictures are read from the scenes, which may have moved since they were indexed; what cannot be read is drawn as an
empty frame and named in the return value, so that the caller can say so.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoglot.errors import SceneChangedError, SceneError, SourceError, StorageError, UsageError
from geoglot.imagery.reach import PUBLIC, Reach
from geoglot.types import Match, SceneInfo, Window

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from geoglot.imagery.scene import Scene

INK, PAPER, MUTED, FRAME, ACCENT = "#12181b", "#f3efe6", "#93a09d", "#2a3437", "#f2a541"
CAPTION_PX, HEADING_PX, GAP_PX, MARGIN_PX = 58, 46, 14, 28


@dataclass(frozen=True, slots=True)
class Unread:
    """A scene whose pixels could not be shown, and why."""

    scene: str
    reason: str


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the contact sheet: what was asked and what came back, best first.

    `nothing_matches` is the archive's verdict: the matches, if any, are near misses.
    """

    title: str
    matches: Sequence[Match]
    nothing_matches: bool = False


def thumbnail(scene: Scene, window: Window, side_px: int) -> Image:
    """A window of an open scene as RGBA, its longer side `side_px` pixels; nodata is transparent."""
    import numpy as np
    from PIL import Image

    scale = side_px / max(window.width, window.height)
    pixels = scene.read(window, (max(1, round(window.height * scale)), max(1, round(window.width * scale))))
    alpha = np.where(pixels.valid, 255, 0).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels.rgb, alpha]))


def data_uri(picture: Image) -> str:
    """A picture as a WebP data URI; alpha is kept."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=74, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def chip_pictures(
    matches: Iterable[Match], side_px: int, reach: Reach = PUBLIC
) -> tuple[dict[str, Image], tuple[Unread, ...]]:
    """The chips of matches, by chip id; every scene is opened once.

    Args:
        matches: In any order; a chip that occurs twice is read once.
        side_px: Longer side of each picture.
        reach: Where the scenes may lie.
    """
    pictures: dict[str, Image] = {}
    unread: list[Unread] = []
    for scene, windows in _by_scene(matches).items():
        try:
            with open_again(scene, reach) as opened:
                pictures |= {name: thumbnail(opened, window, side_px) for name, window in windows.items()}
        except (SceneError, SourceError) as error:
            unread.append(Unread(scene.name, str(error)))
    return pictures, tuple(unread)


def open_again(scene: SceneInfo, reach: Reach) -> Scene:
    """Open a scene of the archive for its pictures, where it may be read.

    Raises:
        SceneChangedError: Its size is not what it was, so its chips lie elsewhere now.
        SceneError, SourceError: See open_scene.
    """
    from geoglot.imagery.addresses import Source
    from geoglot.imagery.scene import open_scene

    opened = open_scene(Source(scene.uri, scene.acquired, scene.sensor), reach=reach)
    if (opened.info.width, opened.info.height) != (scene.width, scene.height):
        opened.close()
        raise SceneChangedError(
            f"{scene.uri!r} was {scene.width} x {scene.height} pixels when it was indexed", hint="Index it again."
        )
    return opened


def _by_scene(matches: Iterable[Match]) -> dict[SceneInfo, dict[str, Window]]:
    groups: dict[SceneInfo, dict[str, Window]] = {}
    for match in matches:
        groups.setdefault(match.scene, {})[match.chip.chip_id] = match.chip.window
    return groups


def contact_sheet(
    path: Path | str, sections: Sequence[Section], *, columns: int = 5, side_px: int = 200, reach: Reach = PUBLIC
) -> tuple[Unread, ...]:
    """Write a PNG (or any format Pillow knows by suffix) with the chips of each section, captioned.

    Each chip carries its rank, confidence, scene and date. The built-in font knows Latin letters only: a title in
    another script is drawn as its number.

    Args:
        path: The picture to write.
        sections: What to draw, top to bottom; one without matches says so.
        columns: Chips per row.
        side_px: Side of a chip on the sheet.
        reach: Where the scenes may lie.

    Returns:
        Scenes that could not be read; their chips are empty frames.

    Raises:
        UsageError: The suffix is not a picture format.
        StorageError: The file cannot be written.
    """
    from PIL import Image, ImageDraw

    pictures, unread = chip_pictures((m for s in sections for m in s.matches), side_px, reach)
    widest = max((len(s.matches) for s in sections), default=1)
    columns = max(2, min(columns, widest))
    width = 2 * MARGIN_PX + columns * side_px + (columns - 1) * GAP_PX
    heights = [_section_height(section, columns, side_px) for section in sections]
    sheet = Image.new("RGB", (width, 2 * MARGIN_PX + sum(heights)), INK)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN_PX
    for number, (section, height) in enumerate(zip(sections, heights, strict=True), start=1):
        _draw_heading(draw, top, latin(section.title) or f"Question {number}", section)
        for place, match in enumerate(section.matches):
            row, column = divmod(place, columns)
            x = MARGIN_PX + column * (side_px + GAP_PX)
            y = top + HEADING_PX + row * (side_px + CAPTION_PX)
            _draw_chip(sheet, draw, (x, y), side_px, match, pictures.get(match.chip.chip_id))
        top += height
    _save(sheet, Path(path))
    return unread


def _section_height(section: Section, columns: int, side_px: int) -> int:
    rows = -(-len(section.matches) // columns)
    return HEADING_PX + rows * (side_px + CAPTION_PX) + (GAP_PX if rows else 0)


def _draw_heading(draw: ImageDraw, top: int, title: str, section: Section) -> None:
    from PIL import ImageFont

    draw.text((MARGIN_PX, top), title, fill=PAPER, font=ImageFont.load_default(size=22))
    count = len(section.matches)
    note = "1 place" if count == 1 else f"{count} places"
    if section.nothing_matches or not count:
        note = "nothing matches; the nearest misses" if count else "nothing matches"
    x = MARGIN_PX + draw.textlength(title, font=ImageFont.load_default(size=22)) + GAP_PX
    draw.text((x, top + 7), note, fill=MUTED, font=ImageFont.load_default(size=14))


def _draw_chip(
    sheet: Image, draw: ImageDraw, corner: tuple[int, int], side_px: int, match: Match, picture: Image | None
) -> None:
    from PIL import ImageFont

    x, y = corner
    draw.rectangle((x, y, x + side_px - 1, y + side_px - 1), fill=FRAME)
    if picture is not None:
        sheet.paste(picture, (x + (side_px - picture.width) // 2, y + (side_px - picture.height) // 2), picture)
    else:
        draw.text((x + 12, y + 12), "scene cannot be read", fill=MUTED, font=ImageFont.load_default(size=13))
    bold, small = ImageFont.load_default(size=16), ImageFont.load_default(size=12)
    likely = f"score {match.score:.2f}" if match.confidence is None else f"{match.confidence:.0%}"
    draw.text((x, y + side_px + 5), f"{match.rank}", fill=ACCENT, font=bold)
    draw.text((x + side_px, y + side_px + 5), likely, fill=PAPER, font=bold, anchor="ra")
    date = f"{match.scene.acquired:%Y-%m-%d}" if match.scene.acquired else "no date"
    line = _shorten(draw, f"{latin(match.scene.name) or match.scene.scene_id}  {date}", side_px)
    draw.text((x, y + side_px + 28), line, fill=MUTED, font=small)


def _shorten(draw: ImageDraw, text: str, width: int) -> str:
    """Cut letters out of the middle until the text fits: a scene's name tells most at its two ends."""
    from PIL import ImageFont

    font, short = ImageFont.load_default(size=12), text
    keep = len(text)
    while draw.textlength(short, font=font) > width and keep > 4:
        keep -= 1
        short = f"{text[: keep // 2]}...{text[-(keep - keep // 2) :]}"
    return short


def latin(text: str) -> str:
    """The text without accents, or an empty string if it is in a script the built-in font lacks."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain if plain.isascii() else ""


def _save(sheet: Image, path: Path) -> None:
    try:
        sheet.save(path)
    except ValueError as error:
        raise UsageError(
            f"{path.name!r} is not a picture's name: {error}", hint="End it in .png, .jpg or .webp."
        ) from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="Choose another file.") from error
