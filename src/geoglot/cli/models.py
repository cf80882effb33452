"""`geoglot models`: which models there are, what is known of them, and how they get onto this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoglot.cli.app import PLAIN
from geoglot.errors import UsageError

if TYPE_CHECKING:
    from geoglot.models.card import Card
    from geoglot.models.encoder import Images
    from geoglot.models.towers.architecture import Activation
    from geoglot.models.zoo.compare import Agreement
    from geoglot.models.zoo.install import Installed

DRAWN_PX, DRAWN_SEED = 224, 4_000_000
"""Of the chips that `compare` draws; no recipe trains on these seeds."""

app = typer.Typer(
    **PLAIN,
    no_args_is_help=True,
    help="List, show, pull, bundle, convert, export and compare models. Only `pull` touches the network.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Accept = Annotated[
    bool, typer.Option("--accept-licence", "-y", help="Accept the weights' terms; `models show NAME` prints them.")
]
ActivationName = Annotated[
    str | None,
    typer.Option("--activation", metavar="NAME", help="quick_gelu | gelu | gelu_tanh, where the card is in doubt."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a model of that name.")]


@app.command(name="list", epilog="Example:   geoglot models list --installed")
def list_models(
    installed: Annotated[bool, typer.Option("--installed", help="Only models on this machine.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every model that geoglot knows by name."""
    from geoglot.models.zoo.registry import all_models, find_card

    cards = [card for card in map(find_card, all_models()) if card.files or not installed]
    if as_json:
        _print_json([_summary(card) for card in cards])
    else:
        _print_list(cards)


def _summary(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "family": _family(card),
        "parameters": card.parameters,
        "dim": card.dim,
        "image_px": card.image_px,
        "languages": card.languages,
        "licence": _licence(card),
        "installed": bool(card.files),
        "runtimes": _runtimes(card),
    }


def _licence(card: Card) -> str:
    return card.licence.id if card.licence else str(card.about.get("licence", "none stated")).partition(" ")[0]


def _runtimes(card: Card) -> list[str]:
    roles = set(card.files)
    return ["light"] * ({"image", "text"} <= roles) + ["torch"] * ("weights" in roles)


def _print_list(cards: list[Card]) -> None:
    """Grouped by family: names are long, and 80 columns are few."""
    from itertools import groupby

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from geoglot.cli.screen import plural, results, say

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("family and name", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("dim", justify="right", no_wrap=True)
    table.add_column("lang.", no_wrap=True)
    table.add_column("licence", overflow="fold", min_width=11)
    table.add_column("here", no_wrap=True)
    for family, group in groupby(sorted(cards, key=_family), key=_family):
        table.add_row(family, style="bold")
        for card in group:
            size = f"{card.parameters / 1e6:,.0f} M" if card.parameters else "-"
            spoken = " ".join(card.languages) if len(card.languages) < 3 else f"{len(card.languages)}"
            here = "yes" if card.files else ""
            table.add_row(card.name, size, str(card.dim), spoken, _licence(card), here)
    results().print(table)
    say(f"{plural(len(cards), 'model')}. More on one: geoglot models show NAME. To get one: geoglot models pull NAME")


def _family(card: Card) -> str:
    return str(card.about.get("family", "geoglot"))


@app.command(epilog="Example:   geoglot models show georsclip-vit-b-32")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, hf-hub:org/repo, or a model folder.")],
    as_json: AsJson = False,
) -> None:
    """Say what is known of a model: shape, input, training data, overlap with benchmarks, terms, where it lies."""
    from geoglot.models.zoo.registry import find_card

    card = find_card(name)
    if as_json:
        _print_json(_everything(card))
    else:
        _print_card(card)


def _everything(card: Card) -> dict[str, Any]:
    values = asdict(card) | {"folder": str(card.folder), "fingerprint": card.fingerprint if card.files else None}
    return values | {"installed": bool(card.files), "runtimes": _runtimes(card)}


def _print_card(card: Card) -> None:
    from rich.table import Table

    from geoglot.cli.screen import results

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _card_rows(card):
        table.add_row(label, value)
    results().print(table)


