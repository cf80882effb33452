"""STAC documents as lists of sources: items, collections and catalogues, from a file or a URL."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from geoglot.errors import OutOfReachError, SourceError
from geoglot.imagery.addresses import SUFFIXES, Source
from geoglot.imagery.provenance import known_sensor
from geoglot.imagery.reach import Reach, is_url
from geoglot.imagery.remote import DOCUMENT_BYTES, ask

if TYPE_CHECKING:
    import pystac
    from pystac.stac_io import StacIO

MEDIA_TYPES = ("image/tiff", "image/jp2", "image/png", "image/jpeg", "image/webp", "image/vnd.stac.geotiff")
SIDE_ROLES = frozenset({"thumbnail", "overview", "metadata", "labels", "mask", "data-mask"})


def sources_of(href: str, reach: Reach) -> list[Source]:
    """All scenes of a STAC item, collection, catalogue or item collection.

    One asset per item is taken: role "visual" first, then role "data", then any raster asset that is no thumbnail.

    What it links to is held to the reach like itself. A document that came over http names no local files, unless
    they lie below a root; one from a folder names none outside it.

    Raises:
        OutOfReachError: It, or a link in it, leads where nothing may be read.
        SourceError: Not reachable, not JSON, not STAC, or a link in it is broken.
    """
    from pystac.errors import STACError, STACTypeError

    try:
        return list(_walk(href, reach))
    except OSError as error:
        raise SourceError(f"cannot read {href!r}: {error}", hint="Check the address and its links.") from error
    except (STACError, STACTypeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.__cause__ or error.__context__
        if isinstance(reason, OutOfReachError | SourceError):  # a link in it was refused
            raise reason from error
        raise SourceError(
            f"{href!r} is not a STAC document that can be read: {error or type(error).__name__}",
            hint="Give a STAC item, collection or catalogue, or a raster.",
        ) from error


def _walk(href: str, reach: Reach) -> Iterator[Source]:
    import pystac

    bounds = _Bounds(href, reach)
    reader = _reader(bounds)
    document = reader.read_json(href)
    if document.get("type") == "FeatureCollection":
        for feature in document["features"]:
            yield from _of_item(pystac.Item.from_dict(feature, href=href), bounds)
        return
    if "stac_version" not in document:
        raise SourceError(f"{href!r} has no stac_version: it is not STAC", hint="Give a STAC document or a raster.")
    node = pystac.read_file(href, stac_io=reader)
    if isinstance(node, pystac.Item):
        yield from _of_item(node, bounds)
    elif isinstance(node, pystac.Catalog):
        for item in node.get_items(recursive=True):
            yield from _of_item(item, bounds)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Where the links of a document may lead.

    Attributes:
        document: What was asked for.
        reach: What may be read.
    """

    document: str
    reach: Reach

    def check(self, href: str) -> None:
        """Refuse a local file that the document has no business to name. Servers are checked when they are asked."""
        if is_url(href):
            return
        if is_url(self.document) and not self.reach.roots:
            raise OutOfReachError(
                f"{self.document!r} came over the network and names a file of this machine, {href!r}",
                hint="If that is meant, allow its folder: --root FOLDER",
            )
        self.reach.check_file(href, home=Path(self.document).parent)


def _reader(bounds: _Bounds) -> StacIO:
    """Reads documents within bounds."""
    from pystac.stac_io import DefaultStacIO

    class Reader(DefaultStacIO):
        def read_text_from_href(self, href: str) -> str:
            place = _local_or_url(href)
            bounds.check(place)
            return ask(place, bounds.reach).body.decode("utf-8") if is_url(place) else _text(Path(place))

    return Reader()


def _text(path: Path) -> str:
    if not path.is_file():
        raise SourceError(f"{str(path)!r} is no file", hint="Check the address and its links.")
    if path.stat().st_size > DOCUMENT_BYTES:
        raise SourceError(f"{str(path)!r} is larger than {DOCUMENT_BYTES:,} bytes", hint="Is it a STAC document?")
    return path.read_text("utf-8")


def _of_item(item: pystac.Item, bounds: _Bounds) -> Iterator[Source]:
    asset = _best_asset(item)
    if asset is None:
        return
    href = asset.get_absolute_href()
    if href is None:
        raise SourceError(f"item {item.id!r}: asset {asset.href!r} cannot be resolved", hint="Make its link absolute.")
    place = _local_or_url(href)
    bounds.check(place)
    yield Source(place, _acquired(item), _sensor(item), item.collection_id)


def _best_asset(item: pystac.Item) -> pystac.Asset | None:
    def rank(entry: tuple[str, pystac.Asset]) -> tuple[int, str]:
        roles = set(entry[1].roles or ())
        return (0 if "visual" in roles or entry[0] == "visual" else 1 if "data" in roles else 2, entry[0])

    rasters = [
        (key, asset)
        for key, asset in item.assets.items()
        if _is_raster(asset) and not SIDE_ROLES & set(asset.roles or ())
    ]
    return min(rasters, key=rank)[1] if rasters else None


def _is_raster(asset: pystac.Asset) -> bool:
    if asset.media_type:
        return asset.media_type.split(";")[0].strip().lower() in MEDIA_TYPES
    return Path(urllib.parse.urlsplit(asset.href).path).suffix.lower() in SUFFIXES


def _local_or_url(href: str) -> str:
    if is_url(href):
        return href
    if href.startswith("file:"):
        href = urllib.parse.unquote(urllib.parse.urlsplit(href).path)
    elif "://" in href:
        raise SourceError(f"asset {href!r}: only files and http(s) can be read", hint="Sign or mirror it over https.")
    return str(Path(href).resolve())


def _acquired(item: pystac.Item) -> datetime | None:
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _sensor(item: pystac.Item) -> str | None:
    properties = item.properties
    instruments = properties.get("instruments") or [None]
    for name in (properties.get("platform"), properties.get("constellation"), instruments[0]):
        if isinstance(name, str) and name.strip():
            return known_sensor(name) or name.strip().lower()
    return None
