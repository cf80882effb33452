"""Run stac-api-validator against a server without reaching for the network: STAC's schemas come from pystac.

    python -m venv VENV && VENV/bin/pip install stac-api-validator
    VENV/bin/python tools/check_stac_api.py http://127.0.0.1:8080/ COLLECTION

Checks the conformance classes that the server claims. The box that is searched lies around the collection's items.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pystac.validation
import requests
from requests.adapters import BaseAdapter
from stac_api_validator.__main__ import main

CLASSES = ("core", "collections", "features", "item-search")
SCHEMAS = Path(pystac.validation.__file__).parent / "jsonschemas"


class Bundled(BaseAdapter):
    """Answers requests for schemas from pystac's copies."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """See requests."""
        parts = str(request.url).split("/")
        folder = SCHEMAS / ("geojson" if "geojson.org" in parts else f"stac-spec/{parts[3]}")
        reply = requests.Response()
        reply.url, reply.status_code = str(request.url), 200
        reply._content = (folder / parts[-1]).read_bytes()
        return reply

    def close(self) -> None:
        """See requests."""


def _with_schemas(make: Any) -> Any:
    def init(session: requests.Session) -> None:
        make(session)
        for place in ("https://schemas.stacspec.org/", "https://geojson.org/schema/", "http://geojson.org/schema/"):
            session.mount(place, Bundled())

    return init


if __name__ == "__main__":
    root, collection = sys.argv[1:]
    requests.Session.__init__ = _with_schemas(requests.Session.__init__)  # type: ignore[method-assign]
    box = requests.get(f"{root}collections/{collection}", timeout=30).json()["extent"]["spatial"]["bbox"][0]
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    words = ["--root-url", root, "--collection", collection]
    words += ["--geometry", json.dumps({"type": "Polygon", "coordinates": [ring]})]
    main([*words, *(word for name in CLASSES for word in ("--conformance", name))])
