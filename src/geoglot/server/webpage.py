"""The map page's files, and the policy that holds a browser to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from geoglot.errors import UsageError

PAGE = Path(__file__).parent / "page"
"""Where the wheel has the map page."""


@dataclass(frozen=True, slots=True)
class Basemap:
    """A map from elsewhere below the scenes: the only thing that a browser may fetch from another server.

    Attributes:
        url: Template of its squares, with {z}, {x} and {y}.
        credit: Whom its licence asks to name; shown on the map.

    Raises:
        UsageError: The template is none, or nobody is named.
    """

    url: str
    credit: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        plain = not any(sign in self.url for sign in " \t\r\n;,'\"<>\\")
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain or "{" in parts.netloc:
            raise UsageError(f"basemap {self.url!r} is no address", hint="https://tiles.example.org/{z}/{x}/{y}.png")
        missing = [name for name in ("{z}", "{x}", "{y}") if name not in self.url]
        if missing:
            raise UsageError(
                f"basemap {self.url!r} lacks {' and '.join(missing)}", hint="https://tiles.example.org/{z}/{x}/{y}.png"
            )
        if not self.credit.strip():
            raise UsageError("the basemap has no credit", hint="Name whom its licence asks for: --basemap-credit")

    @property
    def origin(self) -> str:
        """Scheme, name and port, as content security policies write them."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def has_page(folder: Path | None) -> bool:
    """Whether there is a map page to show."""
    return folder is not None and (folder / "index.html").is_file()


def policy(basemap: Basemap | None) -> str:
    """The content security policy: nothing but this server, and the basemap's if there is one."""
    elsewhere = f" {basemap.origin}" if basemap else ""
    return "; ".join(
        (
            "default-src 'self'",
            f"connect-src 'self'{elsewhere}",
            f"img-src 'self' data: blob:{elsewhere}",
            "style-src 'self' 'unsafe-inline'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )


class PageFiles(StaticFiles):
    """The page's files, each with the policy."""

    def __init__(self, folder: Path, basemap: Basemap | None) -> None:
        super().__init__(directory=str(folder), html=True)
        self._policy = policy(basemap)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See StaticFiles."""
        response = await super().get_response(path, scope)
        response.headers["Content-Security-Policy"] = self._policy
        return response


def page_settings(title: str, basemap: Basemap | None) -> dict[str, Any]:
    """Settings that the page asks for when it opens."""
    told = {"url": basemap.url, "credit": basemap.credit} if basemap else None
    return {"title": title, "basemap": told}
