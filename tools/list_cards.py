"""Writes docs/reference/released-models.md from the cards. Run it after a card changes; a test compares the two.

python tools/list_cards.py
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from geoglot.models.card import Card
from geoglot.models.zoo.registry import released_card, released_models

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "released-models.md"

HEAD = """# Released models

Every released model that has a card here; `geoglot models show NAME` says the same and more, and `geoglot models pull
NAME` brings it. This page is made from the cards by `python tools/list_cards.py`.

None of the authors' weights are part of geoglot. Their terms are their own: `pull` prints them, and wants
`--accept-licence` where they are non-commercial or not stated. None of these models is calibrated: an archive ranks
places with them, but gives no [confidence](../explanation/confidence-and-nothing-matches.md). Nobody states the ground
sample distances that they were trained on, so the cards do not either.
"""


def page() -> str:
    """The whole page."""
    cards = sorted(map(released_card, released_models()), key=_family)
    parts = [HEAD]
    for family, group in groupby(cards, key=_family):
        parts.append(_section(family, list(group)))
    return "\n".join(parts).rstrip() + "\n"


def _family(card: Card) -> str:
    return str(card.about["family"])


TITLES = ("name", "input", "parameters", "width", "text", "activation")


def _section(family: str, cards: list[Card]) -> str:
    lines = [f"## {family}", "", f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
    lines += [*map(_row, cards), ""]
    lines += _told("Terms", {card.name: _terms(card) for card in cards})
    lines += _told("Activation", {card.name: card.doubts.activation_why for card in cards})
    lines += _told("Text context", {card.name: card.doubts.context_why for card in cards if card.doubts.context_why})
    lines += _told("Trained on", {card.name: "; ".join(card.about["training"]["data"]) for card in cards})
    overlap = {card.name: "; ".join(card.about["training"]["known_overlap"]) for card in cards}
    lines += _told("Overlap with benchmarks", overlap)
    lines += _told("From", {card.name: _origin(card) for card in cards})
    lines += _told("Cite", {card.name: str(card.about["citation"]) for card in cards})
    return "\n".join([*lines, ""])


def _row(card: Card) -> str:
    a = card.architecture
    if a is None:
        raise ValueError(f"{card.name} has no architecture")
    vision = f"{card.image_px} px, {'ResNet-50' if a.vision.kind == 'resnet' else f'patches of {a.vision.patch_px}'}"
    text = f"{' '.join(card.languages)}; {'77 or 248' if card.doubts.context == 'detect' else a.text.context} tokens"
    sure = "" if card.doubts.activation == "known" else f" ({card.doubts.activation})"
    return f"| `{card.name}` | {vision} | {card.parameters:,} | {card.dim} | {text} | {a.activation}{sure} |"


def _terms(card: Card) -> str:
    return f"{card.licence.id}. {card.licence.text}" if card.licence else "none stated"


def _origin(card: Card) -> str:
    if card.source is None or not card.source.address:
        return card.source.note if card.source else ""
    note = f" ({card.source.note})" if card.source.note else ""
    published = f", sha256 {card.source.sha256}" if card.source.sha256 else ", sha256 not published"
    return f"`{card.source.address}`{published}{note}"


def _told(label: str, values: dict[str, str]) -> list[str]:
    """Said once where all agree, else with the names it is said of."""
    texts: dict[str, list[str]] = {}
    for name, text in values.items():
        texts.setdefault(text, []).append(f"`{name}`")
    of_all = len(texts) == 1
    return [f"- **{label}.** {'' if of_all else ', '.join(names) + ': '}{text}" for text, names in texts.items()]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8", newline="\n")
