"""Bring released models into the store: terms, download, strict conversion, a card that says what was seen.

`pull` fetches, `convert` takes a file that is already here, `install` is what both end in. Everything lands as a model
folder: card.toml, model.safetensors, tokenizer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from geoglot.errors import DownloadError, MissingExtraError, ModelFileError, TermsError, UsageError
from geoglot.files import sha256
from geoglot.models.card import Card, read_card
from geoglot.models.encoder import Images
from geoglot.models.towers.architecture import Activation, Architecture
from geoglot.models.zoo.card_toml import card_values, write_card
from geoglot.models.zoo.hub import Fetched, OnProgress, fetch, list_repository
from geoglot.models.zoo.origin import Source, TokenizerSource
from geoglot.models.zoo.registry import (
    CARDS,
    CHECKPOINTS,
    HUB,
    hub_name,
    released_at,
    released_card,
    split_hub,
)
from geoglot.models.zoo.store import downloads, installed_models, is_installed, place, writing
from geoglot.version import __version__

WEIGHTS_FILE = "model.safetensors"
TOKENIZERS = {
    "clip": TokenizerSource("clip_bpe", "openai/clip-vit-base-patch32", "tokenizer.json"),
    "xlmr": TokenizerSource("sentencepiece_xlmr", "FacebookAI/xlm-roberta-base", "tokenizer.json"),
    "siglip": TokenizerSource("gemma", "google/siglip2-base-patch16-224", "tokenizer.json"),
}
"""Of a text tower whose card is not known."""
CLIP_INPUT = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
SIGLIP_INPUT = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize": "squash"}


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that was brought into the store.

    Attributes:
        card: Read back from there.
        notes: What was decided, by whom, and what was checked against what; for people.
    """

    card: Card
    notes: tuple[str, ...]


