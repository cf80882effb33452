"""Matches as HTML for a notebook: a heading, and a picture of each match with its caption."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from geoglot.archive.pictures import chip_pictures, data_uri

if TYPE_CHECKING:
    from PIL.Image import Image

    from geoglot.types import Match

SHOWN = 24
"""Most matches with a picture; a picture is about 5 kB of the notebook."""
SIDE_PX = 144


def matches_html(matches: Sequence[Match], heading: str) -> str:
    """HTML without scripts; every text of the archive is escaped. Reads the chips of the first matches again."""
    shown = matches[:SHOWN]
    pictures, unread = chip_pictures(shown, SIDE_PX)
    figures = "".join(_figure(match, pictures.get(match.chip.chip_id)) for match in shown)
    notes = [f"{each.scene} cannot be read: {each.reason}" for each in unread]
    notes += [f"The first {SHOWN} are shown."] if len(matches) > SHOWN else []
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f'<div><p>{escape(heading)}</p><div style="display:flex;flex-wrap:wrap">{figures}</div>{below}</div>'


def _figure(match: Match, picture: Image | None) -> str:
    likely = f"score {match.score:.2f}" if match.confidence is None else f"{match.confidence:.0%}"
    date = f"{match.scene.acquired:%Y-%m-%d}" if match.scene.acquired else "no date"
    image = f'<img src="{data_uri(picture)}" alt="">' if picture else "<i>no picture</i>"
    caption = f"<b>{match.rank}</b> {likely}<br>{escape(match.scene.name)}<br>{date}"
    style = f"width:{SIDE_PX}px;margin:4px;font-size:12px;overflow-wrap:anywhere"
    return f'<figure style="{style}">{image}<figcaption>{caption}</figcaption></figure>'
