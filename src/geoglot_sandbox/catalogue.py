"""The STAC catalogue of the drawn scenes: relative links, one item per scene, marked as synthetic throughout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pystac
from pystac.layout import TemplateLayoutStrategy
from shapely.geometry import box, mapping

from geoglot_sandbox.rasters import NOTICE, Placement
from geoglot_sandbox.scenes import SceneSpec

COG = pystac.MediaType.COG


def write_catalogue(folder: Path, placed: Sequence[tuple[SceneSpec, Placement]], seed: int) -> Path:
    """Write `catalog.json` and `items/<name>.json` beside the scenes; returns the catalogue's path."""
    catalog = pystac.Catalog(
        "geoglot-sandbox", f"A procedurally drawn country. {NOTICE}", title="geoglot sandbox",
        extra_fields={"geoglot:synthetic": True, "geoglot:seed": seed},
    )  # fmt: skip
    for spec, placement in placed:
        catalog.add_item(_item(folder, spec, placement))
    catalog.normalize_hrefs(str(folder.resolve()), strategy=TemplateLayoutStrategy(item_template="items"))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def _item(folder: Path, spec: SceneSpec, placement: Placement) -> pystac.Item:
    sensor, root = spec.sensor, folder.resolve()
    item = pystac.Item(
        spec.name,
        geometry=mapping(box(*placement.bbox_lonlat)),
        bbox=list(placement.bbox_lonlat),
        datetime=spec.acquired,
        properties={
            "title": spec.name.replace("-", " "),
            "description": NOTICE,
            "platform": sensor.platform,
            "gsd": sensor.gsd_m,
            "proj:code": spec.crs,
            "geoglot:synthetic": True,
        },
    )
    bands = {"bands": [{"name": name, "description": f"synthetic {name}"} for name in sensor.bands]}
    assets: tuple[tuple[str, str, str, list[str], dict[str, Any]], ...] = (
        ("image", f"scenes/{spec.name}.tif", COG, ["data"], bands),
        ("mask", f"truth/{spec.name}.mask.tif", COG, ["labels"], {}),
        ("truth", f"truth/{spec.name}.json", pystac.MediaType.JSON, ["metadata"], {}),
    )
    for key, path, media, roles, extra in assets:
        item.add_asset(
            key,
            pystac.Asset(
                str(root / path), media_type=media, roles=roles, extra_fields={**extra, "geoglot:synthetic": True}
            ),
        )
    return item