def pull(
    name: str,
    *,
    accept_licence: bool = False,
    activation: Activation | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Installed:
    """Fetch a released model and convert it. A model that is here already is left alone, unless `force`.

    Args:
        name: A released model's name, or `hf-hub:org/repo[/file]`.
        accept_licence: Needed when the terms are non-commercial, or nobody states them.
        activation: For models whose card marks it as assumed or undecided, and for models without a card.
        force: Fetch and convert again.
        on_progress: See `fetch`.

    Raises:
        ModelNotFoundError: No such name.
        TermsError: The terms must be accepted first.
        UsageError: The activation must be chosen.
        DownloadError, ModelFileError, StorageError, ModelBusyError, MissingExtraError: As they say.
    """
    card = released_at(name) if name.startswith(HUB) else released_card(name)
    if card is None:
        return _pull_hub(name, accept_licence, activation, force, on_progress)
    name = card.name
    if is_installed(name) and not force:
        return Installed(read_card(place(name)), (f"{name} is here already: {place(name)}",))
    check_ready(card, accept_licence, activation)
    return _pull_card(card, card_values(CARDS / f"{name}.toml"), activation, on_progress)


def check_ready(card: Card, accept_licence: bool, activation: Activation | None) -> None:
    """Everything that can be known to fail before gigabytes are fetched.

    Raises:
        DownloadError, TermsError, UsageError, MissingExtraError: See `pull`.
    """
    if card.source is None or not card.source.address:
        raise DownloadError(f"{card.name} has no public address", hint=card.how_to_get)
    if card.licence and card.licence.needs_consent and not accept_licence:
        raise TermsError(
            f"the terms of {card.name} must be accepted first ({card.licence.id}): {card.licence.text}",
            hint=f"If you accept them: geoglot models pull {card.name} --accept-licence",
        )
    if card.doubts.activation == "undecided" and activation is None:
        raise UsageError(f"the activation of {card.name} is not known", hint=card.doubts.activation_why)
    check_torch("reading a released checkpoint")


def check_torch(what: str) -> None:
    """Raises MissingExtraError when PyTorch or safetensors is not installed."""
    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise MissingExtraError(what, "torch")


def _pull_card(
    card: Card, values: dict[str, Any], activation: Activation | None, on_progress: OnProgress | None
) -> Installed:
    """Downloads stay until the model is whole, so that a failure later costs no second download."""
    scratch = downloads(card.name)
    weights = fetch(card.source or Source(), scratch, on_progress)
    tokenizer = _fetch_tokenizer(card.tokenizer, scratch, on_progress)
    made = install(card, values, weights.path, tokenizer.path, activation=activation, fetched=weights)
    shutil.rmtree(scratch, ignore_errors=True)
    return made


def _fetch_tokenizer(wanted: TokenizerSource | None, scratch: Path, on_progress: OnProgress | None) -> Fetched:
    if wanted is None or not wanted.repo:
        raise ModelFileError("the card names no tokenizer to fetch")
    return fetch(Source(wanted.repo, wanted.file, max_bytes=200_000_000), scratch / "tokenizer", on_progress)


def _pull_hub(
    address: str, accept_licence: bool, activation: Activation | None, force: bool, on_progress: OnProgress | None
) -> Installed:
    """A repository that no card here knows: the model is recognised from its weights."""
    repo, file = split_hub(address)
    name = hub_name(repo, file)
    if is_installed(name) and not force:
        return Installed(read_card(place(name)), (f"{address} is here already: {place(name)}",))
    if not accept_licence:
        raise TermsError(
            f"{address} has no card here, so its terms are not known: read them on its page",
            hint=f"If you accept them: geoglot models pull {address} --accept-licence",
        )
    check_torch("reading a released checkpoint")
    scratch = downloads(name)
    weights = fetch(Source(repo, file or _only_weights(repo)), scratch, on_progress)
    found = recognise(weights.path, activation)
    tokenizer = _fetch_tokenizer(TOKENIZERS[found.text.kind], scratch, on_progress)
    values = bare_values(name, found, Source(repo, file or weights.path.name))
    made = install(None, values, weights.path, tokenizer.path, activation=activation, fetched=weights)
    shutil.rmtree(scratch, ignore_errors=True)
    return made


def _only_weights(repo: str) -> str:
    files = [file for file in list_repository(repo) if file.endswith(CHECKPOINTS)]
    preferred = [file for file in files if file.endswith(".safetensors")] or files
    if len(preferred) == 1:
        return preferred[0]
    raise DownloadError(
        f"hf-hub:{repo} holds {len(preferred)} files of weights", hint=f"Add one: {', '.join(preferred[:8]) or 'none'}"
    )


def recognise(checkpoint: Path, activation: Activation | None) -> Architecture:
    """Detect the shape of a checkpoint without a card; reads it once.

    Raises:
        ModelFileError: Not a dual encoder that is known.
        UsageError: The activation must be chosen.
    """
    from geoglot.models.checkpoints.load import load_checkpoint

    return load_checkpoint(checkpoint, activation=activation).architecture


def bare_values(name: str, found: Architecture, source: Source | None = None) -> dict[str, Any]:
    """A card for a checkpoint that nobody described. Input and languages follow the family, and say so."""
    values: dict[str, Any] = {
        "name": name,
        "version": "1",
        "family": "unknown",
        "summary": "Converted from a checkpoint without a card; preprocessing and languages are those of its family.",
        "dim": found.dim,
        "image_px": found.vision.image_px,
        "languages": ["en"],
        "architecture": asdict(found),
        "preprocess": SIGLIP_INPUT if found.text.kind == "siglip" else CLIP_INPUT,
        "tokenizer": asdict(TOKENIZERS[found.text.kind]),
        "licence": {"id": "none stated", "use": "unstated", "text": "Nobody told geoglot the terms of these weights."},
    }
    if source is not None:
        values["source"] = asdict(source)
    return values


def convert(
    checkpoint: Path,
    *,
    card_name: str | None = None,
    name: str | None = None,
    activation: Activation | None = None,
    tokenizer: Path | None = None,
) -> Installed:
    """Make a model of the store from a checkpoint file or folder that is already here. Never touches the network.

    Args:
        checkpoint: In any released layout.
        card_name: The released model that it is; its card is used and checked strictly.
        name: The store's name; default the card's.
        activation: Where the card is in doubt, or there is no card.
        tokenizer: Its file; default one beside the checkpoint, or of an installed model with the same kind.

    Raises:
        UsageError: Neither card nor name is given, or the activation must be chosen.
        ModelNotFoundError, ModelFileError, StorageError, ModelBusyError, MissingExtraError: As they say.
    """
    check_torch("reading a checkpoint")
    if card_name is None and name is None:
        raise UsageError("what is this checkpoint?", hint="Say --card NAME (geoglot models list) or --name NAME.")
    if card_name is not None:
        card = released_card(card_name)
        values = {**card_values(CARDS / f"{card_name}.toml"), "name": name or card_name}
        wanted = card.tokenizer
    else:
        found = recognise(checkpoint, activation)
        card, values = None, bare_values(str(name), found)
        wanted = TOKENIZERS[found.text.kind]
    return install(card, values, checkpoint, tokenizer or _find_tokenizer(checkpoint, wanted), activation=activation)


def _find_tokenizer(checkpoint: Path, wanted: TokenizerSource | None) -> Path:
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if (folder / "tokenizer.json").is_file():
        return folder / "tokenizer.json"
    for name in installed_models():
        card = read_card(place(name))
        if card.tokenizer and wanted and card.tokenizer.kind == wanted.kind and "tokenizer" in card.files:
            return card.file("tokenizer")
    kind, address = (wanted.kind, f"{wanted.repo}/{wanted.file}") if wanted else ("", "")
    raise ModelFileError(
        f"no {kind} tokenizer is here: looked for tokenizer.json in {folder}, and in the models of {place('x').parent}",
        hint=f"Add --tokenizer FILE (the hub keeps one at {address}), or pull any model with a {kind} tokenizer first.",
    )


def install(
    card: Card | None,
    values: dict[str, Any],
    checkpoint: Path,
    tokenizer: Path,
    *,
    activation: Activation | None = None,
    fetched: Fetched | None = None,
) -> Installed:
    """Convert a checkpoint strictly and put a whole model folder in the store.

    Args:
        card: What it must be; None to recognise it.
        values: The raw card to start from.
        checkpoint, tokenizer: Files that are here.
        activation: See `convert`.
        fetched: Where the checkpoint came from, for the record.
    """
    from geoglot.models.checkpoints.convert import load_for_card, write_safetensors

    loaded = load_for_card(checkpoint, card, activation=activation)
    values = {**values, "architecture": asdict(loaded.architecture)}
    if card is None and loaded.preprocess is not None:
        values["preprocess"] = asdict(loaded.preprocess)
    values["converted"] = _record(checkpoint, fetched, loaded.source)
    with writing(str(values["name"])) as folder:
        write_safetensors(loaded.tensors, folder / WEIGHTS_FILE, {"geoglot.activation": loaded.architecture.activation})
        shutil.copyfile(tokenizer, folder / tokenizer.name)
        names = {"weights": WEIGHTS_FILE, "tokenizer": tokenizer.name}
        values["files"] = {role: {"file": file, "sha256": sha256(folder / file)} for role, file in names.items()}
        made = write_card(folder, values)
        _check_tokenizer(made)
    made = replace(made, folder=place(made.name))
    return Installed(made, (*_told(made, fetched), loaded.summary, *loaded.notes))


def export(
    card: Card,
    precision: Literal["fp32", "int8"],
    chips: Images,
    chips_from: str,
    *,
    name: str | None = None,
    allow_below: bool = False,
) -> Card:
    """Make a light model of the store from one that PyTorch runs; see `export_dual.export_model` for the arguments.

    Raises:
        ModelFileError, DisagreementError, StorageError, ModelBusyError, MissingExtraError: As they say.
    """
    card.file("weights")
    check_torch("exporting a model")
    from geoglot.models.export.dual import export_model

    target = name or f"{card.name}-{precision}"
    with writing(target) as folder:
        export_model(
            card,
            folder,
            precision=precision,
            chips=chips,
            chips_from=chips_from,
            name=target,
            allow_below=allow_below,
        )
    return read_card(place(target))


def _check_tokenizer(card: Card) -> None:
    """A tokenizer that does not fit its text tower must not get into the store."""
    from geoglot.models.tokenizers.load import load_tokenizer

    load_tokenizer(card)


def _record(checkpoint: Path, fetched: Fetched | None, activation_by: str) -> dict[str, Any]:
    """Facts of the conversion, so that another machine can compare."""
    record: dict[str, Any] = {
        "from": fetched.address if fetched else checkpoint.name,
        "when": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "geoglot": __version__,
        "activation_by": activation_by,
    }
    if fetched:
        return record | {"sha256_seen": fetched.sha256, "sha256_checked": fetched.checked}
    return record | ({"sha256_seen": sha256(checkpoint)} if checkpoint.is_file() else {})


def _told(card: Card, fetched: Fetched | None) -> Iterator[str]:
    if fetched:
        against = {"published": "the published one", "hub": "the hub's own", "nothing": "nothing: nobody publishes one"}
        yield f"sha256 {fetched.sha256}, checked against {against[fetched.checked]}"
    if card.doubts.activation != "known" and card.architecture:
        yield f"activation {card.architecture.activation}: {card.doubts.activation_why}"
    if card.doubts.context == "detect" and card.architecture:
        yield f"text of {card.architecture.text.context} tokens, read off the checkpoint: {card.doubts.context_why}"
