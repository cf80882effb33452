"""Tasks and jobs."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from geoglot.errors import NotThereError, UsageError
from geoglot.imagery.tiles import MAX_ZOOM, check_tile, raster_facts, raster_tile, zooms
from geoglot.server.context import ServerContext, body_schema, context_of, documents_of
from geoglot.server.jobs import ENDED, Job
from geoglot.server.stac import Documents
from geoglot.tasks.registry import TASKS, Task
from geoglot.types import Bbox

router = APIRouter(tags=["Tasks and jobs"])

LOOK_S = 0.2
"""Seconds between two looks at a job whose progress is sent."""
BEAT_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the line open."""
TYPES = {".geojson": "application/geo+json", ".parquet": "application/vnd.apache.parquet", ".tif": "image/tiff"}
Zoom = Annotated[int, Path(ge=0, le=MAX_ZOOM)]
Index = Annotated[int, Path(ge=0, lt=2**MAX_ZOOM)]
Band = Annotated[int, Query(ge=1, le=10_000, description="Which band, counted from 1.")]


@router.get("/tasks", summary="What else can be done")
def tasks(request: Request) -> dict[str, Any]:
    """Each task with the JSON schema of its body."""
    documents = documents_of(request)
    return {
        "tasks": [
            {
                "name": task.name,
                "summary": task.summary,
                "answers": task.answers,
                "body": body_schema(task),
                "links": [documents.link("run", f"/tasks/{task.name}", method="POST")],
            }
            for task in TASKS.values()
        ]
    }


def _add_task(task: Task) -> None:
    schema = {"content": {"application/json": {"schema": body_schema(task)}}, "required": True}
    ok = {"now": 200, "job": 202}[task.answers]

    def run(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
        return _run(request, task, body)

    router.add_api_route(
        f"/tasks/{task.name}",
        run,
        methods=["POST"],
        status_code=ok,
        summary=task.summary,
        name=f"task-{task.name}",
        operation_id=f"task-{task.name}",
        openapi_extra={"requestBody": schema},
    )


for _task in TASKS.values():
    _add_task(_task)


def _run(request: Request, task: Task, body: dict[str, Any]) -> Response:
    context = context_of(request)
    collection = body.pop("collection", None)
    if not isinstance(collection, str):
        raise UsageError("the body names no collection", hint="Add the field `collection`.")
    archive = context.archive(collection)
    asked = context.request_of(task, body)
    context.check_reach(task, archive, asked)
    if task.answers == "now":
        return JSONResponse(dict(task.run_now(archive, asked)))
    job = context.board.submit(task.name, collection, body, _owner(request))
    documents = documents_of(request)
    return JSONResponse(_told(context, documents, job), 202, headers={"Location": f"{documents.base}/jobs/{job.id}"})


def _owner(request: Request) -> str:
    """Jobs belong to the key that asked for them; without keys they belong to everybody."""
    return str(request.scope["state"]["owner"]) if context_of(request).settings.api_keys else ""


def _told(context: ServerContext, documents: Documents, job: Job) -> dict[str, Any]:
    here = f"/jobs/{job.id}"
    return {
        "id": job.id,
        "task": job.task,
        "collection": job.collection,
        "state": job.state,
        "progress": job.progress,
        "message": job.message,
        "created": job.created,
        "expires": job.expires,
        "files": [_file(documents, here, path) for path in context.board.files(job)],
        "problem": job.problem,
        "links": [documents.link("self", here), documents.link("events", f"{here}/events", "text/event-stream")],
    }


def _file(documents: Documents, here: str, path: FilePath) -> dict[str, Any]:
    told = {
        "name": path.name,
        "type": _type(path),
        "bytes": path.stat().st_size,
        "href": f"{documents.base}{here}/files/{path.name}",
    }
    return told | ({"tilejson": f"{told['href']}/tilejson.json"} if path.suffix == ".tif" else {})


def _type(path: FilePath) -> str:
    return TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


@router.get("/jobs", summary="Your jobs")
def jobs(request: Request) -> dict[str, Any]:
    """The newest first."""
    context, documents = context_of(request), documents_of(request)
    return {"jobs": [_told(context, documents, job) for job in context.board.list(_owner(request))]}


@router.get("/jobs/{job}", summary="How a job stands")
def job(request: Request, job: str) -> dict[str, Any]:
    """State, progress and files."""
    context = context_of(request)
    return _told(context, documents_of(request), context.board.get(job, _owner(request)))


@router.delete("/jobs/{job}", summary="Cancel a job, or delete it when it has ended")
def remove_job(request: Request, job: str) -> Response:
    """202 with the job when it is being cancelled; 204 when it is deleted."""
    context = context_of(request)
    left = context.board.remove(job, _owner(request))
    return Response(status_code=204) if left is None else JSONResponse(_told(context, documents_of(request), left), 202)


@router.get("/jobs/{job}/events", summary="Progress, as server-sent events")
async def events(request: Request, job: str) -> Response:
    """An event `job` at each change; ends when the job does."""
    context, documents, owner = context_of(request), documents_of(request), _owner(request)
    context.board.get(job, owner)

    async def stream() -> AsyncIterator[str]:
        told, silence = "", 0.0
        while not context.closing.is_set():
            try:
                now = context.board.get(job, owner)
            except NotThereError:
                return  # deleted meanwhile
            text = json.dumps(_told(context, documents, now), ensure_ascii=False)
            if text != told:
                yield f"event: job\ndata: {text}\n\n"
                told, silence = text, 0.0
            if now.state in ENDED:
                return
            await asyncio.sleep(LOOK_S)
            silence += LOOK_S
            if silence >= BEAT_S:
                yield ": still here\n\n"
                silence = 0.0

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/jobs/{job}/files/{name}", summary="A result file")
def job_file(request: Request, job: str, name: str) -> Response:
    """As a download."""
    board = context_of(request).board
    path = board.file(board.get(job, _owner(request)), name)
    return FileResponse(path, media_type=_type(path), filename=path.name)


@router.get("/jobs/{job}/files/{name}/tilejson.json", summary="A result as a map layer")
def job_tilejson(request: Request, job: str, name: str, band: Band = 1) -> dict[str, Any]:
    """TileJSON 3.0.0 of a band of a result GeoTIFF; its name is the band's own, where it has one."""
    board = context_of(request).board
    path = _raster(board.file(board.get(job, _owner(request)), name))
    bounds, pixel_m, width, height, what = raster_facts(path, band)
    sent = {"band": band} if band > 1 else {}
    zoom = zooms(pixel_m, width, height)
    return documents_of(request).tilejson(f"/jobs/{job}/files/{name}", sent, what or name, Bbox(*bounds), zoom)


@router.get("/jobs/{job}/files/{name}/tiles/WebMercatorQuad/{z}/{x}/{y}.png", summary="A map tile of a result")
async def job_square(request: Request, job: str, name: str, z: Zoom, x: Index, y: Index, band: Band = 1) -> Response:
    """PNG of 256 x 256 pixels; 404 where the result does not lie."""
    board = context_of(request).board
    check_tile(z, x, y)
    path = _raster(board.file(board.get(job, _owner(request)), name))
    content = await run_in_threadpool(raster_tile, path, z, x, y, band)
    if content is None:
        raise NotThereError(f"{name!r} does not lie in tile {z}/{x}/{y}", hint="Its bounds are in TileJSON.")
    return Response(content, media_type="image/png")


def _raster(path: FilePath) -> FilePath:
    if path.suffix != ".tif":
        raise NotThereError(f"{path.name!r} is not a raster, so no map", hint="Download it.")
    return path
