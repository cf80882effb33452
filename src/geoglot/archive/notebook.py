"""A search result as HTML for a notebook: a line of facts, and a picture of each match with its caption."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from geoglot.archive.pictures import chip_pictures, data_uri

if TYPE_CHECKING:
    from PIL.Image import Image

    from geoglot.archive.answers import SearchResult
    from geoglot.types import Match

SHOWN = 24
"""Most matches with a picture; a picture is about 5 kB of the notebook."""
SIDE_PX = 144


def result_html(result: SearchResult) -> str:
    """HTML without scripts; every text of the archive is escaped. Reads the chips of the first matches again."""
    shown = result.matches[:SHOWN]
    pictures, unread = chip_pictures(shown, SIDE_PX)
    figures = "".join(_figure(match, pictures.get(match.chip.chip_id)) for match in shown)
    notes = "".join(f"<div>{escape(each.scene)} cannot be read: {escape(each.reason)}</div>" for each in unread)
    return f'<div><p>{escape(_facts(result))}</p><div style="display:flex;flex-wrap:wrap">{figures}</div>{notes}</div>'


def _facts(result: SearchResult) -> str:
    count = len(result.matches)
    places = "1 match" if count == 1 else f"{count} matches"
    verdict = "Nothing matches; these are the nearest misses. " if result.nothing_matches and count else ""
    hidden = f", the first {SHOWN} shown" if count > SHOWN else ""
    return f"{verdict}{places}{hidden}, of {result.total:,} chips, in {result.elapsed_s:.2f} s ({result.path})"


def _figure(match: Match, picture: Image | None) -> str:
    likely = f"score {match.score:.2f}" if match.confidence is None else f"{match.confidence:.0%}"
    date = f"{match.scene.acquired:%Y-%m-%d}" if match.scene.acquired else "no date"
    image = f'<img src="{data_uri(picture)}" alt="">' if picture else "<i>no picture</i>"
    caption = f"<b>{match.rank}</b> {likely}<br>{escape(match.scene.name)}<br>{date}"
    style = f"width:{SIDE_PX}px;margin:4px;font-size:12px;overflow-wrap:anywhere"
    return f'<figure style="{style}">{image}<figcaption>{caption}</figcaption></figure>'
