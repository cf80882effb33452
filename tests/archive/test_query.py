"""Query texts, filters and query vectors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from small_archives import HashEncoder, build, scene

from geoglot.archive.archive import open_snapshot
from geoglot.archive.filters import Filter
from geoglot.archive.query import Term, parse_terms, query_vector
from geoglot.archive.snapshot import Snapshot
from geoglot.errors import EmptyQueryError, QueryError, UsageError

CHIP = "0123456789abcdef-0-0-10-10"


def plus(value: str, kind: str = "text") -> Term:
    return Term(1.0, kind, value)  # type: ignore[arg-type]


def minus(value: str, kind: str = "text") -> Term:
    return Term(-1.0, kind, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("boats moored in a harbour", [plus("boats moored in a harbour")]),
        ("  two   spaces ", [plus("two spaces")]),
        ("semi-detached houses", [plus("semi-detached houses")]),
        ("roads - small", [plus("roads - small")]),
        ("C++ -x", [plus("C++ -x")]),
        ("- small", [plus("- small")]),
        ('"harbour"', [plus("harbour")]),
        ('boats in a "free port"', [plus("boats in a free port")]),
        ('"harbour" - "bridge"', [plus("harbour"), minus("bridge")]),
        ('"harbour" -"bridge"', [plus("harbour"), minus("bridge")]),
        ('harbour - "a small bridge" + ships at sea', [plus("harbour"), minus("a small bridge"), plus("ships at sea")]),
        ('"harbour" + ./ship.png - "bridge"', [plus("harbour"), plus("./ship.png", "image"), minus("bridge")]),
        ("ships ./a.TIF", [plus("ships"), plus("./a.TIF", "image")]),
        ('image:"./my ship.png" -image:b', [plus("./my ship.png", "image"), minus("b", "image")]),
        (f"chip:{CHIP} - cloud", [plus(CHIP, "chip"), minus("cloud")]),
        (f'- "x" +chip:{CHIP}', [minus("x"), plus(CHIP, "chip")]),
        ("„Häuser am See“ - «лес»", [plus("Häuser am See"), minus("лес")]),
        ("“a” + “b”", [plus("a"), plus("b")]),
        ('a 5" pipe', [plus('a 5" pipe')]),
        ('"unclosed', [plus('"unclosed')]),
    ],
)
def test_grammar(text: str, terms: list[Term]) -> None:
    assert parse_terms(text) == tuple(terms)


@pytest.mark.parametrize("text", ["", "   ", '""', '" "', '"a" + ""'])
def test_nothing_asked(text: str) -> None:
    with pytest.raises(EmptyQueryError):
        parse_terms(text)


@pytest.mark.parametrize("text", ['"a" +', '"a" - - "b"', '"a" + -"b"'])
def test_a_sign_without_a_part(text: str) -> None:
    with pytest.raises(QueryError, match="sign"):
        parse_terms(text)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return open_snapshot(build(tmp_path_factory.mktemp("q") / "a", [scene(1)]))


def test_the_vector_is_the_signed_sum(snapshot: Snapshot) -> None:
    encoder = HashEncoder()
    chip = snapshot.chip(3).chip_id
    a, b = encoder.encode_texts(["a", "b"]).astype(np.float64)
    expected = a - b + snapshot.arrays.vectors[3]
    found = query_vector(parse_terms(f'"a" - "b" + chip:{chip}'), encoder, snapshot)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_a_picture_is_cut_to_its_middle_square(snapshot: Snapshot, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "my ship ö.png")
    encoder = HashEncoder()
    found = query_vector(parse_terms(f'image:"{tmp_path}/my ship ö.png"'), encoder, snapshot)
    square = np.broadcast_to(np.array([200, 100, 50], np.uint8), (1, 16, 16, 3))
    assert found == pytest.approx(encoder.encode_images(square)[0], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a" - "a"', "cancel"),
        ("./no/such.png", "no picture"),
        (f"chip:{CHIP}", "no chip"),
        ("chip:nonsense", "no chip"),
    ],
)
def test_queries_that_cannot_be_run(snapshot: Snapshot, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        query_vector(parse_terms(text), HashEncoder(), snapshot)
    with pytest.raises(EmptyQueryError):
        query_vector((), HashEncoder(), snapshot)
    with pytest.raises(UsageError, match="without a model"):
        query_vector(parse_terms("boats"), None, snapshot)


@pytest.mark.parametrize("gsd", [(2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_a_wrong_resolution_range(gsd: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="gsd_m"):
        Filter(gsd_m=gsd)


def test_an_open_resolution_range() -> None:
    assert Filter(gsd_m=(1.0, math.inf)).gsd_m == (1.0, math.inf)


@pytest.mark.parametrize(
    "polygon", [shapely.Polygon(), shapely.box(500_000, 0, 500_100, 50), shapely.box(170, 0, 190, 1)]
)
def test_a_wrong_polygon(polygon: shapely.Polygon) -> None:
    with pytest.raises(UsageError, match="polygon"):
        Filter(polygon=polygon)
