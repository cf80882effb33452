"""Names to cards: bundled models, models in the store, released models that may be pulled, folders, hub addresses.

A name is looked up in this order: bundled, in the store, released (then the card names no files), a folder. The schemes
`hf-hub:org/repo[/file]` and `local-dir:folder` say which one is meant.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from geoglot.errors import ModelNotFoundError
from geoglot.models.card import CARD_FILE, Card, read_card, read_card_file
from geoglot.models.zoo.store import installed_models, is_installed, place

BUNDLED = Path(__file__).parents[1] / "bundled"
CARDS = Path(__file__).parents[1] / "cards"
DEFAULT_MODEL = "geoglot-mini"
HUB, LOCAL = "hf-hub:", "local-dir:"
CHECKPOINTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
"""Suffixes of checkpoint files."""


def bundled_models() -> tuple[str, ...]:
    """Names of the models that ship inside the package."""
    return tuple(sorted(folder.name for folder in BUNDLED.iterdir() if (folder / CARD_FILE).is_file()))


@cache
def released_models() -> tuple[str, ...]:
    """Names of the released models that a card ships for."""
    return tuple(sorted(path.stem for path in CARDS.glob("*.toml")))


def released_card(name: str) -> Card:
    """The card of a released model as it ships: it names no files, whether the model was pulled or not.

    Raises:
        ModelNotFoundError: No such card; the hint suggests the nearest.
    """
    if name not in released_models():
        raise _not_found("released model", name, released_models())
    return read_card_file(CARDS / f"{name}.toml", place(name))


def all_models() -> tuple[str, ...]:
    """Every name that `find_card` knows without a path."""
    return tuple(sorted({*bundled_models(), *installed_models(), *released_models()}))


def find_card(name: str = DEFAULT_MODEL) -> Card:
    """The card of a model.

    Args:
        name: A name, `hf-hub:org/repo[/file]`, `local-dir:folder`, or a folder that holds a card.toml.

    Raises:
        ModelNotFoundError: Nothing of that name; suggests the nearest. For a checkpoint file it says how to convert it.
        ModelFileError: The card cannot be read.
    """
    if name.startswith(HUB):
        return hub_card(name)
    if name.startswith(LOCAL):
        return read_card(Path(name.removeprefix(LOCAL)).expanduser())
    if name in bundled_models():
        return read_card(BUNDLED / name)
    if is_installed(name):
        return read_card(place(name))
    if name in released_models():
        return released_card(name)
    return _card_at(name)


def _card_at(name: str) -> Card:
    path = Path(name).expanduser()
    if holds_weights(path):
        raise ModelNotFoundError(
            f"{path} holds weights but no {CARD_FILE}",
            hint=f"Convert it once, then use the name you gave: geoglot models convert '{path}' --name NAME",
        )
    if path.is_dir():
        return read_card(path)
    if path.suffix in CHECKPOINTS:
        raise ModelNotFoundError(f"there is no file {path}")
    raise _not_found("model", name, all_models())


def holds_weights(path: Path) -> bool:
    """Whether this is a checkpoint file, or a folder with checkpoints and without a card."""
    if path.is_dir():
        return not (path / CARD_FILE).is_file() and any(file.suffix in CHECKPOINTS for file in path.iterdir())
    return path.is_file() and path.suffix in CHECKPOINTS


def hub_card(address: str) -> Card:
    """The card for `hf-hub:org/repo[/file]`: of a released model kept there, or of one pulled from there.

    Raises:
        ModelNotFoundError: Nothing known is kept there, or several are; the hint says what to do.
    """
    if (known := released_at(address)) is not None:
        return find_card(known.name)
    name = hub_name(*split_hub(address))
    if is_installed(name):
        return read_card(place(name))
    raise ModelNotFoundError(
        f"{address} is not on this machine; looked in {place(name)}", hint=f"Run: geoglot models pull {address}"
    )


def released_at(address: str) -> Card | None:
    """The released card whose weights are kept at `hf-hub:org/repo[/file]`, as it ships.

    Raises:
        ModelNotFoundError: Several are; the hint names their files.
    """
    repo, file = split_hub(address)
    cards = [released_card(name) for name in released_models()]
    known = [c for c in cards if c.source and c.source.repo == repo and file in ("", c.source.file)]
    if len(known) > 1:
        files = ", ".join(c.source.file for c in known if c.source)
        raise ModelNotFoundError(f"{address} holds several models", hint=f"Add the file: {files}")
    return known[0] if known else None


def split_hub(address: str) -> tuple[str, str]:
    """`hf-hub:org/repo/some/file` -> (`org/repo`, `some/file`).

    Raises:
        ModelNotFoundError: It is not an address of that form.
    """
    parts = address.removeprefix(HUB).strip("/").split("/")
    if len(parts) < 2 or not all(parts):
        raise ModelNotFoundError(f"{address!r} is not an address", hint=f"Write {HUB}org/repo or {HUB}org/repo/file")
    return "/".join(parts[:2]), "/".join(parts[2:])


def hub_name(repo: str, file: str) -> str:
    """The store's name for a model of the hub that has no card here."""
    stem = file.rpartition(".")[0] if "." in file.rpartition("/")[2] else file
    words = [*repo.split("/"), *([stem] if stem else [])]
    return re.sub(r"[^a-z0-9._-]+", "-", "--".join(words).lower()).strip("-._")[:100]


def _not_found(kind: str, name: str, known: tuple[str, ...]) -> ModelNotFoundError:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    suggestion = f"Did you mean {near[0]!r}? " if near else ""
    return ModelNotFoundError(
        f"unknown {kind} {name!r}",
        hint=f"{suggestion}All names: geoglot models list. Or give a folder that holds a {CARD_FILE}.",
    )