def _card_rows(card: Card) -> Iterator[tuple[str, str]]:
    about, training = card.about, card.about.get("training", {})
    yield "name", f"{card.name}, version {card.version}"
    yield "what", about.get("summary", "")
    yield "here", f"{card.folder} ({', '.join(_runtimes(card))})" if card.files else f"no. {card.how_to_get}"
    if card.architecture:
        vision, text = card.architecture.vision, card.architecture.text
        size = f"{card.parameters:,} parameters" if card.parameters else "size not known"
        yield "shape", f"{vision.kind} {vision.patch_px} px patches, {text.kind} text of {text.context} tokens, {size}"
        yield "activation", f"{card.architecture.activation} ({card.doubts.activation}). {card.doubts.activation_why}"
    if card.doubts.context == "detect":
        yield "context", card.doubts.context_why
    yield "input", f"{card.image_px} px" + (f", {card.preprocess.resize}" if card.preprocess else "")
    yield "vectors", f"{card.dim} wide" + (f", {card.fingerprint}" if card.files else "")
    yield "languages", " ".join(card.languages)
    yield "resolution", f"{card.gsd_m[0]:g} to {card.gsd_m[1]:g} m per pixel" if card.gsd_m else "not stated"
    yield "confidence", "calibrated" if card.calibrated else "not calibrated: places are ranked, not rated"
    yield "trained on", "\n".join(training.get("data", ["not stated"]))
    yield "overlap", "\n".join(training.get("known_overlap", ["not stated"]))
    yield "licence", f"{_licence(card)}. {card.licence.text}" if card.licence else str(about.get("licence", ""))
    if card.source:
        yield "from", " ".join(filter(None, (card.source.address or "no public address.", card.source.note)))
    yield "cite", about.get("citation", "-")


@app.command(epilog="Example:   geoglot models pull georsclip-vit-b-32 --accept-licence")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A released model, hf-hub:org/repo[/file], or a bundle.")],
    accept: Accept = False,
    activation: ActivationName = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a released model and convert it, or take it out of a bundle. The only command that touches the network.

    Prints the weights' terms first. What broke off goes on when the command is run again.
    """
    from geoglot.models.zoo.bundle import is_bundle
    from geoglot.models.zoo.install import pull as fetch_model

    if is_bundle(Path(name)):
        _unpack(Path(name), force, as_json)
        return
    accepted = _tell_terms(name, accept)
    with _download_progress() as show_progress:
        made = fetch_model(
            name,
            accept_licence=accepted,
            activation=_activation(activation),
            force=force,
            on_progress=show_progress,
        )
    _tell_installed(made, as_json)


def _activation(name: str | None) -> Activation | None:
    from typing import get_args

    from geoglot.errors import UnknownNameError
    from geoglot.models.towers.architecture import Activation

    if name is not None and name not in get_args(Activation):
        raise UnknownNameError("activation", name, get_args(Activation))
    return name  # type: ignore[return-value]  # one of the literals


def _tell_terms(name: str, accepted: bool) -> bool:
    """Print the terms; ask on a terminal where they need consent. True when they are accepted."""
    from geoglot.cli.screen import notes
    from geoglot.models.zoo.registry import HUB, released_at, released_card

    card = released_at(name) if name.startswith(HUB) else released_card(name)
    if card is None or card.licence is None:
        return accepted
    notes().print(f"Terms of {card.name} ({card.licence.id}): {card.licence.text}")
    if accepted or not card.licence.needs_consent or not sys.stdin.isatty():
        return accepted
    return typer.confirm("Do you accept these terms?", err=True)


@contextmanager
def _download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on stderr."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from geoglot.cli.screen import notes

    columns = (TextColumn("Fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda _, done, total: bar.update(task, completed=done, total=total)


def _tell_installed(made: Installed, as_json: bool) -> None:
    from geoglot.cli.screen import results, say

    if as_json:
        _print_json(_everything(made.card) | {"notes": made.notes})
        return
    results().print(f"{made.card.name} is in {made.card.folder}", soft_wrap=True)
    for note in made.notes:
        say(note)
    say(f"Now: geoglot index SCENES --archive NEW --model {made.card.name}")


@app.command(epilog="Example:   geoglot models bundle rs-m-clip --output rs-m-clip.tar")
def bundle(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model on this machine; with --unpack a bundle file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write. Default: NAME.tar here.")
    ] = None,
    unpack: Annotated[bool, typer.Option("--unpack", help="Take the model out of the bundle file NAME.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Put a model into one file with checksums, for a machine without a network; or take it out there."""
    from geoglot.cli.screen import results
    from geoglot.models.zoo.bundle import bundle as write_bundle

    if unpack:
        if output is not None:
            raise UsageError("--output and --unpack are given together", hint="Set GEOGLOT_HOME to choose the store.")
        _unpack(Path(name), force, as_json)
        return
    path = write_bundle(name, output)
    size = path.stat().st_size
    if as_json:
        _print_json({"bundle": str(path), "size_bytes": size})
    else:
        results().print(f"Wrote {path} ({size / 1e6:,.1f} MB). There: geoglot models pull {path.name}", soft_wrap=True)


def _unpack(path: Path, force: bool, as_json: bool) -> None:
    from geoglot.models.zoo.bundle import unpack
    from geoglot.models.zoo.install import Installed

    card = unpack(path, force=force)
    terms = f"terms ({card.licence.id}): {card.licence.text}" if card.licence else f"terms: {_licence(card)}"
    _tell_installed(Installed(card, (terms,)), as_json)


