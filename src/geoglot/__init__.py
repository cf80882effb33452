"""geoglot: talk to Earth-observation imagery.

The public face is lazy (PEP 562): `import geoglot` imports neither torch nor rasterio nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Archive": "geoglot.archive.archive",
    "Bbox": "geoglot.types",
    "Chip": "geoglot.types",
    "ChipGrid": "geoglot.imagery.grid",
    "DualEncoder": "geoglot.models.encoder",
    "Filter": "geoglot.archive.filters",
    "GeoglotError": "geoglot.errors",
    "Match": "geoglot.types",
    "SceneInfo": "geoglot.types",
    "TimeRange": "geoglot.types",
    "Window": "geoglot.types",
    "find_sources": "geoglot.imagery.sources",
    "ingest": "geoglot.archive.ingest",
    "load_encoder": "geoglot.models.load",
    "open_scene": "geoglot.imagery.scene",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'geoglot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
