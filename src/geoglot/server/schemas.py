"""Requests as they come over HTTP: made from the fields of `geoglot.archive.request`, and described for OpenAPI."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field as RequestField
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from fastapi import Body, Query
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from geoglot.archive.filters import Filter
from geoglot.archive.request import SearchRequest, option
from geoglot.errors import UsageError

LIMIT, MOST = 10, 10_000
Text = Annotated[str, Field(max_length=2000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Names = Annotated[list[Annotated[str, Field(max_length=8000)]], Field(max_length=100)]
Numbers = Annotated[list[Number], Field(max_length=6)]
Limit = Annotated[int, AfterValidator(lambda value: min(value, MOST)), Field(ge=1)]
"""STAC: a larger limit is not an error, the answer is only shorter."""
Token = Annotated[str | None, Field(max_length=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Ids = Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=10_000)] | None
"""Chip ids, of which a body of 1 MB holds no more."""

BODY: dict[Any, Any] = {
    str: Text,
    str | None: Text | None,
    float | None: Number | None,
    float: Number,
    int | None: int | None,
    int: int,
    bool: bool,
    tuple[str, ...]: Names,
    tuple[str, ...] | None: Names | None,
    tuple[float, ...] | None: Numbers | None,
    dict[str, Any] | None: dict[str, Any] | None,
}
"""Type of a request's field -> type in a body."""
QUERY: dict[Any, Any] = {
    tuple[str, ...]: Names,
    tuple[str, ...] | None: Names | None,
    tuple[float, ...] | None: Text | None,
    dict[str, Any] | None: Annotated[str, Field(max_length=100_000)] | None,
}
"""The same in a query string, where it differs: texts and numbers with commas between, and JSON."""

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class ItemSearch(SearchRequest):
    """Item search: which chips, of which archives, and which page of them."""

    ids: tuple[str, ...] | None = option("only these chips", wire=Ids)
    collections: tuple[str, ...] | None = option("only these archives")
    limit: int = option(f"items on a page; {MOST:,} at most", LIMIT, wire=Limit)
    token: str | None = option("from the `next` link", wire=Token)
    min_confidence: float = option("with a question: leave out what is less likely", 0.0, wire=Share)
    merge: bool = option("with a question: fold what overlaps a better hit", True)
    all: bool = option("with a question: give the nearest misses when nothing matches", False)

    def filter(self) -> Filter:
        """As a filter.

        Raises:
            UsageError: A value is wrong.
        """
        return replace(super().filter(), chips=self.ids)


@dataclass(frozen=True, slots=True)
class Sent(Generic[R]):
    """What came in.

    Attributes:
        request: Checked.
        fields: What was sent of it, as it was sent, for links.
    """

    request: R
    fields: Mapping[str, Any]


def in_body(kind: type[R]) -> Callable[..., Sent[R]]:
    """A dependency that reads a request from a JSON body."""
    model = _model(kind, as_text=False)

    def read(form: Any) -> Sent[R]:
        return Sent(_request(kind, form.model_dump()), form.model_dump(exclude_unset=True))

    read.__annotations__ = {"form": Annotated[model, Body()]}
    return read


def in_query(kind: type[R], only: Collection[str] = ()) -> Callable[..., Sent[R]]:
    """A dependency that reads a request from a query string; with `only`, some of its fields."""
    model, body = _model(kind, as_text=True, only=frozenset(only)), _model(kind, as_text=False)

    def read(form: Any) -> Sent[R]:
        sent = form.model_dump(exclude_unset=True)
        try:
            checked = body(**_parsed(kind, sent))
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error
        return Sent(_request(kind, checked.model_dump()), sent)

    read.__annotations__ = {"form": Annotated[model, Query()]}
    return read


def _request(kind: type[R], values: Mapping[str, Any]) -> R:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _model(kind: type[Any], *, as_text: bool, only: frozenset[str] = frozenset()) -> type[BaseModel]:
    """A model of a request's fields, as a body or as a query string has them."""
    hints, special = get_type_hints(kind), QUERY if as_text else {}
    made: dict[str, Any] = {}
    for one in fields(kind):
        if not only or one.name in only:
            hint = hints[one.name]
            made[one.name] = _wire(one, special.get(hint) or one.metadata["wire"] or BODY[hint])
    return create_model(kind.__name__, __config__=ConfigDict(extra="forbid"), __doc__=kind.__doc__, **made)


def _wire(one: RequestField[Any], kind: Any) -> tuple[Any, Any]:
    """A field's type and facts for pydantic."""
    help, default = one.metadata["help"], [] if one.default == () else one.default
    return kind, Field(default, description=f"{help[0].upper()}{help[1:]}.")


def _parsed(kind: type[Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a query string as a body has them."""
    hints, values = get_type_hints(kind), dict(sent)
    for name, value in sent.items():
        if value is None:
            continue
        if hints[name] in (tuple[str, ...], tuple[str, ...] | None):
            values[name] = [word for text in value for word in text.split(",") if word]
        elif hints[name] == tuple[float, ...] | None:
            values[name] = numbers(name, value)
        elif hints[name] == dict[str, Any] | None:
            values[name] = _object(name, value)
    return values


def numbers(name: str, text: str) -> list[float]:
    """Numbers parted by commas.

    Raises:
        UsageError: One of them is none.
    """
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{name} {text[:80]!r} is not numbers with commas", hint=f"Write {name}=32,-1,33,1") from error
    if len(values) > 6 or not all(math.isfinite(number) for number in values):
        raise UsageError(f"{name} {text[:80]!r} is not 4 or 6 finite numbers", hint=f"Write {name}=32,-1,33,1")
    return values


def _object(name: str, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}", hint="Give a GeoJSON geometry.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{name} is not a JSON object", hint="Give a GeoJSON geometry.")
    return value
