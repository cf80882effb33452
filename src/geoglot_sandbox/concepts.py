"""The classes that the sandbox knows, numbered for masks. Ids are English singular nouns, as in the glossary."""

from __future__ import annotations

CONCEPTS: tuple[str, ...] = (
    "other",
    # land cover
    "sea", "river", "lake", "pond", "beach", "island", "forest", "sparse_forest", "tree", "chaparral", "farmland",
    "circular_farmland", "meadow", "desert", "bare_land", "park",
    # land use
    "dense_residential", "medium_residential", "sparse_residential", "mobile_home_park", "industrial", "commercial",
    "airport", "harbor", "golf_course", "parking_lot", "solar_farm",
    # ways
    "road", "intersection", "roundabout", "freeway", "overpass", "bridge", "railway", "runway", "pier",
    # objects
    "house", "building", "warehouse", "mobile_home", "storage_tank", "greenhouse", "swimming_pool", "wind_turbine",
    "tennis_court", "basketball_court", "baseball_field", "football_field", "running_track", "airplane", "ship", "car",
)  # fmt: skip
"""Position = value in a semantic mask; 0 is ground that has no name."""

NUMBER: dict[str, int] = {name: index for index, name in enumerate(CONCEPTS)}
