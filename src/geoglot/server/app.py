"""The server put together: routes, gate, errors, background work."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from geoglot.errors import MissingExtraError, UsageError
from geoglot.server import errors
from geoglot.server.archives import ArchivePool
from geoglot.server.context import ServerContext
from geoglot.server.middleware import Gate
from geoglot.server.routes import jobs, operations, pictures, stac
from geoglot.server.settings import Settings
from geoglot.server.webpage import PageFiles, has_page
from geoglot.version import __version__

TIDY_S = 30.0


def create_app(pool: ArchivePool, settings: Settings) -> FastAPI:
    """An ASGI application over some archives.

    Raises:
        StorageError: The state folder cannot be written, or another server uses it.
        UsageError: An API key is empty.
    """
    import rio_tiler.io  # noqa: F401  before any thread: two that import it at the same moment see it half made

    if not all(settings.api_keys):
        raise UsageError("an API key is empty", hint="Leave it out, or give it letters.")
    context = ServerContext(pool, settings)
    app = FastAPI(
        title=settings.title,
        version=__version__,
        description="STAC API with ranked language search over archives of satellite and aerial scenes.",
        lifespan=_lifespan,
        openapi_url=None,  # /api has it
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    for routes in (stac, pictures, jobs, operations):
        app.include_router(routes.router)
    if settings.page is not None and has_page(settings.page):
        app.mount("/page", PageFiles(settings.page, settings.basemap), name="page")
    errors.install(app)
    app.add_middleware(Gate, settings=settings, metrics=context.metrics)
    if settings.cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.cors), **_CORS)
    if settings.proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.proxies))
    return app


_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "DELETE"],
    "allow_headers": ["Content-Type", "X-API-Key", "Authorization"],
    "expose_headers": ["Location", "X-Request-Id", "Retry-After"],
}


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: ServerContext = app.state.context
    context.pool.start(context.settings.follow_s)
    tidying = asyncio.create_task(_tidy(context))
    try:
        yield
    finally:
        tidying.cancel()
        context.closing.set()
        await asyncio.to_thread(context.close)


async def _tidy(context: ServerContext) -> None:
    while True:
        await asyncio.to_thread(context.board.tidy)
        await asyncio.to_thread(_trim)
        await asyncio.sleep(TIDY_S)


def transport_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn is to talk HTTP: guarded connections, no WebSockets, forwarded headers left to `create_app`."""
    from geoglot.server.connections import Book, guarded

    return {
        "http": guarded(Book(settings.proxies), settings.headers_s),
        "ws": "none",
        "proxy_headers": False,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 10,
        "timeout_keep_alive": 30,
        "h11_max_incomplete_event_size": 131_072,
        "backlog": 4096,
    }


def serve(pool: ArchivePool, settings: Settings, host: str, port: int) -> None:
    """Answer until told to stop; then finish what is under way, at most 10 s.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("the server", "serve") from error
    from geoglot.server.connections import raise_file_limit
    from geoglot.server.json_log import log_json

    log_json()
    _return_memory()
    raise_file_limit()
    os.umask(0o077)  # what the server writes is its user's alone
    app = create_app(pool, settings)
    config = uvicorn.Config(app, host=host, port=port, **transport_options(settings))
    closing = app.state.context.closing

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            closing.set()  # streams of progress end, and do not hold up the others
            super().handle_exit(sig, frame)

    Server(config).run()


def _return_memory() -> None:
    """Have glibc give large arrays back at once, and keep few pools for threads.

    By default it raises its threshold to 32 MiB as arrays are freed and keeps them in a pool for each thread, so that a
    server's memory creeps up with no leak (benchmarks/server_load.py). Elsewhere nothing is done.
    """
    libc = _glibc()
    if libc is not None:
        threshold, pools = -3, -8  # M_MMAP_THRESHOLD, M_ARENA_MAX in malloc.h
        libc.mallopt(threshold, 256 * 1024)
        libc.mallopt(pools, 2)


def _trim() -> None:
    """Give back what lies free inside glibc's pools: answers of many sizes leave holes there."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library where it is glibc, else None."""
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
