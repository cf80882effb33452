"""The generated parts of the documentation: mkdocs calls this module as a hook, and the tests read the same text.

A page marks the place with `<!-- generated: NAME -->`. The command line comes from typer, the REST reference from
OpenAPI, so neither can say what the program does not do. The Python reference is mkdocstrings' work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
KINDS = {"integer": "N", "integer range": "N", "float": "N", "float range": "N", "text": "TEXT", "choice": "NAME"}
"""click's name of a type -> what stands behind an option of it."""
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#\s]*)[^)\s]*\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill the marked places of a page, and unlink what lies outside the documentation (mkdocs' hook)."""
    folder = Path(page.file.abs_src_path).parent
    docs = Path(__file__).resolve().parents[1] / "docs"

    def inside(match: re.Match[str]) -> str:
        return match[0] if (folder / match[2]).resolve().is_relative_to(docs) else match[1]

    return filled(LINK.sub(inside, markdown))


def filled(markdown: str) -> str:
    """The page with its marked places filled."""
    parts = {"commands": command_line, "rest": rest}
    return MARK.sub(lambda match: parts[match[1]](), markdown)


# --- command line --------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Path such as "geoglot index add" -> its click command, groups before what they hold."""
    import typer

    from geoglot.cli.app import app

    root = typer.main.get_command(app)
    return dict(_below(root, "geoglot", root.make_context("geoglot", ["doctor"])))


def _below(command: Any, path: str, context: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for verb in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from _below(command.get_command(context, verb), f"{path} {verb}", context)


def command_line() -> str:
    """A section for each command: what it does, how it is called, its options."""
    return "\n".join(_command(path, command) for path, command in commands().items())


def _command(path: str, command: Any) -> str:
    level = "##" if path.count(" ") <= 1 else "###"
    arguments = " ".join(_argument(param) for param in command.params if not _flags(param))
    usage = f"{path} {arguments}".strip()
    lines = [f"{level} {path}", "", _text(command.help or command.short_help or ""), ""]
    if not hasattr(command, "list_commands"):
        lines += ["```console", *dict.fromkeys([usage, *examples(command)]), "```", ""]
    rows = [_option(param) for param in command.params if _flags(param) and not param.hidden]
    if rows:
        lines += ["| option | default | meaning |", "|---|---|---|", *rows, ""]
    described = [
        f"- `{_argument(p)}`: {_cell(p.help)}" for p in command.params if not _flags(p) and getattr(p, "help", "")
    ]
    return "\n".join([*lines, *described, ""])


def examples(command: Any) -> list[str]:
    """The command lines of an epilog; several are parted by a bar between spaces."""
    told = re.findall(r"geoglot .*", command.epilog or "")
    return [line.strip() for each in told for line in each.split("   |   ")]


def _flags(param: Any) -> list[str]:
    return [name for name in (*param.opts, *param.secondary_opts) if name.startswith("-")]


def _argument(param: Any) -> str:
    name = (param.metavar or param.name.upper()).strip("[]")
    name = name if name.endswith("...") or param.nargs == 1 else f"{name}..."
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(_flags(param), key=lambda name: (not name.startswith("--"), name)))
    takes = "" if param.is_flag else f" {param.metavar or KINDS.get(param.type.name, param.type.name.upper())}"
    return f"| {names}{takes} | {_default(param)} | {_cell(param.help or '')}{_environment(param)} |"


def _default(param: Any) -> str:
    if param.required:
        return "needed"
    if param.is_flag or param.default in (None, [], (), ""):
        return "on" if param.is_flag and param.default is True else ""
    return f"`{param.default}`"


def _environment(param: Any) -> str:
    names = [param.envvar] if isinstance(param.envvar, str) else list(param.envvar or ())
    return f" Also `{'`, `'.join(names)}`." if names else ""


def _text(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# --- REST ----------------------------------------------------------------------------------------


def openapi() -> dict[str, Any]:
    """The server's own description, made without an archive."""
    from geoglot.server.app import create_app
    from geoglot.server.archives import ArchivePool
    from geoglot.server.settings import Settings

    with TemporaryDirectory() as state:
        schema: dict[str, Any] = create_app(ArchivePool({}), Settings(state=Path(state))).openapi()
        return schema


def rest() -> str:
    """A section for each operation: what it does, its parameters and its body's fields."""
    schema = openapi()
    parts = [
        _operation(method, path, operation, schema)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    about = _text(operation.get("description") or operation.get("summary", ""))
    lines = [f"### {method.upper()} `{path}`", "", about, ""]
    rows = [
        _field(each["name"], each["in"], each.get("required", False), each["schema"], each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    rows += [
        row for body in operation.get("requestBody", {}).get("content", {}).values() for row in _body(body, schema)
    ]
    if rows:
        lines += ["| name | in | type | default | meaning |", "|---|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _body(body: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    shape = body.get("schema", {})
    if "$ref" in shape:
        shape = schema["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
    needed = shape.get("required", ())
    for name, each in shape.get("properties", {}).items():
        yield _field(name, "body", name in needed, each, each.get("description", ""))


def _field(name: str, where: str, required: bool, shape: Mapping[str, Any], about: str) -> str:
    value = shape.get("default")
    default = "needed" if required else "" if value in (None, [], "") else f"`{json.dumps(value, ensure_ascii=False)}`"
    return f"| `{name}` | {where} | {_type(shape)} | {default} | {_cell(about or shape.get('description', ''))} |"


def _type(shape: Mapping[str, Any]) -> str:
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_type(each) for each in shape["anyOf"] if each.get("type") != "null"))
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    return str(shape.get("type") or shape.get("$ref", "any").rpartition("/")[2])
