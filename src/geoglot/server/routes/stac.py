"""STAC API: landing page, collections, items, search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from geoglot.archive.archive import Archive
from geoglot.archive.federation import list_many, search_many
from geoglot.server.context import ServerContext, context_of, documents_of
from geoglot.server.paging import DEEPEST, Place, read_token, write_token
from geoglot.server.schemas import ItemSearch, Sent, in_body, in_query
from geoglot.server.stac import CONFORMANCE, GEOJSON, Documents
from geoglot.server.webpage import has_page

router = APIRouter(tags=["STAC"])

InQuery = Annotated[Sent[ItemSearch], Depends(in_query(ItemSearch))]
InBody = Annotated[Sent[ItemSearch], Depends(in_body(ItemSearch))]
ItemsInQuery = Annotated[
    Sent[ItemSearch], Depends(in_query(ItemSearch, only=("bbox", "datetime", "collections", "limit", "token")))
]


@router.get("/", summary="Landing page")
def landing(request: Request) -> Response:
    """A STAC catalogue; a browser is led to the map page if there is one."""
    context = context_of(request)
    page = has_page(context.settings.page)
    if page and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("page/", status_code=303)
    names = [served.name for served in context.pool.entries()]
    return JSONResponse(documents_of(request).landing(names, page=page))


@router.get("/conformance", summary="Conformance classes")
def conformance() -> dict[str, Any]:
    """What this API conforms to."""
    return {"conformsTo": list(CONFORMANCE)}


@router.get("/collections", summary="All archives")
def collections(request: Request) -> Response:
    """The archives; those that cannot be used now are left out, and /ready says why."""
    context, documents = context_of(request), documents_of(request)
    usable = [served for served in context.pool.entries() if served.trouble is None]
    body = {
        "collections": [documents.collection(v.name, v.archive, context.info(v.archive)) for v in usable],
        "links": [documents.link("self", "/collections"), documents.link("root", "/"), documents.link("parent", "/")],
    }
    return JSONResponse(body)  # a plain dict would wait for a second thread, to be checked


@router.get("/collections/{collection}", summary="One archive")
def collection(request: Request, collection: str) -> Response:
    """An archive as a STAC collection."""
    context = context_of(request)
    archive = context.archive(collection)
    return JSONResponse(documents_of(request).collection(collection, archive, context.info(archive)))


@router.get("/collections/{collection}/items", summary="Chips of an archive")
def items(request: Request, collection: str, sent: ItemsInQuery) -> Response:
    """Chips in a fixed order. Some clients repeat the collection as a parameter."""
    context_of(request).pool.served(collection)
    named = sent.request.collections
    here = replace(sent.request, collections=(collection,) if named is None or collection in named else ())
    return _answer(request, here, f"/collections/{collection}/items", sent.fields, paged_by="GET")


@router.get("/collections/{collection}/items/{item}", summary="One chip")
def item(request: Request, collection: str, item: str) -> Response:
    """A chip as a STAC item."""
    chip, scene = context_of(request).chip(collection, item)
    return JSONResponse(documents_of(request).item(collection, chip, scene), media_type=GEOJSON)


@router.get("/search", summary="Search")
def search(request: Request, sent: InQuery) -> Response:
    """Item search; with `q`, `like` or `image` ranked by meaning."""
    return _answer(request, sent.request, "/search", sent.fields, paged_by="GET")


@router.post("/search", summary="Search")
def search_post(request: Request, sent: InBody) -> Response:
    """Item search; with `q`, `like` or `image` ranked by meaning."""
    return _answer(request, sent.request, "/search", sent.fields, paged_by="POST")


def _answer(request: Request, form: ItemSearch, path: str, sent: Mapping[str, Any], *, paged_by: str) -> Response:
    context, documents = context_of(request), documents_of(request)
    place = read_token(form.token)
    archives, moved_on = _archives(context, form, place)
    if form.has_question:
        others = [served.archive for served in context.pool.entries() if served.trouble is None]
        answer, following = _ranked(documents, archives, others, form, place, moved_on)
    else:
        answer, following = _listed(documents, archives, form, place)
    answer["links"] = [
        _link(documents, "self", path, sent, paged_by),
        documents.link("root", "/"),
        *([documents.link("collection", path.removesuffix("/items"))] if path.endswith("/items") else []),
    ]
    if following is not None:
        token = {**sent, "token": write_token(following)}
        answer["links"].append(_link(documents, "next", path, token, paged_by))
    return Response(json.dumps(answer, ensure_ascii=False, allow_nan=False), media_type=GEOJSON)


def _archives(context: ServerContext, form: ItemSearch, place: Place) -> tuple[dict[str, Archive], bool]:
    """The archives that are asked, at the states of the page before, and whether one of those is no longer held."""
    entries = context.pool.entries()
    if form.collections is None:
        wanted = [served for served in entries if served.trouble is None] or entries
    else:
        wanted = [served for served in entries if served.name in form.collections]
    found = {served.name: served.at(place.states.get(served.name)) for served in wanted}
    return {name: archive for name, (archive, _) in found.items()}, not all(held for _, held in found.values())


def _ranked(
    documents: Documents,
    archives: Mapping[str, Archive],
    others: Sequence[Archive],
    form: ItemSearch,
    place: Place,
    moved_on: bool,
) -> tuple[dict[str, Any], Place | None]:
    deepest = max(place.offsets.values(), default=0)
    found = search_many(
        archives,
        form,
        limit=min(form.limit, max(1, DEEPEST - deepest)),
        offsets=place.offsets,
        merge=form.merge,
        all=form.all,
        min_confidence=form.min_confidence,
        others=others,
    )
    answers = found.answers.values()
    said = {
        "query": form.q,
        "nothing_matches": found.nothing_matches,
        "calibrated": all(answer.calibrated for answer in answers),
        "total": sum(answer.total for answer in answers),
        "considered": sum(answer.considered for answer in answers),
        "path": "ann" if any(answer.path == "ann" for answer in answers) else "exact",
        "elapsed_s": round(sum(answer.elapsed_s for answer in answers), 4),
        "undated": sum(answer.undated for answer in answers),
        "unplaced": sum(answer.unplaced for answer in answers),
        "moved_on": moved_on,
    }
    features = [documents.item(name, match.chip, match.scene, match) for name, match in found.matches]
    answer = _collection(features)
    answer["geoglot:search"] = said
    more = found.more and max(found.offsets.values(), default=0) < DEEPEST
    states = {name: archive.state for name, archive in archives.items()}
    return answer, Place(offsets=dict(found.offsets), states=states) if more else None


def _listed(
    documents: Documents, archives: Mapping[str, Archive], form: ItemSearch, place: Place
) -> tuple[dict[str, Any], Place | None]:
    found = list_many(archives, form.filter(), limit=form.limit, after=place.after)
    answer = _collection([documents.item(name, chip, scene) for name, chip, scene in found.chips])
    answer["numberMatched"] = found.total
    if not found.more or not found.chips:
        return answer, None
    name, chip, _ = found.chips[-1]
    return answer, Place(after={name: chip.chip_id})


def _collection(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": features, "links": [], "numberReturned": len(features)}


def _link(documents: Documents, rel: str, path: str, sent: Mapping[str, Any], method: str) -> dict[str, Any]:
    if method == "POST":
        return documents.link(rel, path, GEOJSON, method="POST", body=dict(sent))
    tail = f"?{urlencode(sent, doseq=True)}" if sent else ""
    return documents.link(rel, path + tail, GEOJSON, method="GET")
