"""geoglot: talk to Earth-observation imagery.

The public face is lazy (PEP 562): `import geoglot` imports neither torch nor rasterio nor onnxruntime. Type checkers
and editors see the same names under TYPE_CHECKING.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoglot.version import __version__ as __version__

if TYPE_CHECKING:
    from geoglot.api import classify, evaluate, index, list_models, localize, search, segment, train
    from geoglot.archive.answers import SearchResult
    from geoglot.archive.archive import Archive
    from geoglot.archive.filters import Filter
    from geoglot.archive.ingest import ingest
    from geoglot.errors import GeoglotError
    from geoglot.imagery.grid import ChipGrid
    from geoglot.imagery.scene import open_scene
    from geoglot.imagery.sources import find_sources
    from geoglot.models.card import Card
    from geoglot.models.encoder import DenseEncoder, DualEncoder
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.install import pull
    from geoglot.tasks.localize.localizer import LocalizeSettings
    from geoglot.tasks.results import Localization, Segmentation
    from geoglot.tasks.segment.windows import SegmentSettings
    from geoglot.types import Bbox, Chip, Match, SceneInfo, TimeRange, Window

_PUBLIC = {
    "Archive": "geoglot.archive.archive",
    "Bbox": "geoglot.types",
    "Card": "geoglot.models.card",
    "Chip": "geoglot.types",
    "ChipGrid": "geoglot.imagery.grid",
    "DenseEncoder": "geoglot.models.encoder",
    "DualEncoder": "geoglot.models.encoder",
    "Filter": "geoglot.archive.filters",
    "GeoglotError": "geoglot.errors",
    "Localization": "geoglot.tasks.results",
    "LocalizeSettings": "geoglot.tasks.localize.localizer",
    "Match": "geoglot.types",
    "SceneInfo": "geoglot.types",
    "SearchResult": "geoglot.archive.answers",
    "SegmentSettings": "geoglot.tasks.segment.windows",
    "Segmentation": "geoglot.tasks.results",
    "TimeRange": "geoglot.types",
    "Window": "geoglot.types",
    "classify": "geoglot.api",
    "evaluate": "geoglot.api",
    "find_sources": "geoglot.imagery.sources",
    "index": "geoglot.api",
    "ingest": "geoglot.archive.ingest",
    "list_models": "geoglot.api",
    "load_encoder": "geoglot.models.load",
    "localize": "geoglot.api",
    "open_scene": "geoglot.imagery.scene",
    "pull": "geoglot.models.zoo.install",
    "search": "geoglot.api",
    "segment": "geoglot.api",
    "train": "geoglot.api",
}

__all__ = [
    "Archive", "Bbox", "Card", "Chip", "ChipGrid", "DenseEncoder", "DualEncoder", "Filter", "GeoglotError",
    "Localization", "LocalizeSettings", "Match", "SceneInfo", "SearchResult", "SegmentSettings", "Segmentation",
    "TimeRange", "Window", "__version__", "classify", "evaluate", "find_sources", "index", "ingest", "list_models",
    "load_encoder", "localize", "open_scene", "pull", "search", "segment", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'geoglot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
