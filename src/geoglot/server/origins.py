"""Pages of other origins: what a browser does in somebody's name without being asked to."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from geoglot.errors import NotAllowedError
from geoglot.server.settings import Settings


def check_origin(headers: Headers, settings: Settings) -> None:
    """Refuse what a page of another origin sends, unless `--cors` names it; links that people follow stay.

    Browsers say where a request comes from in `Origin` and `Sec-Fetch-Site`; programs send neither.

    Raises:
        NotAllowedError: It comes from elsewhere.
    """
    if "*" in settings.cors:
        return
    origin = headers.get("origin")
    if origin is not None:
        if origin not in settings.cors and not _is_here(origin, headers, settings):
            raise _refused(origin)
        return
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site") and not followed:
        raise _refused("another origin")


def _is_here(origin: str, headers: Headers, settings: Settings) -> bool:
    """By the public address where there is one, else by the name that the request calls the server by."""
    parts = urlsplit(origin)
    if settings.public_url:
        public = urlsplit(settings.public_url)
        if (parts.scheme, parts.netloc.lower()) == (public.scheme, public.netloc.lower()):
            return True
    return bool(parts.netloc) and parts.netloc.lower() == headers.get("host", "").lower()


def _refused(origin: str) -> NotAllowedError:
    return NotAllowedError(
        f"pages of {origin[:80]!r} may not ask this server",
        hint="The operator may allow it: geoglot serve --cors ORIGIN",
    )
