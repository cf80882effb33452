"""Archives as STAC collections and chips as STAC items: documents only, no routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from geoglot.archive.answers import DECIMALS, geometry
from geoglot.archive.archive import Archive, ArchiveInfo
from geoglot.imagery.tiles import zooms
from geoglot.imagery.vectors import Feature, to_geojson
from geoglot.types import Bbox, Chip, Match, SceneInfo

VERSION = "1.1.0"
RANKING = "urn:geoglot:stac-api:1.0.0:ranked-language-search"
CONFORMANCE = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    RANKING,
)
GEOJSON, JSON = "application/geo+json", "application/json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.1"
FIRST_AERIAL = datetime(1858, 1, 1, tzinfo=UTC)
"""Nadar's first photograph from a balloon: where an undated scene's time begins, because STAC wants a beginning."""
TILES = "tiles/WebMercatorQuad"
Doc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """Makes documents whose links begin with `base`, which has no slash at its end."""

    base: str
    title: str

    def link(self, rel: str, path: str, type: str = JSON, **more: Any) -> Doc:
        """A link to a path of this server."""
        return {"rel": rel, "href": self.base + path, "type": type, **more}

    def landing(self, collections: Iterable[str], *, page: bool) -> Doc:
        """The catalogue at the root."""
        links = [
            self.link("self", "/"),
            self.link("root", "/"),
            self.link("conformance", "/conformance"),
            self.link("data", "/collections"),
            self.link("service-desc", "/api", OPENAPI),
            self.link("service-doc", "/api.html", "text/html"),
            self.link("search", "/search", GEOJSON, method="GET"),
            self.link("search", "/search", GEOJSON, method="POST"),
            *(self.link("child", f"/collections/{name}") for name in collections),
        ]
        links += [self.link("preview", "/page/", "text/html")] if page else []
        about = "Archives of satellite and aerial scenes that can be asked in plain words."
        return {
            "type": "Catalog",
            "id": "geoglot",
            "stac_version": VERSION,
            "title": self.title,
            "description": about,
            "conformsTo": list(CONFORMANCE),
            "links": links,
        }

    def collection(self, name: str, archive: Archive, info: ArchiveInfo) -> Doc:
        """An archive."""
        box = info.bbox_lonlat or Bbox(-180, -90, 180, 90)
        times = [_stamp(t) for t in (info.acquired.start, info.acquired.end)] if info.acquired else [None, None]
        here = f"/collections/{name}"
        card = archive.encoder.card if archive.encoder else None
        return {
            "type": "Collection",
            "id": name,
            "stac_version": VERSION,
            "title": name,
            "description": f"{info.chips:,} chips of {info.scenes:,} scenes, to be asked in plain words.",
            "license": "other",
            "extent": {"spatial": {"bbox": [list(box.lonlat)]}, "temporal": {"interval": [times]}},
            "summaries": _summaries(info),
            "geoglot:model": info.manifest.model,
            "geoglot:languages": list(card.languages) if card else [],
            "geoglot:calibrated": archive.calibrated,
            "geoglot:chips": info.chips,
            "geoglot:scenes": info.scenes,
            "geoglot:undated": info.undated,
            "geoglot:unplaced": info.unplaced,
            "geoglot:state": archive.state,
            "links": [
                self.link("self", here),
                self.link("root", "/"),
                self.link("parent", "/"),
                self.link("items", f"{here}/items", GEOJSON),
                self.link("scenes", f"{here}/scenes", GEOJSON),
            ],
        }

    def item(self, name: str, chip: Chip, scene: SceneInfo, ranked: Match | None = None) -> Doc:
        """A chip."""
        home = f"/collections/{name}"
        here = f"{home}/items/{chip.chip_id}"
        item: Doc = {
            "type": "Feature",
            "stac_version": VERSION,
            "stac_extensions": [],
            "id": chip.chip_id,
            "collection": name,
            "geometry": geometry(chip),
            "properties": {**_properties(chip, scene), **(_ranking(ranked) if ranked else {})},
            "assets": {
                "thumbnail": self._asset(f"{here}/thumbnail.webp", "image/webp", "thumbnail"),
                "picture": self._asset(f"{here}/picture.png", "image/png", "visual"),
            },
            "links": [
                self.link("self", here, GEOJSON),
                self.link("collection", home),
                self.link("parent", home),
                self.link("root", "/"),
                self.link("scene", f"{home}/scenes/{scene.scene_id}", GEOJSON, title=scene.name),
                self.link("similar", f"/search?{urlencode({'like': chip.chip_id, 'collections': name})}", GEOJSON),
                *self._layers(name, scene),
            ],
        }
        if chip.bbox_lonlat is not None:
            item["bbox"] = list(chip.bbox_lonlat.lonlat)
        return item

    def _asset(self, path: str, type: str, role: str) -> Doc:
        return {"href": self.base + path, "type": type, "roles": [role]}

    def _layers(self, name: str, scene: SceneInfo) -> list[Doc]:
        if scene.gsd_m is None:
            return []
        here = f"/collections/{name}/scenes/{scene.scene_id}"
        return [
            self.link("tilejson", f"{here}/tilejson.json"),
            self.link("xyz", f"{here}/{TILES}/{{z}}/{{x}}/{{y}}.png", "image/png"),
        ]

    def scene(self, name: str, scene: SceneInfo) -> Doc:
        """A scene, as a GeoJSON feature; where its file lies is not told, unless it is an address."""
        here = f"/collections/{name}/scenes/{scene.scene_id}"
        outline = to_geojson([Feature(scene.footprint_lonlat)])["features"][0]
        return {
            **outline,
            "id": scene.scene_id,
            "properties": {
                "title": scene.name,
                "datetime": _stamp(scene.acquired),
                "platform": scene.sensor,
                "gsd": scene.gsd_m,
                "width": scene.width,
                "height": scene.height,
                "bands": scene.bands,
                "crs": scene.crs,
            },
            "links": [
                self.link("self", here, GEOJSON),
                self.link("collection", f"/collections/{name}"),
                self.link("thumbnail", f"{here}/thumbnail.webp", "image/webp"),
                *self._layers(name, scene),
            ],
        }

    def tilejson(self, path: str, query: Mapping[str, Any], name: str, box: Bbox | None, zoom: tuple[int, int]) -> Doc:
        """TileJSON 3.0.0 (https://github.com/mapbox/tilejson-spec) of the squares under a path."""
        tail = f"?{urlencode(query, doseq=True, quote_via=quote)}" if query else ""
        bounds = [-180.0, -85.0511, 180.0, 85.0511]
        if box is not None and not box.crosses_antimeridian:
            bounds = [box.west, max(box.south, -85.0511), box.east, min(box.north, 85.0511)]
        centre = [(bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2, zoom[0]]
        return {
            "tilejson": "3.0.0",
            "name": name,
            "scheme": "xyz",
            "tiles": [f"{self.base}{path}/{TILES}/{{z}}/{{x}}/{{y}}.png{tail}"],
            "minzoom": zoom[0],
            "maxzoom": zoom[1],
            "bounds": bounds,
            "center": centre,
        }


def scene_zooms(scene: SceneInfo) -> tuple[int, int]:
    """(smallest, largest) zoom of a scene's layer."""
    return zooms(scene.gsd_m or 1.0, scene.width, scene.height)


def _summaries(info: ArchiveInfo) -> Doc:
    found: Doc = {}
    if info.gsd_m:
        found["gsd"] = {"minimum": info.gsd_m[0], "maximum": info.gsd_m[1]}
    if info.sensors:
        found["platform"] = sorted(info.sensors)
    return found


def _properties(chip: Chip, scene: SceneInfo) -> Doc:
    values: Doc = {
        "datetime": _stamp(scene.acquired),
        "title": scene.name,
        "geoglot:scene": scene.scene_id,
        "geoglot:box_px": list(chip.window.box_px),
    }
    if scene.acquired is None:
        tonight = datetime.now(UTC).replace(hour=23, minute=59, second=59, microsecond=0)
        values |= {"start_datetime": _stamp(FIRST_AERIAL), "end_datetime": _stamp(tonight), "geoglot:undated": True}
    if scene.gsd_m is not None:
        values |= {"gsd": scene.gsd_m, "geoglot:ground_m": chip.ground_m}
    if scene.sensor is not None:
        values["platform"] = scene.sensor
    return values


def _ranking(match: Match) -> Doc:
    return {
        "geoglot:rank": match.rank,
        "geoglot:score": round(match.score, DECIMALS),
        "geoglot:confidence": None if match.confidence is None else round(match.confidence, DECIMALS),
        "geoglot:merged": match.merged,
    }


def _stamp(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")
