"""Test names are the same in every process: `pytest -n 2` runs each test once only if both processes collect alike."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))
CHANCE = {
    "urandom",
    "token_bytes",
    "token_hex",
    "uuid1",
    "uuid4",
    "getrandbits",
    "randbytes",
    "random",
    "randint",
    "time",
    "rand",
    "randn",
    "randperm",
    "normal",
}
"""Names of calls that give other values in each process; of torch's, those with a `generator` repeat."""


def _at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: no bodies of functions, but their decorators and defaults."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        inner: list[ast.AST] = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [*node.decorator_list, node.args]
        elif isinstance(node, ast.Lambda):
            inner = [node.args]
        waiting.extend(inner)


def unrepeatable(tree: ast.Module) -> list[str]:
    """What a module does at import that another process would do otherwise."""
    out = []
    for node in _at_import(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        seeded = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call)  # Random(0).randbytes
        seeded = seeded or any(keyword.arg == "generator" for keyword in node.keywords)
        if name in CHANCE and not seeded:
            out.append(ast.unparse(node))
        if name in ("default_rng", "Random") and not node.args:
            out.append(ast.unparse(node))
        if name == "parametrize" and any(_is_set(argument) for argument in node.args):
            out.append(ast.unparse(node))
    return out


def _is_set(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return called or isinstance(node, ast.Set | ast.SetComp)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_module_draws_at_import(path: Path) -> None:
    assert unrepeatable(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "CASES = [b'II' + os.urandom(500)]",
        "RNG = np.random.default_rng()",
        "@pytest.mark.parametrize('x', {'a', 'b'})\ndef test(x): ...",
        "def test(x=random.random()): ...",
    ],
)
def test_what_differs_is_seen(code: str) -> None:
    assert unrepeatable(ast.parse(code))


def test_seeded_chance_and_chance_within_a_test_pass() -> None:
    code = "A = random.Random(0).randbytes(5)\nB = np.random.default_rng(0)\ndef test(): return os.urandom(5)"
    assert not unrepeatable(ast.parse(code))


def test_two_processes_collect_the_same() -> None:
    """The module whose names once held random bytes, under two seeds of Python's string hashes."""
    module = TESTS / "server" / "test_bad_requests.py"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts=--strict-markers", str(module)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    first, second = ([line for line in run.communicate()[0].splitlines() if "::" in line] for run in running)
    assert len(first) > 50
    assert first == second
