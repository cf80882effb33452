"""Docs that are not true fail here: links, commands and options, public names, and the Python blocks."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import geoglot
from geoglot import errors
from geoglot.cli.app import VERBS, app

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
reference = import_module("reference")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RUN = "<!-- run -->"

_FENCE = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`(geoglot [^`\n]+)`")
_OPTION = re.compile(r"`(--?[a-z][a-z-]*)`")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path) -> Iterator[tuple[str, str, bool]]:
    """(language, body, whether it is marked to run) of each fenced block."""
    text = page.read_text("utf-8")
    for match in _FENCE.finditer(text):
        yield match[2], match[3], text[: match.start()].rstrip().endswith(RUN)


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text("utf-8"))


def _targets(page: Path) -> list[Path]:
    links = (link for link in _LINK.findall(_prose(page)) if not re.match(r"[a-z]+:|#", link))
    return [(page.parent / link.partition("#")[0]).resolve() for link in links]


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_resolve(page: Path) -> None:
    assert [str(target) for target in _targets(page) if not target.exists()] == []


def test_every_page_is_linked() -> None:
    linked = {target for page in PAGES for target in _targets(page) if target != page}
    lonely = [_name(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in linked]
    assert lonely == []


# --- Python --------------------------------------------------------------------------------------

PYTHON = [
    pytest.param(body, run, id=f"{_name(page)}-{i}")
    for page in PAGES
    for i, (language, body, run) in enumerate(_blocks(page))
    if language == "python"
]


def test_blocks_are_found() -> None:
    assert sum(param.values[1] is True for param in PYTHON) >= 5


@pytest.mark.parametrize(("body", "run"), PYTHON)
def test_python_blocks(body: str, run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marked blocks run; of the others, what they import from geoglot must exist."""
    monkeypatch.chdir(tmp_path)
    if run:
        exec(compile(body, "block", "exec"), {"__name__": "block"})
        return
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("geoglot"):
            for alias in node.names:
                assert hasattr(import_module(str(node.module)), alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("name", geoglot.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / "docs/reference/python.md").read_text("utf-8"))


def test_errors_are_documented() -> None:
    text = (ROOT / "docs/reference/errors.md").read_text("utf-8")
    kinds = [n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.GeoglotError)]
    assert [kind for kind in kinds if f"`{kind}`" not in text] == []


# --- commands ------------------------------------------------------------------------------------


def _shell_lines(page: Path) -> Iterator[str]:
    for language, body, _ in _blocks(page):
        if language in {"", "console", "sh", "bash"}:
            yield from body.splitlines()
    yield from _INLINE.findall(_prose(page))


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a shell line, redirections left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|<>;")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if word and set(word) <= set("&|;"):
            yield words
            words = []
        elif word and set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        else:
            words.append(word)
    yield words


SHELL = [(page, words) for page in PAGES for line in _shell_lines(page) for words in _commands(line) if words]
ASKED = [(page, words[1:]) for page, words in SHELL if words[0].rpartition("/")[2] == "geoglot"]
PYTHONS = [(page, words[1:]) for page, words in SHELL if words[0].rpartition("/")[2] == "python"]


def _parse(command: Any, name: str, args: list[str], parent: Any = None) -> None:
    """Parse as the command line would, down to the last group; nothing is executed."""
    try:
        context = command.make_context(name, list(args), parent=parent)
    except typer.Exit:  # --help and --version end here
        return
    if hasattr(command, "list_commands"):
        rest = [*context._protected_args, *context.args]
        verb, inner, tail = command.resolve_command(context, rest)
        _parse(inner, verb, tail, context)


@pytest.mark.parametrize(("page", "args"), ASKED, ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else v.stem)
def test_geoglot_commands_exist(page: Path, args: list[str]) -> None:
    _parse(typer.main.get_command(app), "geoglot", args)


