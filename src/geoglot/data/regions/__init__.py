"""Regions: boxes and polygons in images, each with a category or a text; one schema, whatever layout they lie in."""

from geoglot.data.regions.open import open_regions
from geoglot.data.regions.schema import Region, RegionRecord, RegionSet, RegionSource

__all__ = ["Region", "RegionRecord", "RegionSet", "RegionSource", "open_regions"]
