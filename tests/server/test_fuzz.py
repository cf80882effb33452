"""Whatever a client sends by the letter of the OpenAPI description, or beside it, the server does not fail.

A bounded run of schemathesis; docs/how-to/serve-a-team.md has the command for a long one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from colour_world import ColourWords
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from geoglot.server.app import create_app
from geoglot.server.archives import ArchivePool
from geoglot.server.settings import Settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
EXAMPLES = 5
"""For each operation, of requests that keep to the description, and as many of those that do not."""


@pytest.fixture(scope="module")
def described(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The server's own description, with the server behind it."""
    pool = ArchivePool({"north": served / "north", "south": served / "south"}, lambda name: ColourWords())
    app = create_app(pool, Settings(state=tmp_path_factory.mktemp("fuzzed"), job_s=5.0, max_jobs=5))
    yield schemathesis.openapi.from_asgi("/api", app)
    app.state.context.close()


def test_no_request_makes_the_server_fail(described: Any) -> None:
    asked: dict[str, int] = {}
    for result in described.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events"):
            continue  # a stream, open for as long as its job
        _ask(operation, operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE), asked)
        with suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
            _ask(operation, operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE), asked)
    assert len(asked) > 25
    assert sum(asked.values()) > 100


def _ask(operation: Any, cases: st.SearchStrategy[Any], asked: dict[str, int]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def ask(case: Any) -> None:
        reply = case.call()
        asked[operation.label] = asked.get(operation.label, 0) + 1
        assert reply.status_code < 500, f"{operation.label}: {case.as_curl_command()}: {reply.text[:500]}"

    ask()
