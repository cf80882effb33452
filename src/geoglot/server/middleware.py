"""Every request passes these checks: host names, keys, and limits of size, pace and time. It is counted and logged."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geoglot.errors import GeoglotError, KeyNeededError, NotAllowedError, TooLargeError, TooManyError
from geoglot.server.connections import site_of
from geoglot.server.errors import answer_error
from geoglot.server.metrics import Metrics
from geoglot.server.origins import check_origin
from geoglot.server.settings import Settings, digest

OPEN_PATHS = frozenset({"/health", "/ready"})
OPEN_FOLDER = "/page/"
"""The map page's own files hold nothing of the archives; the page asks for the key."""
COOKIE = "geoglot_key"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENTS = 10_000
_log = logging.getLogger("geoglot.server.access")


class Pace:
    """Token buckets: `per_min` requests a minute for each client, and as many at once. Safe between threads."""

    def __init__(self, per_min: int) -> None:
        self._per_s = per_min / 60
        self._most = float(per_min)
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, client: str, now: float) -> float:
        """0 when the request may pass, else the seconds until one may."""
        with self._lock:
            if len(self._left) > CLIENTS:
                self._left = {c: v for c, v in self._left.items() if now - v[1] < 60}
            tokens = self._tokens(client, now)
            passes = tokens >= 1
            self._left[client] = (tokens - 1 if passes else tokens, now)
            return 0.0 if passes else (1 - tokens) / self._per_s

    def wait(self, client: str, now: float) -> float:
        """What `take` would say, without taking."""
        with self._lock:
            tokens = self._tokens(client, now)
            return 0.0 if tokens >= 1 else (1 - tokens) / self._per_s

    def _tokens(self, client: str, now: float) -> float:
        tokens, then = self._left.get(client, (self._most, now))
        return min(self._most, tokens + (now - then) * self._per_s)


class Room:
    """Uploads under way, limited in number and in bytes. For one event loop."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._left, self._bytes_left = most, most_bytes

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Room for an upload of so many bytes, until it has been answered.

        Raises:
            TooManyError: There is none now.
        """
        if self._left < 1 or self._bytes_left < size:
            raise TooManyError("too many uploads are under way", hint="Try again in a moment.", retry_s=2)
        self._left -= 1
        self._bytes_left -= size
        try:
            yield
        finally:
            self._left += 1
            self._bytes_left += size


class Gate:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._pace = Pace(settings.rate_per_min) if settings.rate_per_min else None
        self._guesses = Pace(settings.wrong_keys_per_min)
        self._uploads = Room(settings.max_uploads, settings.max_uploads * settings.max_upload // 2)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        scope.setdefault("state", {})["request_id"] = visit.request_id
        self._metrics.busy.inc()
        self._under_way += 1
        try:
            try:
                scope["state"]["owner"] = visit.client = self._admit(scope)
                with self._room_of(scope):
                    await self._app(scope, self._measured(scope, receive), visit.send)
            except GeoglotError as error:
                await answer_error(error, scope)(scope, receive, visit.send)
        finally:
            self._under_way -= 1
            self._metrics.busy.dec()
            self._note(visit)

    def _admit(self, scope: Scope) -> str:
        """Who it is: the digest of its key, or its address."""
        headers = Headers(scope=scope)
        self._check_host(headers.get("host", ""))
        address = (scope.get("client") or ("", 0))[0]
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER) or scope["method"] == "OPTIONS":
            return str(address)
        check_origin(headers, self._settings)
        if self._under_way > self._settings.max_requests:
            raise TooManyError("too many requests are under way", hint="Try again in a moment.")
        key = self._key(headers, site_of(str(address)))
        client = digest(key) if key else str(address)
        if self._pace and (wait_s := self._pace.take(client, time.monotonic())):
            raise TooManyError("too many requests", hint=f"Try again in {wait_s:.0f} s.", retry_s=wait_s)
        self._check_length(scope, headers.get("content-length", "0"))
        return client

    def _check_host(self, host: str) -> None:
        allowed = self._settings.allowed_hosts
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if allowed is not None and name.strip("[]").lower() not in allowed:
            raise NotAllowedError(
                f"this server does not go by the name {name[:80]!r}",
                hint="The operator may name it: geoglot serve --public-url URL",
            )

    def _key(self, headers: Headers, site: str) -> str:
        """The key that was sent, or nothing where none is asked for. Who guesses is let try some times a minute."""
        known = self._settings.api_keys
        if not known:
            return ""
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ") or _cookie(headers)
        if given and (wait_s := self._guesses.wait(site, time.monotonic())):
            raise TooManyError("too many wrong keys", hint=f"Try again in {wait_s:.0f} s.", retry_s=wait_s)
        if not any(hmac.compare_digest(given.encode(), key.encode()) for key in known):
            if given:
                self._guesses.take(site, time.monotonic())
                _log.warning("wrong key", extra={"address": site, "key": digest(given)})
            what = "is not known" if given else "is needed"
            raise KeyNeededError(f"an API key {what}", hint="Send it as X-API-Key, or as a Bearer token.")
        return given

    def _room_of(self, scope: Scope) -> AbstractContextManager[None]:
        """Room for an upload; everything else needs none."""
        if scope["path"] != "/pictures" or scope["method"] != "POST":
            return nullcontext()
        told = Headers(scope=scope).get("content-length", "")
        return self._uploads.take(int(told) if told.isdecimal() else self._settings.max_upload)

    def _limit(self, scope: Scope) -> int:
        return self._settings.max_upload if scope["path"] == "/pictures" else self._settings.max_body

    def _check_length(self, scope: Scope, told: str) -> None:
        if told.isdecimal() and int(told) > self._limit(scope):
            raise _too_large(self._limit(scope))

    def _measured(self, scope: Scope, receive: Receive) -> Receive:
        """The body, cut off when it is too large or too slow. HTTPException is what FastAPI lets through."""
        seen, limit, settings = 0, self._limit(scope), self._settings
        deadline = time.monotonic() + settings.body_s
        ended = False

        async def measured() -> Message:
            nonlocal seen, ended
            if ended:
                return await receive()  # waits for the client to leave
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, f"the body did not arrive within {settings.body_s:.0f} s") from None
            seen += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if seen > limit:
                raise HTTPException(413, str(_too_large(limit)))
            return message

        return measured

    def _note(self, visit: _Visit) -> None:
        elapsed = time.perf_counter() - visit.started
        route = getattr(visit.scope.get("route"), "path", "other")
        method = visit.scope["method"] if visit.scope["method"] in METHODS else "other"
        self._metrics.requests.labels(method, route, str(visit.status or 500)).inc()
        self._metrics.seconds.labels(route).observe(elapsed)
        _log.info(
            "request",
            extra={
                "request": visit.request_id,
                "method": visit.scope["method"],
                "path": visit.scope["path"],
                "status": visit.status or 500,
                "elapsed_ms": round(elapsed * 1000, 2),
                "bytes": visit.bytes,
                "client": visit.client,
            },
        )


class _Visit:
    """One request on its way."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.request_id = secrets.token_hex(8)
        self.started = time.perf_counter()
        self.status = 0
        self.bytes = 0
        self.client = ""
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            headers += [(b"x-request-id", self.request_id.encode()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": headers}
        else:
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {limit:,} bytes", hint="Send less.")


def _cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
