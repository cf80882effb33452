"""Pixels: thumbnails, chips in full resolution, map tiles, heat; and pictures to search with."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from geoglot.archive.heat import EDGE_M, Frame
from geoglot.archive.request import SearchRequest, picture_token
from geoglot.errors import (
    EmptyQueryError,
    NotThereError,
    SceneError,
    SceneTooLargeError,
    TooLargeError,
    UploadError,
    UsageError,
)
from geoglot.imagery.scene import Pixels, Scene
from geoglot.imagery.tiles import MAX_ZOOM, TILE_PX, check_tile, encode, heat_png, scene_tile
from geoglot.server.context import context_of, documents_of, kept_file
from geoglot.server.schemas import Sent, in_query
from geoglot.server.stac import GEOJSON, scene_zooms
from geoglot.types import Window

router = APIRouter(tags=["Pictures and maps"])

Question = Annotated[Sent[SearchRequest], Depends(in_query(SearchRequest))]

Side = Annotated[int, Query(ge=16, le=1024, description="Pixels of the longer side.")]
Zoom = Annotated[int, Path(ge=0, le=MAX_ZOOM)]
Index = Annotated[int, Path(ge=0, lt=2**MAX_ZOOM)]
CACHED = {"Cache-Control": "private, max-age=3600"}


@router.get("/collections/{collection}/items/{item}/thumbnail.webp", summary="A chip as a small picture")
def chip_thumbnail(request: Request, collection: str, item: str, side: Side = 256) -> Response:
    """WebP with alpha."""
    context = context_of(request)
    chip, info = context.chip(collection, item)
    with context.open(info) as scene:
        return _small(scene, chip.window, side)


@router.get("/collections/{collection}/items/{item}/picture.png", summary="A chip in full resolution")
def chip_picture(request: Request, collection: str, item: str) -> Response:
    """PNG with alpha."""
    context = context_of(request)
    chip, info = context.chip(collection, item)
    most = context.settings.max_picture_px
    if chip.window.width * chip.window.height > most:
        raise TooLargeError(
            f"the chip has {chip.window.width} x {chip.window.height} pixels, over the limit of {most:,}",
            hint="Look at its tiles.",
        )
    with context.open(info) as scene:
        return _picture(encode(scene.read(chip.window), "png"), "png")


@router.get("/collections/{collection}/scenes", summary="Scenes of an archive")
def scenes(
    request: Request,
    collection: str,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    token: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """GeoJSON, sorted by id; the token is the last id of the page before."""
    documents = documents_of(request)
    found = context_of(request).archive(collection).list_scenes(limit + 1, token)
    here = f"/collections/{collection}/scenes"
    links = [documents.link("self", here, GEOJSON), documents.link("root", "/")]
    if len(found) > limit:
        links.append(documents.link("next", f"{here}?limit={limit}&token={found[limit - 1].scene_id}", GEOJSON))
    features = [documents.scene(collection, scene) for scene in found[:limit]]
    body = {"type": "FeatureCollection", "features": features, "links": links, "numberReturned": len(features)}
    return JSONResponse(body, media_type=GEOJSON)


@router.get("/collections/{collection}/scenes/{scene}", summary="One scene")
def scene(request: Request, collection: str, scene: str) -> Response:
    """A scene as a GeoJSON feature."""
    found = context_of(request).scene(collection, scene)
    return JSONResponse(documents_of(request).scene(collection, found), media_type=GEOJSON)


@router.get("/collections/{collection}/scenes/{scene}/thumbnail.webp", summary="A scene as a small picture")
def scene_thumbnail(request: Request, collection: str, scene: str, side: Side = 512) -> Response:
    """WebP with alpha."""
    context = context_of(request)
    with context.open(context.scene(collection, scene)) as opened:
        return _small(opened, Window(0, 0, opened.info.width, opened.info.height), side)


@router.get("/collections/{collection}/scenes/{scene}/tilejson.json", summary="A scene as a map layer")
def scene_tilejson(request: Request, collection: str, scene: str) -> dict[str, Any]:
    """TileJSON 3.0.0."""
    info = context_of(request).scene(collection, scene)
    if info.gsd_m is None:
        raise NotThereError(f"scene {info.name!r} has no georeference, so no map", hint="Look at its thumbnail.")
    here = f"/collections/{collection}/scenes/{scene}"
    return documents_of(request).tilejson(here, {}, info.name, info.bbox_lonlat, scene_zooms(info))


@router.get("/collections/{collection}/scenes/{scene}/tiles/WebMercatorQuad/{z}/{x}/{y}.png", summary="A map tile")
def scene_square(request: Request, collection: str, scene: str, z: Zoom, x: Index, y: Index) -> Response:
    """PNG of 256 x 256 pixels with alpha; 404 where the scene does not lie."""
    context = context_of(request)
    info = context.scene(collection, scene)
    check_tile(z, x, y)
    with context.open(info) as opened:
        pixels = scene_tile(opened, z, x, y)
    if pixels is None:
        raise NotThereError(f"scene {info.name!r} does not lie in tile {z}/{x}/{y}", hint="Its bounds are in TileJSON.")
    return _picture(encode(pixels, "png"), "png")


@router.get("/collections/{collection}/heat/tilejson.json", summary="Where an archive fits a question, as a map layer")
def heat_tilejson(request: Request, collection: str, sent: Question) -> dict[str, Any]:
    """TileJSON 3.0.0; takes what search takes."""
    context = context_of(request)
    archive = context.archive(collection)
    question = _with_question(sent.request)
    question.terms(archive)
    question.filter()
    box = context.info(archive).bbox_lonlat
    name = question.q or "like the picture"
    return documents_of(request).tilejson(f"/collections/{collection}/heat", sent.fields, name, box, (0, 18))


@router.get(
    "/collections/{collection}/heat/tiles/WebMercatorQuad/{z}/{x}/{y}.png", summary="Where an archive fits a question"
)
def heat_square(request: Request, collection: str, z: Zoom, x: Index, y: Index, sent: Question) -> Response:
    """PNG of 256 x 256 pixels; transparent where the question scores no more than usual, and where nothing lies."""
    check_tile(z, x, y)
    archive = context_of(request).archive(collection)
    question = _with_question(sent.request)
    heat = archive.heat(question.terms(archive), tile_frame(z, x, y), question.filter())
    return _picture(heat_png(heat), "png")


def tile_frame(z: int, x: int, y: int) -> Frame:
    """A map square as a frame."""
    side = 2 * EDGE_M / 2**z
    left, top = -EDGE_M + x * side, EDGE_M - y * side
    return Frame(left, top - side, left + side, top, TILE_PX, TILE_PX)


def _with_question(request: SearchRequest) -> SearchRequest:
    if not request.has_question:
        raise EmptyQueryError("nothing to look for", hint="Give q, like or image.")
    return request


@router.post("/pictures", summary="Turn a picture into something to search with")
def picture(
    request: Request,
    file: Annotated[UploadFile, File(description="PNG, JPEG, WebP, GeoTIFF or JPEG 2000.")],
    collection: Annotated[
        str | None, Form(description="Whose model; needed where archives have different ones.")
    ] = None,
) -> dict[str, Any]:
    """A token that stands for the picture in `image=` and in `image:` terms. Nothing is kept."""
    context = context_of(request)
    usable = {served.name: served.archive for served in context.pool.entries() if served.trouble is None}
    archive = context.archive(collection or next(iter(usable), context.pool.entries()[0].name))
    fingerprint = archive.manifest.fingerprint
    same = [name for name, other in usable.items() if other.manifest.fingerprint == fingerprint]
    if collection is None and len(same) < len(usable):
        raise UsageError("the archives have different models", hint="Name one of them in the field `collection`.")
    if archive.encoder is None:
        raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
    with kept_file(file.file.read()) as path:
        try:
            token = picture_token(path, archive.encoder, context.settings.upload_limits)
        except SceneTooLargeError as error:
            raise TooLargeError(_of_upload(error, path), hint="Send a smaller picture.") from error
        except SceneError as error:
            raise UploadError(_of_upload(error, path), hint="Send a PNG, JPEG, WebP, GeoTIFF or JPEG 2000.") from error
    search = documents_of(request).base + f"/search?image={token}"
    return {"picture": token, "model": archive.manifest.model, "collections": same, "search": search}


def _of_upload(error: SceneError, path: object) -> str:
    return str(error).replace(repr(str(path)), "the upload")


def _small(scene: Scene, window: Window, side: int) -> Response:
    scale = side / max(window.width, window.height)
    size = (max(1, round(window.height * scale)), max(1, round(window.width * scale)))
    pixels: Pixels = scene.read(window, size)
    return _picture(encode(pixels, "webp"), "webp")


def _picture(content: bytes, format: str) -> Response:
    return Response(content, media_type=f"image/{format}", headers=CACHED)
