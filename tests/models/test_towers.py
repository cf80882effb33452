"""The towers: dense features against loops, sizes against transformers, counts against open_clip, one pass for both."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from geoglot.config import from_table
from geoglot.errors import UnknownNameError, UsageError
from geoglot.models.checkpoints.load import load_checkpoint
from geoglot.models.towers.architecture import Architecture
from geoglot.models.towers.clip import DualModel, build
from geoglot.models.towers.dense import LAST_BLOCKS, LastBlock
from geoglot.models.towers.positions import grid_positions
from geoglot.models.towers.transformer import ACTIVATIONS, Attention
from geoglot.models.zoo.registry import released_card, released_models

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text("utf-8"))
CASES = {case["name"]: case for case in MANIFEST["cases"]}
TOWERS = ("clip-vit-quickgelu", "clip-vit-gelu", "siglip-open-clip", "clip-resnet")
Softmax = Callable[[Tensor, Tensor], Tensor]


def golden(name: str) -> tuple[DualModel, dict[str, Tensor]]:
    """A reference model's weights in our network, and the reference's outputs."""
    case = CASES[name]
    architecture = from_table(Architecture, case["architecture"])
    loaded = load_checkpoint(GOLDEN / case["files"][0]["path"], architecture=architecture)
    model = build(architecture, device="meta")
    tensors = {n: t.float() if t.is_floating_point() else t for n, t in loaded.tensors.items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.requires_grad_(False), load_file(GOLDEN / name / "outputs.safetensors")


# --- slow twins -------------------------------------------------------------------------------------------------------


def weights_of(variant: LastBlock, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What is applied to v, [N, N], for one image and one head: the table of the methods, spelled out row by row."""

    def similar(a: Tensor, b: Tensor) -> Tensor:
        rows = [torch.stack([(x * y).sum() / math.sqrt(len(x)) for y in b]) for x in a]
        return torch.stack([torch.exp(row - row.max()) / torch.exp(row - row.max()).sum() for row in rows])

    return {
        "vanilla": lambda: similar(q, k),
        "maskclip": lambda: torch.eye(len(q)),
        "sclip": lambda: similar(q, q) + similar(k, k),
        "clearclip": lambda: similar(q, q),
        "segearth": lambda: similar(q, q) + similar(k, k) + similar(v, v),
    }[variant]()


def attend_slowly(tokens: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, biases: Tensor, heads: int, kind: str) -> Tensor:
    """[N, W] -> [N, W] head by head; `biases` [3, W]."""
    size = tokens.shape[1] // heads
    parts = []
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        q, k, v = (tokens @ w[rows].T + b[rows] for w, b in zip((wq, wk, wv), biases, strict=True))
        parts.append(weights_of(kind, q, k, v) @ v)  # type: ignore[arg-type]
    return torch.cat(parts, 1)


