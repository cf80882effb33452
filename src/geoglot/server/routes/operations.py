"""For those who run the server: health, readiness, metrics, and the API's description."""

from __future__ import annotations

import html
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from geoglot.server.context import context_of
from geoglot.server.errors import without_paths
from geoglot.server.stac import OPENAPI
from geoglot.server.webpage import page_settings

router = APIRouter(tags=["Operation"])


@router.get("/health", summary="Alive")
async def health() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/ready", summary="Able to answer")
async def ready(request: Request) -> Response:
    """200 when every archive can be asked, else 503; says how each stands."""
    context = context_of(request)
    entries = context.pool.entries()
    states = {v.name: "ok" if v.trouble is None else without_paths(str(v.trouble)) for v in entries}
    fine = all(served.trouble is None for served in entries) and not context.closing.is_set()
    return JSONResponse({"status": "ok" if fine else "not ready", "collections": states}, 200 if fine else 503)


@router.get("/metrics", summary="Prometheus metrics")
def metrics(request: Request) -> Response:
    """Text exposition."""
    context = context_of(request)
    for served in context.pool.entries():
        context.metrics.usable.labels(served.name).set(served.trouble is None)
        context.metrics.chips.labels(served.name).set(served.states[0].chip_count)
    for state, count in context.board.counts().items():
        context.metrics.jobs.labels(state).set(count)
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/settings", summary="What the map page is to show")
def settings(request: Request) -> dict[str, Any]:
    """The title, and the basemap if there is one."""
    given = context_of(request).settings
    return page_settings(given.title, given.basemap)


@router.get("/api", summary="OpenAPI description")
def openapi(request: Request) -> Response:
    """This API, for programs."""
    return JSONResponse(request.app.openapi(), media_type=OPENAPI)


@router.get("/api.html", summary="This API, for people")
def openapi_page(request: Request) -> HTMLResponse:
    """One self-contained page without scripts."""
    return HTMLResponse(api_page(request.app.openapi()))


def api_page(api: dict[str, Any]) -> str:
    """The paths of an OpenAPI description, with their parameters, as HTML."""
    rows = [
        f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2><p><b>{html.escape(call['summary'])}.</b> "
        f"{html.escape(call.get('description', ''))}</p>{_parameters(call.get('parameters', ()))}</section>"
        for path, calls in api["paths"].items()
        for method, call in calls.items()
    ]
    title = html.escape(api["info"]["title"])
    style = (
        "body{font:16px/1.5 system-ui;max-width:52rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
        "h2{font-size:1rem;margin:2rem 0 0}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{style}</style></head><body><h1>{title}</h1>{"".join(rows)}'
    )


def _parameters(parameters: Any) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(p['name'])}</code></td><td>{html.escape(p.get('description', ''))}</td></tr>"
        for p in parameters
    )
    return f"<table>{rows}</table>" if rows else ""