@pytest.mark.parametrize("args", [["index", "add", "x", "--no-such-option"], ["serch", "x"], ["demo", "--seed", "x"]])
def test_wrong_commands_are_noticed(args: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such option|no command|valid int"):
        _parse(typer.main.get_command(app), "geoglot", args)


@pytest.mark.parametrize(("page", "args"), PYTHONS, ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else v.stem)
def test_python_commands_exist(page: Path, args: list[str]) -> None:
    if args[0] == "-m":
        assert util.find_spec(args[1]) is not None
    elif args[0] != "-c":
        source = (ROOT / args[0]).read_text("utf-8")
        assert [o for o in args[1:] if o.startswith("--") and f'"{o}"' not in source] == []


def _sections() -> dict[str, str]:
    """Heading -> text of the generated command reference."""
    parts = re.split(r"^#+ (geoglot.*)$", reference.command_line(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _options(command: Any) -> set[str]:
    names = (name for param in command.params for name in (*param.opts, *param.secondary_opts))
    return {name for name in names if name.startswith("-")} - {"-h", "--help"}


def test_command_reference_is_complete_and_true() -> None:
    """Against click's own parameters; and every command and option says what it does."""
    commands, sections = reference.commands(), _sections()
    assert set(VERBS) <= {path.split()[-1] for path in commands}
    assert set(sections) == set(commands)
    for path, command in commands.items():
        rows = [line.split(" | ") for line in sections[path].splitlines() if line.startswith("| `-")]
        named = {option for row in rows for option in _OPTION.findall(row[0])}
        assert named == _options(command), path
        assert command.help, path
        assert [row[0] for row in rows if not row[2].strip(" |")] == [], path


EXAMPLES = [words for command in reference.commands().values() for line in reference.examples(command)
            for words in _commands(line) if words[:1] == ["geoglot"]]  # fmt: skip


@pytest.mark.parametrize("words", EXAMPLES, ids=lambda words: " ".join(words)[:60])
def test_examples_of_the_help_texts_parse(words: list[str]) -> None:
    _parse(typer.main.get_command(app), "geoglot", words[1:])


def test_rest_reference_is_complete_and_true() -> None:
    """Every operation and field of the OpenAPI description has its place, and every operation says what it does."""
    text, schema = reference.rest(), reference.openapi()
    sections = dict(re.findall(r"^### ([^\n]*)\n\n(.*?)(?=^### |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    operations = {(method, path): each for path, all_of in schema["paths"].items() for method, each in all_of.items()}
    assert len(operations) > 20
    assert set(sections) == {f"{method.upper()} `{path}`" for method, path in operations}
    for (method, path), operation in operations.items():
        section = sections[f"{method.upper()} `{path}`"]
        assert [p["name"] for p in operation.get("parameters", ()) if f"| `{p['name']}` |" not in section] == []
        assert section.strip().split("\n")[0], path
    assert "| `min_confidence` | body |" in sections["POST `/search`"]


@pytest.mark.parametrize(("page", "part"), [("cli", "command_line"), ("rest", "rest")])
def test_pages_hold_their_generated_part(page: str, part: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text("utf-8")
    assert getattr(reference, part)() in reference.filled(text)


def test_links_out_of_the_docs_become_words() -> None:
    """The site holds docs/ alone: mkdocs would call the others broken."""
    page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(ROOT / "docs" / "recipes" / "mini.md")))
    text = "[here](../README.md#top), [there](../../ARCHITECTURE.md#rooms), [web](https://example.org)"
    expected = "[here](../README.md#top), there, [web](https://example.org)"
    assert reference.on_page_markdown(text, page=page) == expected


def test_index_page_names_every_benchmark() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    assert [p.name for p in (ROOT / "benchmarks").glob("*.py") if f"benchmarks/{p.name}" not in text] == []


def test_readme_test_command_is_the_one_that_is_run() -> None:
    lines = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "pytest" in line]
    assert len(lines) == 1
    assert lines[0] in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
