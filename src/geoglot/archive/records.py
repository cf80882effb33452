"""Scenes as plain JSON values, for the store's `scenes` table and the snapshot's `scenes.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from geoglot.types import Bbox, Ring, SceneInfo


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A scene that is wholly in the archive.

    Attributes:
        info: The scene.
        chips: How many chips it has; 0 when all were empty.
        ingested: When it was committed, UTC.
        token: Written into each of its chips too: chips with another token are leftovers and not visible.
    """

    info: SceneInfo
    chips: int
    ingested: datetime
    token: str = ""


def info_to_json(info: SceneInfo) -> dict[str, Any]:
    """Plain values; floats keep all their digits."""
    raw = asdict(info)
    raw["bbox_lonlat"] = info.bbox_lonlat.lonlat if info.bbox_lonlat else None
    raw["acquired"] = info.acquired.isoformat() if info.acquired else None
    return raw


def info_from_json(raw: dict[str, Any]) -> SceneInfo:
    """Inverse of info_to_json.

    Raises:
        KeyError, TypeError, ValueError: The values are not those of a scene; the caller knows which file is damaged.
    """
    return SceneInfo(
        **{
            **raw,
            "bbox_lonlat": Bbox(*raw["bbox_lonlat"]) if raw["bbox_lonlat"] else None,
            "footprint_lonlat": tuple(_ring(ring) for ring in raw["footprint_lonlat"]),
            "acquired": _utc(raw["acquired"]) if raw["acquired"] else None,
        }
    )


def _ring(points: list[list[float]]) -> Ring:
    return tuple((float(lon), float(lat)) for lon, lat in points)


def _utc(text: str) -> datetime:
    stamp = datetime.fromisoformat(text)
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).astimezone(UTC)
