"""When a raster was taken and by what, read from its tags and its name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

ACQUISITION_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "ACQUISITION_DATE", "DATE_ACQUIRED")
SENSOR_TAGS = ("SENSOR", "SATELLITEID", "PLATFORM", "SPACECRAFT_ID", "SENSOR_ID", "MISSION")
WRITTEN_TAG = "TIFFTAG_DATETIME"

_YEAR = r"(?:19[7-9]\d|20\d\d)"
_DAY_IN_NAME = re.compile(
    rf"(?<!\d)({_YEAR})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:[T_]?([01]\d|2[0-3])([0-5]\d)([0-5]\d))?(?!\d)",
    re.IGNORECASE,
)
_MONTH_IN_NAME = re.compile(rf"(?<!\d)({_YEAR})-?(0[1-9]|1[0-2])(?!\d)")
_YEAR_AS_NAME = re.compile(_YEAR)
_TIFF_STAMP = re.compile(r"(\d{4})[:/](\d{2})[:/](\d{2})")


def date_of(tags: Mapping[str, str], stem: str) -> datetime | None:
    """When the raster was taken, UTC.

    Order: acquisition tags; the file's name; the TIFF DateTime tag last, because it says when the file was written.

    Args:
        tags: Upper-case names to values.
        stem: File name without suffix.
    """
    for name in ACQUISITION_TAGS:
        if stamp := _parse_stamp(tags.get(name, "")):
            return stamp
    return date_in_name(stem) or _parse_stamp(tags.get(WRITTEN_TAG, ""))


def date_in_name(stem: str) -> datetime | None:
    """The first date in a file name: `..._20090818`, `2023-09-14`, `20230914T020651`, `_202309_`, or a name `2015`.

    A month stands for its first day, a year for its first of January.
    """
    for match in _DAY_IN_NAME.finditer(stem):
        year, _, month, day, *clock = match.groups()
        if stamp := _moment(year, month, day, *(part or "0" for part in clock)):
            return stamp
    if month_match := _MONTH_IN_NAME.search(stem):
        return _moment(month_match[1], month_match[2], "1")
    if _YEAR_AS_NAME.fullmatch(stem):
        return _moment(stem, "1", "1")
    return None


def _moment(*parts: str) -> datetime | None:
    year, month, day, hour, minute, second = (*(int(part) for part in parts), 0, 0, 0)[:6]
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # 31 February: digits that only look like a date
        return None


def _parse_stamp(text: str) -> datetime | None:
    """ISO 8601 or TIFF's `YYYY:MM:DD HH:MM:SS`; None for anything else, e.g. the `0000:00:00` of some writers."""
    try:
        stamp = datetime.fromisoformat(_TIFF_STAMP.sub(r"\1-\2-\3", text.strip()))
    except ValueError:
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).astimezone(UTC)


@cache
def _sensors() -> tuple[tuple[str, re.Pattern[str]], ...]:
    table = tomllib.loads((files("geoglot.imagery") / "sensors.toml").read_text("utf-8"))
    return tuple((row["name"], re.compile(row["pattern"], re.IGNORECASE)) for row in table["sensor"])


def known_sensor(text: str) -> str | None:
    """The sensor that a name stands for, e.g. `S2A_MSIL2A_...` -> `sentinel-2`; None if no pattern matches."""
    return next((name for name, pattern in _sensors() if pattern.search(text)), None)


def sensor_of(tags: Mapping[str, str], name: str, folder: str) -> str | None:
    """The sensor from tags, else the file's name, else the name of the folder that holds it."""
    for tag in SENSOR_TAGS:
        if value := tags.get(tag, "").strip():
            return known_sensor(value) or value.lower()
    return known_sensor(name) or known_sensor(folder)