@app.command(epilog="Example:   geoglot models convert CLIP_RS.pt --card clip-rs --activation quick_gelu")
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint file or folder in any layout.")],
    card: Annotated[
        str | None, typer.Option(metavar="NAME", help="The released model that it is; it is checked strictly.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name here. Default: the card's.")] = None,
    activation: ActivationName = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its tokenizer.json. Default: beside FILE, or a pulled model's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model from a checkpoint that is already here; no code of the file is run, and nothing is fetched."""
    from geoglot.models.zoo.install import convert as convert_file

    made = convert_file(checkpoint, card_name=card, name=name, activation=_activation(activation), tokenizer=tokenizer)
    _tell_installed(made, as_json)


@app.command(epilog="Example:   geoglot models export georsclip-vit-b-32 --precision int8")
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model on this machine that PyTorch runs.")],
    precision: Annotated[str, typer.Option(metavar="NAME", help="fp32 | int8.")] = "int8",
    as_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name here. Default: NAME-PRECISION.")
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A picture to measure on; repeat. Default: drawn chips, which are easy."),
    ] = None,
    allow_below: Annotated[
        bool, typer.Option("--allow-below", help="Keep it even if it agrees too little with the original.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a light model, which needs no PyTorch, from one that PyTorch runs; measure how far the two agree."""
    import numpy as np

    from geoglot.cli.screen import plural, results, say
    from geoglot.errors import UnknownNameError
    from geoglot.models.zoo.compare import Agreement
    from geoglot.models.zoo.install import export as export_light
    from geoglot.models.zoo.registry import find_card

    if precision not in ("fp32", "int8"):
        raise UnknownNameError("precision", precision, ("fp32", "int8"))
    card = find_card(name)
    chips = np.stack(_pictures(image or [], card.image_px))
    chips_from = f"{len(chips)} pictures of the user" if image else f"{len(chips)} chips drawn by the sandbox"
    made = export_light(
        card, "fp32" if precision == "fp32" else "int8", chips, chips_from, name=as_name, allow_below=allow_below
    )
    if as_json:
        _print_json(_everything(made))
        return
    told = made.about["export"]
    results().print(f"{made.name} is in {made.folder}", soft_wrap=True)
    _print_agreement(Agreement(**told["agreement"]))
    kept = f"; {plural(len(told['kept_fp32']), 'product')} left in fp32" if told["kept_fp32"] else ""
    say(f"Measured against {card.name} on {told['measured_on']}{kept}.")
    say(f"Now: geoglot index SCENES --archive NEW --model {made.name}")


@app.command(epilog="Example:   geoglot models compare georsclip-vit-b-32 georsclip-vit-b-32-int8")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another, or the same exported.")],
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A picture; repeat. Default: 48 drawn chips.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts, one a line. Default: names of what is drawn.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far two models agree: cosines of their vectors, and their order of the same pictures for the same texts.

    Cosines only mean something between versions of one model: other models have other spaces.
    """
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.compare import agreement, encode

    asked = _texts(texts)
    first, second = load_encoder(a), load_encoder(b)
    side = max(first.card.image_px, second.card.image_px)
    pictures = _pictures(image or [], side)
    found = agreement(encode(first, pictures, asked), encode(second, pictures, asked))
    if as_json:
        _print_json({"a": first.card.name, "b": second.card.name, **asdict(found)})
    else:
        _print_agreement(found)


def _texts(file: Path | None) -> list[str]:
    if file is None:
        from geoglot.data.drawn import KINDS

        return [kind.replace("_", " ") for kind in KINDS]
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return [line for line in lines if line]


def _pictures(files: list[Path], side: int) -> list[Images]:
    if files:
        from geoglot.archive.query import read_picture

        return [read_picture(str(file), side)[0] for file in files]
    from geoglot.data.drawn import KINDS, draw_sample

    return [draw_sample(kind, DRAWN_SEED, DRAWN_PX).rgb for kind in KINDS]


def _print_agreement(found: Agreement) -> None:
    from geoglot.cli.screen import plural, results, say

    for label, cosine in (("pictures", found.image_cosine), ("texts", found.text_cosine)):
        told = f"mean {cosine[0]:.4f}, least {cosine[1]:.4f}" if cosine else "not comparable: the widths differ"
        results().print(f"cosine of {label:<9} {told}")
    results().print(f"same order          {found.order:.3f}  (rank correlation over pictures, mean of the texts)")
    results().print(f"same first picture  {found.first:.0%}  of the texts")
    say(f"{plural(found.pictures, 'picture')}, {plural(found.texts, 'text')}.")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
