"""Each small part against a computation by hand; what is frozen stays; merging changes nothing but the form."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import ModelFileError, UnknownNameError, UsageError
from geoglot.models.peft.attach import is_tuned, merge, tune
from geoglot.models.peft.blocks import TunedBlock
from geoglot.models.peft.files import load_parts, save_parts, trained
from geoglot.models.peft.settings import GateOver, Tuning, preset_values
from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
from geoglot.models.towers.clip import Clip, build
from geoglot.models.towers.convnet_training import DualTower, TowerShape
from geoglot.models.towers.transformer import Block
from geoglot.training.weights import count

W, HEADS, LAYERS, DIM = 32, 2, 2, 16
METHODS = ("lora", "adapter", "prefix", "unipelt", "bitfit")


def clip(kind: str = "clip") -> Clip:
    torch.manual_seed(0)
    vision = VisionShape("vit", 16, 8, W, (LAYERS,), HEADS, 2 * W, "cls" if kind == "clip" else "map")
    text = TextShape("siglip" if kind == "siglip" else "clip", 8, 50, W, LAYERS, HEADS, 2 * W)
    dim = DIM if kind == "clip" else W
    model = build(Architecture(vision, text, dim, "gelu"))
    assert isinstance(model, Clip)
    return model


def xlmr() -> nn.Module:
    torch.manual_seed(0)
    vision = VisionShape("vit", 16, 8, W, (LAYERS,), HEADS, 2 * W, "cls")
    text = TextShape("xlmr", 16, 60, W, LAYERS, HEADS, 2 * W, hidden=24)
    return build(Architecture(vision, text, DIM, "gelu"))


def resnet() -> Clip:
    torch.manual_seed(0)
    vision = VisionShape("resnet", 64, 32, 8, (1, 1, 1, 1), 4, 0, "attention")
    model = build(Architecture(vision, TextShape("clip", 8, 50, W, LAYERS, HEADS, 2 * W), DIM, "gelu"))
    assert isinstance(model, Clip)
    return model


def mini() -> DualTower:
    torch.manual_seed(0)
    shape = TowerShape(vocabulary=30, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), dim=DIM, text_width=16)
    return DualTower(shape).eval()


def pictures(side: int = 16) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def texts() -> Tensor:
    ids = torch.randint(1, 48, (3, 8), generator=torch.Generator().manual_seed(2))
    ids[:, 5], ids[:, 6:] = 49, 0  # the end token is the highest id
    return ids


def shake(model: nn.Module) -> None:
    """Give every trained tensor values of its own, so that parts which start at nothing say something."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))


def both(model: nn.Module) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.encode_image(pictures()), model.encode_text(texts())


def by_hand(block: Block, x: Tensor, causal: bool, *, parts: dict[str, Tensor] | None = None) -> Tensor:
    """A block spelled out, one head and one row at a time. `parts`: extra terms, made by each test."""
    parts = parts or {}
    h = F.layer_norm(x, (W,), block.ln_1.weight, block.ln_1.bias)
    weight, bias = parts.get("in_proj", block.attn.in_proj_weight), block.attn.in_proj_bias
    q, k, v = (h @ weight[i * W : (i + 1) * W].T + bias[i * W : (i + 1) * W] for i in range(3))
    q, v = q + parts.get("q", 0), v + parts.get("v", 0)
    size = W // HEADS
    out = torch.zeros_like(x)
    for b in range(len(x)):
        keys, values = k[b], v[b]
        if "keys" in parts:
            keys, values = torch.cat([parts["keys"][b], keys]), torch.cat([parts["values"][b], values])
        before = len(keys) - x.shape[1]
        for head in range(HEADS):
            at = slice(head * size, (head + 1) * size)
            for row in range(x.shape[1]):
                stop = before + row + 1 if causal else len(keys)
                weights = torch.softmax(keys[:stop, at] @ q[b, row, at] / math.sqrt(size), 0)
                out[b, row, at] = weights @ values[:stop, at]
    attended = out @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    if "after_attention" in parts:
        attended = parts["after_attention"](attended)
    x = x + attended
    h = F.layer_norm(x, (W,), block.ln_2.weight, block.ln_2.bias)
    h = F.gelu(h @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias) @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias
    if "after_mlp" in parts:
        h = parts["after_mlp"](h)
    x = x + h
    return parts["after_block"](x) if "after_block" in parts else x


