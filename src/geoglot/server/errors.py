"""Errors as RFC 7807 problem documents: one table from the error tree to HTTP status codes."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from geoglot import errors
from geoglot.errors import GeoglotError, TooManyError

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[GeoglotError], int] = {
    errors.UsageError: 400,
    errors.KeyNeededError: 401,
    errors.NotAllowedError: 403,
    errors.NotThereError: 404,
    errors.NotDoneError: 409,
    errors.ExpiredError: 410,
    errors.TooLargeError: 413,
    errors.SceneTooLargeError: 413,
    errors.UploadError: 422,
    errors.SceneError: 422,
    errors.SourceError: 422,
    errors.TooManyError: 429,
    errors.ArchiveError: 503,
    errors.ModelError: 503,
    errors.StorageError: 503,
    errors.TooLongError: 504,
    GeoglotError: 500,
}
"""The nearest class of an error counts. 503 is what the operator must mend: an archive, a model, the disk.

One scene whose file is gone, out of touch, damaged or hostile is 422: the server is well, and whoever wrote that file
must not be able to make it look ill.
"""

_QUOTED = re.compile(r"""(['"])(/[^'"]*)\1""")
_log = logging.getLogger("geoglot.server")


def status_of(error: GeoglotError) -> int:
    """The status of the nearest class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int, name: str, title: str, detail: str, hint: str = "", *, path: str = "", request: str = ""
) -> dict[str, Any]:
    """The document."""
    return {
        "type": f"urn:geoglot:problem:{name}",
        "title": title,
        "status": status,
        "detail": detail,
        "hint": hint,
        "instance": path,
        "request": request,
    }


def problem_of(error: GeoglotError, *, path: str = "", request: str = "") -> dict[str, Any]:
    """The document of one of our errors. Local paths of the server stay in its log."""
    title = (type(error).__doc__ or "").strip().splitlines()[0]
    detail = without_paths(str(error))
    return problem(status_of(error), type(error).__name__, title, detail, error.hint, path=path, request=request)


def without_paths(text: str) -> str:
    """The text with local paths cut to their last part."""
    cut = _QUOTED.sub(lambda match: match[1] + match[2].rsplit("/", 1)[1] + match[1], text)
    return " ".join(_last_part(word) for word in cut.split(" "))


def _last_part(word: str) -> str:
    bare = word.strip("'\"(),:;")
    if not bare.startswith("/") or bare.count("/") < 2:
        return word
    return word.replace(bare, bare.rsplit("/", 1)[1] or "…")


def respond(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """As a response."""
    return JSONResponse(body, status_code=body["status"], media_type=MEDIA_TYPE, headers=headers)


def answer_error(error: GeoglotError, scope: Mapping[str, Any]) -> Response:
    """The response to one of our errors."""
    request = scope.get("state", {}).get("request_id", "")
    body = problem_of(error, path=scope["path"], request=request)
    if body["status"] >= 500:
        _log.error("request failed", extra={"request": request, "error": repr(error)})
    headers = {"Retry-After": str(max(1, round(error.retry_s)))} if isinstance(error, TooManyError) else {}
    if body["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return respond(body, headers)


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""

    @app.exception_handler(GeoglotError)
    async def ours(request: Request, error: GeoglotError) -> Response:
        return answer_error(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        parts = [complaint(entry) for entry in error.errors()[:5]]
        hint = "The fields stand in /api."
        return _plain(request, 400, "InvalidRequest", "; ".join(parts), hint)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        found = HTTPStatus(error.status_code)
        hint = "The paths stand in /api." if error.status_code in (404, 405) else ""
        return _plain(request, error.status_code, found.phrase.replace(" ", ""), str(error.detail), hint, error.headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        _log.error("bug", exc_info=error, extra={"request": _request_id(request)})
        detail = "something went wrong that should not have"
        return _plain(request, 500, "Bug", detail, "Tell the operator the number under `request`.")


def _plain(
    request: Request, status: int, name: str, detail: str, hint: str, headers: Mapping[str, str] | None = None
) -> Response:
    title = HTTPStatus(status).phrase
    path = request.scope["path"]
    return respond(problem(status, name, title, detail, hint, path=path, request=_request_id(request)), headers)


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def complaint(entry: Mapping[str, Any]) -> str:
    """One sentence of pydantic in JSON's words, which has lists and no tuples, with the field's name in front."""
    place = ".".join(str(part) for part in entry["loc"] if part not in ("query", "body", "path"))
    if entry["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"there is no field {place[:80]!r}"
    said = str(entry["msg"]).replace("a valid tuple", "a list").replace("Tuple", "List")
    return f"{place[:80]}: {said}" if place else said