def norm(x: Tensor, state: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def mlp(x: Tensor, state: dict[str, Tensor], name: str, architecture: Architecture) -> Tensor:
    hidden = x @ state[f"{name}.c_fc.weight"].T + state[f"{name}.c_fc.bias"]
    hidden = ACTIVATIONS[architecture.activation](hidden)
    return hidden @ state[f"{name}.c_proj.weight"].T + state[f"{name}.c_proj.bias"]


def dense_slowly(model: DualModel, architecture: Architecture, entering: Tensor, kind: str, keep: bool) -> Tensor:
    """Tokens of one image entering the last block [N, W] -> all tokens in the joint space [N, D]."""
    state = {n.removeprefix("visual."): t for n, t in model.state_dict().items() if n.startswith("visual.")}
    eps = 1e-5 if architecture.vision.pooling == "cls" else 1e-6
    block = f"transformer.resblocks.{architecture.vision.layers[0] - 1}"
    wq, wk, wv = state[f"{block}.attn.in_proj_weight"].chunk(3)
    biases = state[f"{block}.attn.in_proj_bias"].reshape(3, -1)
    normed = norm(entering, state, f"{block}.ln_1", eps)
    x = attend_slowly(normed, wq, wk, wv, biases, architecture.vision.heads, kind)
    x = x @ state[f"{block}.attn.out_proj.weight"].T + state[f"{block}.attn.out_proj.bias"]
    if keep:
        x = entering + x
        x = x + mlp(norm(x, state, f"{block}.ln_2", eps), state, f"{block}.mlp", architecture)
    x = norm(x, state, "ln_post", eps)
    if architecture.vision.pooling == "cls":
        return x @ state["proj"]
    wv, bv = state["pool.attn.in_proj_weight"].chunk(3)[2], state["pool.attn.in_proj_bias"].chunk(3)[2]
    x = (x @ wv.T + bv) @ state["pool.attn.out_proj.weight"].T + state["pool.attn.out_proj.bias"]
    return x + mlp(norm(x, state, "pool.ln", eps), state, "pool.mlp", architecture)


def resnet_slowly(model: DualModel, architecture: Architecture, features: Tensor, kind: str) -> Tensor:
    """One feature map [C, h, w] -> all tokens [1 + h * w, D]."""
    state = {n.removeprefix("visual.attnpool."): t for n, t in model.state_dict().items() if "attnpool" in n}
    places = features.flatten(1).T
    tokens = torch.cat([places.mean(0, keepdim=True), places]) + state["positional_embedding"]
    w, b = ([state[f"{n}_proj.{part}"] for n in "qkv"] for part in ("weight", "bias"))
    x = attend_slowly(tokens, *w, torch.stack(b), architecture.vision.heads, kind)
    return x @ state["c_proj.weight"].T + state["c_proj.bias"]


def entering_last_block(model: DualModel, images: Tensor) -> Tensor:
    """[B, N, W], caught on its way in."""
    caught: list[Tensor] = []
    last = model.visual.transformer.resblocks[-1]  # type: ignore[union-attr]
    hook = last.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    norm_hook = last.ln_1.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    model.encode_image(images)
    hook.remove()
    norm_hook.remove()
    return caught[0]


@pytest.mark.parametrize("keep", [False, True], ids=["attention only", "whole block"])
@pytest.mark.parametrize("kind", LAST_BLOCKS)
@pytest.mark.parametrize("name", TOWERS[:3])
def test_dense_features_are_those_of_a_slow_loop(name: str, kind: LastBlock, keep: bool) -> None:
    model, expected = golden(name)
    architecture = from_table(Architecture, CASES[name]["architecture"])
    images = expected["images"][:2]
    found = model.dense(images, kind, keep_residual=keep)
    first = 1 if architecture.vision.pooling == "cls" else 0
    for index, entering in enumerate(entering_last_block(model, images)):
        tokens = dense_slowly(model, architecture, entering, kind, keep)
        torch.testing.assert_close(found.patches[index].flatten(0, 1), tokens[first:], rtol=1e-5, atol=2e-5)
        if first:
            assert found.class_token is not None
            torch.testing.assert_close(found.class_token[index], tokens[0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", LAST_BLOCKS)
def test_dense_features_of_a_resnet_are_those_of_a_slow_loop(kind: LastBlock) -> None:
    model, expected = golden("clip-resnet")
    architecture = from_table(Architecture, CASES["clip-resnet"]["architecture"])
    found = model.dense(expected["images"], kind)
    for index, features in enumerate(model.visual.features(expected["images"])):  # type: ignore[operator]
        tokens = resnet_slowly(model, architecture, features, kind)
        torch.testing.assert_close(found.patches[index].flatten(0, 1), tokens[1:], rtol=1e-5, atol=1e-5)
        if kind == "vanilla":
            torch.testing.assert_close(tokens[0], expected["image_embeddings"][index], rtol=0, atol=1e-5)


def test_the_variants_differ() -> None:
    model, expected = golden("clip-vit-quickgelu")
    maps = [model.patch_features(expected["images"], kind)[1] for kind in LAST_BLOCKS]
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize("kind", LAST_BLOCKS)
@pytest.mark.parametrize("name", TOWERS)
def test_the_pooled_embedding_does_not_depend_on_the_last_block(name: str, kind: LastBlock) -> None:
    model, expected = golden(name)
    pooled, patches = model.patch_features(expected["images"], kind)
    torch.testing.assert_close(pooled, expected["image_embeddings"], rtol=0, atol=1e-5)
    grid = CASES[name]["architecture"]["vision"]["image_px"] // CASES[name]["architecture"]["vision"]["patch_px"]
    assert patches.shape == (len(pooled), grid, grid, pooled.shape[1])


def test_the_last_block_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One product for queries, keys and values in each block, the last one included, for pooled and dense together."""
    model, expected = golden("clip-vit-gelu")
    calls: list[Attention] = []
    split, few = Attention.split, Attention.split_few
    monkeypatch.setattr(Attention, "split", lambda self, x: calls.append(self) or split(self, x))
    monkeypatch.setattr(Attention, "split_few", lambda self, q, x: calls.append(self) or few(self, q, x))
    model.patch_features(expected["images"], "segearth")
    assert calls == [block.attn for block in model.visual.transformer.resblocks]  # type: ignore[union-attr]


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip-hf", "siglip-hf"])
def test_other_sizes_are_those_of_transformers(name: str) -> None:
    model, expected = golden(name)
    found = model.encode_image(expected["wide_images"])
    torch.testing.assert_close(found, expected["wide_image_embeddings"], rtol=0, atol=1e-5)
    pooled, patches = model.patch_features(expected["wide_images"], "segearth")
    torch.testing.assert_close(pooled, found, rtol=0, atol=1e-5)
    assert patches.shape[1:3] == (6, 3)  # 48 x 24 px in patches of 8


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def resample(old: int, new: int) -> Tensor:
    """[new, old]: weights along one axis; centres of pixels, edges repeated."""
    weights = torch.zeros(new, old)
    for i in range(new):
        at = (i + 0.5) * old / new - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[i, min(max(j, 0), old - 1)] += cubic(at - j)
    return weights


@pytest.mark.parametrize("grid", [(7, 7), (3, 3), (14, 14), (5, 9)])
@pytest.mark.parametrize("prefix", [0, 1])
def test_position_tables_are_resampled_bicubically(grid: tuple[int, int], prefix: int) -> None:
    table = torch.randn(prefix + 49, 6, generator=torch.Generator().manual_seed(1))
    square = table[prefix:].reshape(7, 7, 6)
    slow = torch.einsum("ai,bj,ijc->abc", resample(7, grid[0]), resample(7, grid[1]), square).reshape(-1, 6)
    found = grid_positions(table, grid, prefix)
    assert torch.equal(found[:prefix], table[:prefix])
    torch.testing.assert_close(found[prefix:], slow, rtol=1e-4, atol=1e-5)
    if grid == (7, 7):
        assert found is table


def test_a_resnet_takes_other_sizes_too() -> None:
    model, expected = golden("clip-resnet")
    images = F.pad(expected["images"], (0, 64, 0, 32))
    pooled, patches = model.patch_features(images, "maskclip")
    assert patches.shape[1:3] == (3, 4)
    torch.testing.assert_close(model.encode_image(images), pooled, rtol=0, atol=1e-5)


def test_bf16_stays_near_fp32() -> None:
    model, expected = golden("clip-vit-quickgelu")
    model.to(torch.bfloat16)
    found, _ = model.patch_features(expected["images"].bfloat16(), "segearth")
    assert found.dtype == torch.bfloat16
    assert F.cosine_similarity(found.float(), expected["image_embeddings"]).min() > 0.999
    text = model.encode_text(expected["ids"])
    assert F.cosine_similarity(text.float(), expected["text_embeddings"]).min() > 0.999


# --- text, counts, errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip-vit-gelu", "clip-long-248", "xlmr"])
def test_columns_that_no_text_needs_may_be_left_out(name: str) -> None:
    model, expected = golden(name)
    short = expected["ids"][:3]  # the fourth text fills the context
    assert model.needed(short).shape[1] == 11
    torch.testing.assert_close(
        model.encode_text(model.needed(short)), expected["text_embeddings"][:3], rtol=0, atol=1e-5
    )


def test_cards_have_as_many_parameters_as_open_clip_counts() -> None:
    counts = set(MANIFEST["parameters"].values())
    for name in released_models():
        card = released_card(name)
        assert card.architecture is not None
        built = sum(p.numel() for p in build(card.architecture, device="meta").parameters())
        assert built in counts, name
        assert built == card.parameters, name


def test_a_model_on_the_meta_device_takes_no_memory() -> None:
    architecture = from_table(Architecture, CASES["xlmr"]["architecture"])
    on_meta, real = build(architecture, device="meta"), build(architecture)
    assert all(t.is_meta for t in [*on_meta.parameters(), *on_meta.buffers()])
    assert {n: t.shape for n, t in on_meta.state_dict().items()} == {n: t.shape for n, t in real.state_dict().items()}
    assert all(bool(t.isfinite().all()) and not t.is_meta for t in real.state_dict().values())
    assert not real.training


def test_wrong_arguments_are_told() -> None:
    clip, expected = golden("clip-vit-gelu")
    with pytest.raises(UnknownNameError, match="unknown last block 'segeart'") as caught:
        clip.patch_features(expected["images"], "segeart")  # type: ignore[arg-type]
    assert "'segearth'" in caught.value.hint
    with pytest.raises(UsageError, match="7 x 32 px are smaller than a patch of 8 px"):
        clip.encode_image(expected["images"][:, :, :7])
    with pytest.raises(UsageError, match="rows of 78 tokens do not suit a text tower of 77"):
        clip.encode_text(torch.zeros(1, 78, dtype=torch.long))
    siglip, expected = golden("siglip-open-clip")
    with pytest.raises(UsageError, match="rows of 15 tokens"):
        siglip.encode_text(expected["ids"][:, :15])
    resnet, expected = golden("clip-resnet")
    with pytest.raises(UsageError, match="no residual"):
        resnet.dense(expected["images"], keep_residual=True)
    with pytest.raises(UsageError, match="smaller than the stride"):
        resnet.encode_image(expected["images"][..., :31])


def test_activations_by_hand() -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    rows = [float(v) for v in x]
    by_hand = {
        "quick_gelu": [v / (1 + math.exp(-1.702 * v)) for v in rows],
        "gelu": [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in rows],
        "gelu_tanh": [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in rows],
    }
    for name, activation in ACTIVATIONS.items():
        np.testing.assert_allclose(activation(x).numpy(), by_hand[name], atol=1e-12)