def adapter_by_hand(adapter: nn.Module, gate: Tensor | float = 1.0):
    def apply(x: Tensor) -> Tensor:
        inner = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
        return x + gate * (inner @ adapter.up.weight.T + adapter.up.bias)

    return apply


@pytest.fixture(params=[False, True], ids=["sees-all", "causal"])
def causal(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def first_block(model: Clip) -> Block:
    block = model.visual.transformer.resblocks[0]
    assert isinstance(block, Block)
    return block


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 5, W, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def test_a_plain_block_agrees_with_the_hand(tokens: Tensor, causal: bool) -> None:
    block = first_block(clip())
    torch.testing.assert_close(block(tokens, causal), by_hand(block, tokens, causal), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_lora_adds_alpha_over_rank_up_down_to_queries_and_values(tokens: Tensor, causal: bool) -> None:
    model = clip()
    before = first_block(model).attn.in_proj_weight.clone()
    tune(model, Tuning("lora", rank=4, alpha=6.0))
    shake(model)
    block = first_block(model)
    parts = block.attn.parametrizations.in_proj_weight[0].parts
    assert set(parts) == {"0", "2"}  # queries and values
    changed = before.clone()
    changed[:W] += 6.0 / 4 * parts["0"].up @ parts["0"].down
    changed[2 * W :] += 6.0 / 4 * parts["2"].up @ parts["2"].down
    expected = by_hand(block, tokens, causal, parts={"in_proj": changed})
    torch.testing.assert_close(block(tokens, causal), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pfeiffer_adapter_follows_the_block(tokens: Tensor, causal: bool) -> None:
    model = clip()
    tune(model, Tuning("adapter", reduction=8))
    shake(model)
    block = first_block(model)
    assert block.outer.down.weight.shape == (4, W)
    expected = by_hand(block, tokens, causal, parts={"after_block": adapter_by_hand(block.outer)})
    torch.testing.assert_close(block(tokens, causal), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_houlsby_adapters_follow_both_sublayers(tokens: Tensor, causal: bool) -> None:
    model = clip()
    tune(model, Tuning("adapter", placement="both"))
    shake(model)
    block = first_block(model)
    parts = {"after_attention": adapter_by_hand(block.inner[0]), "after_mlp": adapter_by_hand(block.inner[1])}
    expected = by_hand(block, tokens, causal, parts=parts)
    torch.testing.assert_close(block(tokens, causal), expected, rtol=1e-4, atol=1e-5)


def prefix_by_hand(block: TunedBlock) -> tuple[Tensor, Tensor]:
    prefix = block.attn.prefix
    hidden = torch.tanh(prefix.stem.places.weight @ prefix.stem.grow.weight.T + prefix.stem.grow.bias)
    both = hidden @ prefix.last.weight.T + prefix.last.bias
    return both[:, :W], both[:, W:]


@torch.no_grad()
def test_every_token_attends_to_the_prefix(tokens: Tensor, causal: bool) -> None:
    model = clip()
    tune(model, Tuning("prefix", prefix_length=3, prefix_width=7))
    shake(model)
    block = first_block(model)
    keys, values = prefix_by_hand(block)
    assert keys.shape == (3, W)
    assert block.attn.prefix.stem.grow.out_features == 7
    parts = {"keys": keys.expand(2, -1, -1), "values": values.expand(2, -1, -1)}
    expected = by_hand(block, tokens, causal, parts=parts)
    torch.testing.assert_close(block(tokens, causal), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("over", ["token", "row"])
@torch.no_grad()
def test_unipelt_gates_all_three(tokens: Tensor, causal: bool, over: GateOver) -> None:
    model = clip()
    tune(model, Tuning("unipelt", rank=4, alpha=6.0, prefix_length=3, prefix_width=7, reduction=8, gate=over))
    shake(model)
    block = first_block(model)
    h = F.layer_norm(tokens, (W,), block.ln_1.weight, block.ln_1.bias)

    def gate(module: nn.Module, x: Tensor) -> Tensor:
        gates = 1 / (1 + torch.exp(-(x @ module.linear.weight.T + module.linear.bias)))
        return gates if over == "token" else gates.sum(1, keepdim=True) / x.shape[1]

    gates = {n: gate(module, h) for n, module in block.attn.change_gates.items()}  # queries and values each have one
    terms = {n: gates[n] * 6.0 / 4 * (h @ c.down.T @ c.up.T) for n, c in block.attn.changes.items()}
    assert set(terms) == {"q", "v"}
    places = gate(block.attn.prefix_gate, h)
    shared = places[:, :1] if causal else places.mean(1, keepdim=True)
    keys, values = prefix_by_hand(block)

    def adapted(x: Tensor) -> Tensor:
        return adapter_by_hand(block.outer, gate(block.outer.gate, x))(x)

    parts = {**terms, "keys": shared * keys, "values": shared * values, "after_block": adapted}
    expected = by_hand(block, tokens, causal, parts=parts)
    torch.testing.assert_close(block(tokens, causal), expected, rtol=1e-4, atol=1e-5)


def test_bitfit_trains_biases_and_nothing_else() -> None:
    model = clip()
    biases = {n for n, p in model.named_parameters() if n.endswith("bias")}
    tune(model, Tuning("bitfit"))
    assert set(trained(model)) == biases
    assert not is_tuned(model)
    # by hand: 4 vectors of norms and 3W + W + 2W + W of projections a block, norms before and after, no conv bias
    per_block = 2 * W + 3 * W + W + 2 * W + W
    assert count(model)["trained"] == 2 * (LAYERS * per_block) + 3 * W


@pytest.mark.parametrize(("method", "over"), [*((method, "token") for method in METHODS), ("unipelt", "row")])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_shortcuts_of_the_image_tower_see_the_parts_too(method: str, over: GateOver, kind: str) -> None:
    """The class-token shortcut, the dense path and the plain stack agree."""
    model = clip(kind)
    tune(model, Tuning(method, prefix_length=3, prefix_width=7, gate=over))
    shake(model)
    with torch.no_grad():
        short = model.encode_image(pictures())
        dense = model.dense(pictures()).pooled
        visual = model.visual
        if kind == "clip":
            patches, _ = visual.patches(pictures())
            first = visual.class_embedding.expand(3, 1, -1)
            x = visual.ln_pre(torch.cat([first, patches], 1) + visual.positional_embedding)
            slow = visual.ln_post(visual.transformer(x)[:, 0]) @ visual.proj
            torch.testing.assert_close(short, slow, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_texts_do_not_depend_on_the_padding_behind_them(method: str) -> None:
    model = clip()
    tune(model, Tuning(method, prefix_length=3, prefix_width=7))
    shake(model)
    with torch.no_grad():
        whole, short = model.encode_text(texts()), model.encode_text(model.needed(texts()))
    assert model.needed(texts()).shape[1] == 6
    torch.testing.assert_close(whole, short, rtol=1e-4, atol=1e-5)


def test_low_rank_changes_start_at_nothing() -> None:
    model = clip()
    before = both(model)
    tune(model, Tuning("lora"))
    for now, then in zip(both(model), before, strict=True):
        torch.testing.assert_close(now, then)


MODELS = {"clip": clip, "siglip": lambda: clip("siglip"), "xlmr": xlmr, "resnet": resnet, "mini": mini}


def steps(model: nn.Module, kind: str) -> None:
    side = 64 if kind in ("resnet", "mini") else 16
    ids = texts().clamp(max=29) if kind == "mini" else texts()
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=1e-2)
    for _ in range(3):
        images = model.image(pictures(side)) if kind == "mini" else model.encode_image(pictures(side))
        said = model.text(ids) if kind == "mini" else model.encode_text(ids)
        (images @ said.T).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("method", METHODS)
def test_frozen_weights_stay_and_small_parts_move(kind: str, method: str) -> None:
    model = MODELS[kind]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    only_transformers = kind in ("clip", "siglip")
    if method in ("adapter", "prefix", "unipelt") and not only_transformers:
        with pytest.raises(UsageError, match=f"{method} needs the blocks") as caught:
            tune(model, Tuning(method))
        assert "lora" in caught.value.hint
        assert all(p.requires_grad for p in model.parameters())  # refused before anything was touched
        return
    tune(model, Tuning(method, prefix_length=3, prefix_width=7))
    start = {name: value.clone() for name, value in trained(model).items()}
    model.train()  # as the loop does; the statistics of batch norms must not move either
    steps(model, kind)
    moved = [name for name, value in trained(model).items() if not torch.equal(value, start[name])]
    assert len(moved) > 0.8 * len(start)
    now = {name.replace("parametrizations.", "").replace(".original", ""): v for name, v in model.state_dict().items()}
    for name, value in before.items():
        if method == "bitfit" and name in start:
            continue
        assert torch.equal(now[name], value), name
    sizes = count(model)
    assert sizes["trained"] == sum(value.numel() for value in start.values())
    assert 0 < sizes["trained"] < sizes["all"]


@pytest.mark.parametrize("kind", list(MODELS))
def test_merging_low_rank_changes_gives_back_the_plain_form(kind: str) -> None:
    model = MODELS[kind]()
    names = sorted(model.state_dict())
    tune(model, Tuning("lora"))
    shake(model)
    side = 64 if kind in ("resnet", "mini") else 16

    def say() -> tuple[Tensor, Tensor]:
        ids = texts().clamp(max=29) if kind == "mini" else texts()
        with torch.no_grad():
            if kind == "mini":
                return model.image(pictures(side)), model.text(ids)
            return model.encode_image(pictures(side)), model.encode_text(ids)

    before = say()
    assert merge(model)
    assert sorted(model.state_dict()) == names
    for now, then in zip(say(), before, strict=True):
        torch.testing.assert_close(now, then, rtol=1e-5, atol=1e-6)
    plain = MODELS[kind]()
    plain.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("method", ["prefix", "unipelt"])
def test_folded_prefixes_say_the_same_with_less(method: str) -> None:
    model = clip()
    tune(model, Tuning(method, prefix_length=3, prefix_width=64))
    shake(model)
    before, size = both(model), count(model)["all"]
    assert not merge(model)  # no weight of the plain model computes a prefix
    for now, then in zip(both(model), before, strict=True):
        torch.testing.assert_close(now, then, rtol=1e-5, atol=1e-6)
    assert count(model)["all"] < size
    assert first_block(model).attn.prefix.folded.shape == (3, 2 * W)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("folded", [False, True])
def test_small_files_bring_the_parts_back(method: str, folded: bool, tmp_path: Path) -> None:
    tuning = Tuning(method, prefix_length=3, prefix_width=7)
    model = clip()
    tune(model, tuning)
    shake(model)
    if folded and method in ("prefix", "unipelt"):
        merge(model)
    size = save_parts(model, tuning, tmp_path / "parts.safetensors", base="tiny-0")
    assert size < 4 * sum(v.numel() for v in trained(model).values()) + 16_000
    again = clip()
    assert load_parts(again, tmp_path / "parts.safetensors", base="tiny-0") == tuning
    for now, then in zip(both(again), both(model), strict=True):
        torch.testing.assert_close(now, then)


def test_parts_refuse_the_wrong_model(tmp_path: Path) -> None:
    tuning, model, path = Tuning("lora"), clip(), tmp_path / "parts.safetensors"
    tune(model, tuning)
    save_parts(model, tuning, path, base="tiny-0")
    with pytest.raises(ModelFileError, match="belongs to 'tiny-0', not to 'other'"):
        load_parts(clip(), path, base="other")
    with pytest.raises(ModelFileError, match="does not fit"):
        load_parts(resnet(), path, base="tiny-0")
    path.write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_parts(clip(), path, base="tiny-0")
    merge(model)
    with pytest.raises(UsageError, match="no small parts"):
        save_parts(model, tuning, path, base="tiny-0")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "no small parts"),
        ({"format": "geoglot-parts-1"}, "no small parts"),
        ({"tuning": "not JSON"}, "does not say"),
        ({"tuning": "[]"}, "does not say"),
        ({"tuning": '{"method": "magic"}'}, "unknown tuning method"),
        ({"tuning": '{"colour": 1}'}, "colour = 1"),
        ({"tuning": '{"method": "lora", "rank": "8"}'}, "rank = '8'"),
        ({"tuning": '{"method": "prefix", "prefix_length": 1000000000000}'}, "is above 16384"),
    ],
)
def test_hostile_parts_are_refused(facts: dict[str, str], message: str, tmp_path: Path) -> None:
    if "tuning" in facts:
        facts = {"format": "geoglot-parts-1", "base": "tiny-0", "folded": "False"} | facts
    save_file({"a": torch.zeros(1)}, tmp_path / "parts.safetensors", facts)
    with pytest.raises(ModelFileError, match=message):
        load_parts(clip(), tmp_path / "parts.safetensors")


def test_tuning_twice_is_refused() -> None:
    model = clip()
    tune(model, Tuning("lora"))
    with pytest.raises(UsageError, match="already"):
        tune(model, Tuning("adapter"))


def test_full_leaves_everything_free() -> None:
    model = clip()
    tune(model, Tuning("full"))
    assert all(p.requires_grad for p in model.parameters())


def test_one_tower_only() -> None:
    model = clip()
    image = copy.deepcopy(model).encode_image(pictures())
    tune(model, Tuning("adapter", towers=("text",)))
    shake(model)
    assert all(not name.startswith("visual.") for name in trained(model))
    torch.testing.assert_close(model.encode_image(pictures()), image)


def test_preset_values() -> None:
    """georsclip.md, section 2.2, as numbers."""
    lora = Tuning("lora", preset="adapterhub").resolved()
    assert (lora.rank, lora.alpha, lora.matrices, lora.towers) == (8, 8.0, ("q", "v"), ("image", "text"))
    adapter = Tuning("adapter", preset="adapterhub").resolved()
    assert (adapter.reduction, adapter.placement) == (16, "output")
    prefix = Tuning("prefix", preset="adapterhub").resolved()
    assert (prefix.prefix_length, prefix.prefix_width) == (30, 512)
    unipelt = Tuning("unipelt", preset="adapterhub").resolved()
    assert (unipelt.rank, unipelt.prefix_length, unipelt.reduction, unipelt.gate) == (8, 10, 16, "row")
    assert unipelt.alpha / unipelt.rank == 1  # AdapterHub leaves UniPELTConfig's alpha 2 out where a gate stands
    itra = Tuning("lora", preset="itra").resolved()
    assert (itra.rank, itra.alpha, itra.towers) == (8, 16.0, ("text",))
    houlsby = Tuning("adapter", preset="itra").resolved()
    assert (houlsby.placement, houlsby.reduction, houlsby.towers) == ("both", 16, ("text",))
    assert preset_values("itra", "prefix")["prefix_length"] == 30
    with pytest.raises(UnknownNameError, match="adapterhubb"):
        Tuning("lora", preset="adapterhubb")
    with pytest.raises(UnknownNameError, match="bitfit"):
        Tuning("bitfit", preset="itra")


def test_counts_of_the_published_size() -> None:
    """ViT-B/32 of CLIP, on the meta device: trained parameters by the formulas."""
    vision = VisionShape("vit", 224, 32, 768, (12,), 12, 3072, "cls")
    shape = Architecture(vision, TextShape("clip", 77, 49408, 512, 12, 8, 2048), 512, "quick_gelu")
    expected = {
        "lora": sum(12 * 2 * (8 * w + 8 * w) for w in (768, 512)),
        "adapter": sum(12 * (w * (w // 16) * 2 + w // 16 + w) for w in (768, 512)),
        "prefix": sum(30 * w + w * 512 + 512 + 12 * (512 * 2 * w + 2 * w) for w in (768, 512)),
        "unipelt": 18_275_872,  # AdapterHub 1.3, UniPELTConfig() on both towers: gates of q, v, prefix and adapter
    }
    for method, wanted in expected.items():
        model = build(shape, device="meta")
        tune(model, Tuning(method, preset="adapterhub"))
        assert count(model)["trained"] == wanted, method


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "lo"},
        {"rank": 0},
        {"towers": ()},
        {"towers": ("both",)},
        {"matrices": ("x",)},
        {"placement": "in"},
        {"gate": "batch"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Tuning(**wrong)  # type: ignore[arg-type]
