"""The cards that ship: each reads, agrees with itself, and says what a user must know before pulling."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from geoglot.errors import ModelNotFoundError
from geoglot.models.card import Card
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.zoo.registry import all_models, find_card, released_at, released_card, released_models
from geoglot.models.zoo.store import place

NAMES = released_models()
FAMILIES = {
    "OpenAI CLIP": 5, "LAION OpenCLIP": 5, "MetaCLIP": 4, "Long-CLIP": 2, "RemoteCLIP": 3, "SkyCLIP": 6, "GeoRSCLIP": 6,
    "FarSLIP": 6, "RS-M-CLIP": 1, "CLIP-RS": 1, "SigLIP 2": 2, "LRSCLIP": 1,
}  # fmt: skip
TOKENIZERS = {"clip": "clip_bpe", "xlmr": "sentencepiece_xlmr", "siglip": "gemma"}


def _block(width: int, mlp: int) -> int:
    """Two norms, one joint projection for q, k, v, one back, two feed-forward layers; all with biases."""
    return 4 * width + 3 * width * (width + 1) + width * (width + 1) + mlp * (width + 1) + width * (mlp + 1)


def _bottlenecks(stem: int, stages: tuple[int, ...]) -> int:
    """CLIP's ModifiedResNet: three stem convolutions, bottlenecks with norms, no biases."""
    total = 3 * 9 * (stem // 2) + 9 * (stem // 2) ** 2 + 9 * (stem // 2) * stem + 2 * (stem // 2 + stem // 2 + stem)
    into = stem
    for stage, blocks in enumerate(stages):
        inner = stem * 2**stage
        for block in range(blocks):
            total += into * inner + 9 * inner**2 + inner * 4 * inner + 2 * (inner + inner + 4 * inner)
            total += (into * 4 * inner + 2 * 4 * inner) if block == 0 else 0
            into = 4 * inner
    return total


def _vision(v: VisionShape, dim: int) -> int:
    if v.kind == "resnet":
        wide = v.width * 32
        pool = (v.grid**2 + 1) * wide + 3 * wide * (wide + 1) + dim * (wide + 1)
        return _bottlenecks(v.width, v.layers) + pool
    blocks = v.layers[0] * _block(v.width, v.mlp_width)
    if v.pooling == "map":  # a bias on the patches, no class token; a probe that attends, a norm, feed-forward
        ahead = 3 * v.patch_px**2 * v.width + v.width + v.grid**2 * v.width
        return ahead + blocks + 2 * v.width + v.width + _block(v.width, v.mlp_width) - 2 * v.width
    ahead = 3 * v.patch_px**2 * v.width + v.width + (v.grid**2 + 1) * v.width + 2 * v.width
    return ahead + blocks + 2 * v.width + v.width * dim


def _text(t: TextShape, dim: int) -> int:
    if t.kind == "xlmr":  # 514 positions, one segment, a norm after them; two projections without biases
        ahead = (t.vocabulary + 514 + 1 + 2) * t.width
        return ahead + t.layers * _block(t.width, t.mlp_width) + t.width * t.hidden + t.hidden * dim
    total = (t.vocabulary + t.context) * t.width + t.layers * _block(t.width, t.mlp_width) + 2 * t.width
    return total + t.width * dim + (dim if t.kind == "siglip" else 0)


def count(a: Architecture) -> int:
    """Parameters by hand; the logit scale, and SigLIP's bias."""
    return _vision(a.vision, a.dim) + _text(a.text, a.dim) + (2 if a.text.kind == "siglip" else 1)


def test_every_checkpoint_of_every_family_has_a_card() -> None:
    assert Counter(str(released_card(name).about["family"]) for name in NAMES) == FAMILIES
    assert len(set(NAMES)) == len(NAMES) == sum(FAMILIES.values())
    assert set(NAMES) < set(all_models())


@pytest.mark.parametrize("name", NAMES)
def test_a_card_reads_and_agrees_with_itself(name: str) -> None:
    card = released_card(name)
    a = card.architecture
    assert a is not None
    assert card.preprocess is not None
    assert card.tokenizer is not None
    assert card.name == name == place(name).name
    assert (card.dim, card.image_px) == (a.dim, a.vision.image_px)
    assert a.vision.image_px % a.vision.patch_px == 0
    assert a.vision.width % a.vision.heads == 0
    assert a.text.width % a.text.heads == 0
    assert card.tokenizer.kind == TOKENIZERS[a.text.kind]
    assert card.tokenizer.repo.count("/") == 1
    assert (a.activation == "gelu_tanh") == (a.text.kind == "siglip") == (card.preprocess.resize == "squash")
    assert card.languages
    assert not card.files
    assert not card.calibrated
    assert card.gsd_m is None or card.gsd_m[0] <= card.gsd_m[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_a_user_must_know(name: str) -> None:
    card = released_card(name)
    assert card.licence is not None
    assert card.source is not None
    assert len(card.licence.text) > 30
    assert (card.licence.use == "free") != card.licence.needs_consent
    assert card.about["training"]["data"]
    assert card.about["training"]["known_overlap"]
    assert card.about["summary"]
    assert re.search(r"arXiv:\d{4}\.\d{5}", card.about["citation"])
    assert card.doubts.activation_why
    assert card.doubts.context == "known" or card.doubts.context_why
    assert card.about.get("base", name) in NAMES
    assert card.source.address.startswith(("hf-hub:", "https://")) or card.source.note
    assert card.how_to_get.startswith("Run: geoglot models pull" if card.source.address else "It has no public address")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_counted_and_published(name: str) -> None:
    card = released_card(name)
    assert card.architecture is not None
    assert card.parameters == count(card.architecture)
    if published := card.about.get("parameters_published"):
        millions = float(published.partition(" ")[0])
        digits = len(published.partition(" ")[0].partition(".")[2])
        assert round(card.parameters / 1e6, digits) == millions


def test_what_is_not_known_stays_undecided() -> None:
    doubts = {name: released_card(name).doubts for name in NAMES}
    assert [name for name in NAMES if doubts[name].activation == "undecided"] == ["clip-rs"]
    assumed = {name for name in NAMES if doubts[name].activation == "assumed"}
    assert assumed == {n for n in NAMES if n.startswith("remoteclip")} | {"clip-laion-rs-vit-l-14"}
    detected = {name for name in NAMES if doubts[name].context == "detect"}
    assert detected == {f"farslip{stage}-vit-b-{patch}" for stage in (1, 2) for patch in (16, 32)}


def test_terms_that_need_consent() -> None:
    asked = {name.partition("-")[0] for name in NAMES if _card(name).licence.needs_consent}  # type: ignore[union-attr]
    assert asked == {"metaclip", "georsclip", "clip", "lrsclip"}
    assert released_card("clip-rs").licence.id == "none stated"  # type: ignore[union-attr]
    assert "all rights" in released_card("clip-rs").licence.text  # type: ignore[union-attr]
    assert released_card("metaclip-vit-b-16").licence.use == "noncommercial"  # type: ignore[union-attr]


def _card(name: str) -> Card:
    return released_card(name)


def test_addresses_are_told_apart() -> None:
    addresses = [c.source.address for c in map(released_card, NAMES) if c.source and c.source.address]
    assert len(set(addresses)) == len(addresses)
    assert [n for n in NAMES if not _card(n).source.address] == ["lrsclip-vit-b-16"]  # type: ignore[union-attr]
    sums = {n: c.source.sha256 for n in NAMES if (c := _card(n)).source and c.source.sha256}
    assert len(sums) == 6
    assert all(set(value) <= set("0123456789abcdef") for value in sums.values())
    for name, value in sums.items():
        assert value in _card(name).source.address  # type: ignore[union-attr]  # the address itself publishes it


def test_hub_addresses_lead_to_cards() -> None:
    assert find_card("hf-hub:joaodaniel/RS-M-CLIP").name == "rs-m-clip"
    assert find_card("hf-hub:ZhenShiL/FarSLIP/FarSLIP2_ViT-B-16.pt").name == "farslip2-vit-b-16"
    with pytest.raises(ModelNotFoundError, match="holds several models") as caught:
        find_card("hf-hub:chendelong/RemoteCLIP")
    assert "RemoteCLIP-RN50.pt" in caught.value.hint
    assert released_at("hf-hub:some/body") is None
    with pytest.raises(ModelNotFoundError, match="is not on this machine; looked in") as caught:
        find_card("hf-hub:some/body")
    assert caught.value.hint == "Run: geoglot models pull hf-hub:some/body"
    with pytest.raises(ModelNotFoundError, match="is not an address"):
        find_card("hf-hub:body")


@pytest.mark.parametrize("shape", sorted({repr(_card(n).architecture) for n in NAMES}))
def test_what_is_built_has_as_many_parameters(shape: str) -> None:
    """On the meta device: nothing is allocated."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from geoglot.models.towers.clip import build

    card = next(c for c in map(released_card, NAMES) if repr(c.architecture) == shape)
    assert card.architecture is not None
    assert sum(p.numel() for p in build(card.architecture, device="meta").parameters()) == card.parameters


def test_the_page_is_made_from_the_cards() -> None:
    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "list_cards.py"))
    assert script["PAGE"].read_text("utf-8") == script["page"](), "run: python tools/list_cards.py"
