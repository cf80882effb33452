"""TOML tables as dataclasses: what fits comes through whole, and what does not is named, with the nearest key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoglot.config import LARGEST, from_table, load_config, read_toml
from geoglot.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Inner:
    path: str
    share: float = 1.0
    part: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: Inner | None = None
    flag: bool = False
    kind: Literal["coco", "yolo"] = "coco"
    texts: Mapping[str, str] = field(default_factory=dict)
    layers: int | tuple[int, ...] = 1


def test_a_file_with_nested_tables(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'pair = [0, 1]\nlayers = [3, 4]\n[inner]\npath = "a"\nshare = 2\n[maybe]\npath = "m"\n[[many]]\npath = "b"\n'
        '[texts]\nplane = "a plane"\n'
    )
    config = load_config(Outer, tmp_path / "c.toml", flag=True)
    inner = Inner("a", 2.0)
    assert config == Outer(inner, (Inner("b"),), (0.0, 1.0), Inner("m"), True, "coco", {"plane": "a plane"}, (3, 4))
    assert isinstance(config.inner.share, float)


inners = st.builds(Inner, st.text(), st.floats(allow_nan=False), st.none() | st.text())
outers = st.builds(
    Outer, inners, st.lists(inners).map(tuple), st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    st.none() | inners, st.booleans(), st.sampled_from(["coco", "yolo"]), st.dictionaries(st.text(), st.text()),
    st.integers() | st.lists(st.integers()).map(tuple),
)  # fmt: skip


@given(outers)
def test_what_json_holds_of_a_config_gives_it_back(config: Outer) -> None:
    assert from_table(Outer, json.loads(json.dumps(asdict(config)))) == config


BAD: list[tuple[dict[str, Any], str]] = [
    ({"inner": {"pat": "x"}}, "unknown config key 'pat'"),
    ({"inner": {}}, "the config lacks path"),
    ({}, "the config lacks inner"),
    ({"inner": 3}, "inner = 3 is not a table"),
    ({"inner": {"path": 3}}, "path = 3 is not str"),
    ({"inner": {"path": "x", "share": True}}, "share = True is not float"),
    ({"inner": {"path": "x", "share": None}}, "share = None is not float"),
    ({"inner": {"path": "x", "part": 3}}, "part = 3 is not str"),
    ({"inner": {"path": "x"}, "pair": [1]}, "must have 2 values"),
    ({"inner": {"path": "x"}, "pair": 1}, "pair = 1 is not a list"),
    ({"inner": {"path": "x"}, "many": {"path": "x"}}, "is not a list"),
    ({"inner": {"path": "x"}, "flag": 1}, "flag = 1 is not bool"),
    ({"inner": {"path": "x"}, "kind": "coca"}, "unknown kind 'coca'"),
    ({"inner": {"path": "x"}, "texts": {"a": 1}}, r"texts\.a = 1 is not str"),
    ({"inner": {"path": "x"}, "layers": [1, "2"]}, "layers = '2' is not int"),
    ({"inner": {"path": "x"}, "layers": True}, "layers = True is not"),
]


@pytest.mark.parametrize(("table", "message"), BAD, ids=[message for _, message in BAD])
def test_what_does_not_fit_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_table(Outer, table)


def test_the_nearest_key_is_suggested() -> None:
    with pytest.raises(UnknownNameError) as error:
        from_table(Inner, {"path": "x", "sahre": 1.0}, "[inner]")
    assert str(error.value) == "unknown [inner] key 'sahre'"
    assert "'share'" in error.value.hint


@pytest.mark.parametrize(
    "content", [b"x = ", b"\xff", b"x = " + b"[" * 100_000, b"#" * (LARGEST + 1)], ids=["cut", "latin", "deep", "large"]
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"config .*c\.toml"):
        read_toml(tmp_path / "c.toml")
    with pytest.raises(UsageError, match="cannot read config"):
        read_toml(tmp_path / "absent.toml")
