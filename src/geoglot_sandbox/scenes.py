"""The pictures that are taken of the country: where, when, by which sensor, in which coordinate system."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from geoglot_sandbox.materials import Style
from geoglot_sandbox.painter import Sun
from geoglot_sandbox.plan import DISTRICT_M
from geoglot_sandbox.sensors import Look

UTM = "EPSG:32710"
"""UTM zone 10 south: the country lies in the open ocean near the point that is farthest from any land."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """A camera.

    Attributes:
        platform: Name in catalogues; begins with "sandbox-".
        gsd_m: Metres per pixel.
        bands: Names in file order, out of red, green, blue, nir, swir.
        dtype: uint8 (display colours) or uint16 (reflectance x 10000).
        look: What it does to a picture.
    """

    platform: str
    gsd_m: float
    bands: tuple[str, ...]
    dtype: str
    look: Look


AERIAL = Sensor("sandbox-aerial", 0.3, ("red", "green", "blue"), "uint8", Look(gain=(1.02, 1.0, 0.97), noise=2.0))
DRONE = Sensor(
    "sandbox-drone",
    0.1,
    ("red", "green", "blue"),
    "uint8",
    Look(gain=(1.06, 1.02, 0.98), haze=0.0, blur_px=0.7, noise=2.5),
)
SATELLITE = Sensor(
    "sandbox-satellite", 1.5, ("red", "green", "blue", "nir"), "uint16", Look(haze=0.06, blur_px=0.5, noise=25)
)
WIDE = Sensor(
    "sandbox-multispectral",
    10.0,
    ("blue", "green", "red", "nir", "swir"),
    "uint16",
    Look(haze=0.05, blur_px=0.4, noise=30),
)


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """One picture.

    Attributes:
        name: File name without ending.
        sensor: Who took it.
        centre: World metres.
        size_px: Width and height.
        acquired: UTC.
        sun: Where light came from.
        drought: 0 wet season .. 1 dry season.
        crs: Authority code of the file.
    """

    name: str
    sensor: Sensor
    centre: tuple[float, float]
    size_px: tuple[int, int]
    acquired: datetime
    sun: Sun
    drought: float
    crs: str = UTM

    @property
    def style(self) -> Style:
        """Colours of the country on that day."""
        return Style(drought=self.drought)


def _scene(
    name: str,
    sensor: Sensor,
    column: float,
    row: float,
    size: tuple[int, int],
    date: str,
    drought: float,
    crs: str = UTM,
) -> SceneSpec:
    """Centre in districts; the sun stands in the north and higher in the southern summer."""
    acquired = datetime.fromisoformat(date).replace(tzinfo=UTC)
    summer = abs(6.5 - acquired.month) / 6
    sun = Sun(azimuth=(330 + 5 * acquired.day) % 360, elevation=32 + 26 * summer)
    return SceneSpec(name, sensor, (column * DISTRICT_M, row * DISTRICT_M), size, acquired, sun, drought, crs)


SCENES: tuple[SceneSpec, ...] = (
    _scene("marina", AERIAL, 4.1, 10.5, (1024, 1024), "2021-01-14T21:10:00", 0.1),
    _scene("docks", AERIAL, 4.6, 7.42, (1024, 1024), "2021-01-14T21:20:00", 0.1),
    _scene("town-centre", AERIAL, 8.0, 9.0, (1024, 1024), "2021-01-14T21:30:00", 0.1),
    _scene("sports-ground", AERIAL, 7.53, 10.58, (1280, 1024), "2021-01-14T21:40:00", 0.1),
    _scene("airport", AERIAL, 16.6, 13.2, (1536, 1024), "2022-11-03T21:15:00", 0.25),
    _scene("tank-farm", AERIAL, 7.5, 6.62, (1024, 1024), "2021-01-14T21:50:00", 0.1),
    _scene("freeway-bridge", AERIAL, 13.0, 9.0, (1024, 1024), "2022-11-03T21:25:00", 0.25),
    _scene("solar-farm", AERIAL, 18.0, 7.55, (1024, 768), "2022-11-03T21:35:00", 0.3, "EPSG:4326"),
    _scene("golf-course", AERIAL, 11.0, 13.5, (1280, 1024), "2022-11-03T21:45:00", 0.15),
    _scene("mobile-homes", DRONE, 9.4, 11.5, (1024, 1024), "2023-03-22T20:05:00", 0.2, "EPSG:3857"),
    _scene("garden-suburb", DRONE, 8.3, 12.3, (1024, 1024), "2023-03-22T20:35:00", 0.15),
    _scene("town-from-space", SATELLITE, 5.6, 9.8, (1024, 1024), "2020-02-11T21:30:00", 0.1),
    _scene("pivots", SATELLITE, 21.0, 4.0, (1024, 1024), "2023-12-02T21:30:00", 0.2),
    _scene("country-summer", WIDE, 9.0, 9.0, (768, 768), "2019-01-20T21:50:00", 0.05),
    _scene("country-autumn", WIDE, 16.0, 9.0, (768, 768), "2024-04-09T21:50:00", 0.55),
)
"""The full set."""

_SMALL = {"marina": 384, "airport": 512, "solar-farm": 384, "mobile-homes": 320, "pivots": 384, "country-summer": 320}


def scene_set(which: str) -> tuple[SceneSpec, ...]:
    """The "full" set, or "small": fewer and smaller windows of the same places, for tests."""
    if which == "full":
        return SCENES
    return tuple(replace(s, size_px=(_SMALL[s.name], _SMALL[s.name])) for s in SCENES if s.name in _SMALL)
