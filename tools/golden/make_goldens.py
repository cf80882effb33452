"""Make the golden files of tests/models/golden: tiny random models of the reference packages, as they are released.

Needs a virtual environment of its own, because these packages cannot live beside geoglot's PyTorch (torchvision):

    python -m venv reference && reference/bin/pip install \
        torch==2.13.0 torchvision==0.28.0 open_clip_torch==3.3.0 transformers==5.23.0 safetensors==0.8.0
    reference/bin/python tools/golden/make_goldens.py

Every weight is random, also those that start at 0 or 1 (biases, norms, running statistics), and rounded to what fp16
holds, so that fp16 and fp32 files of a case describe the same model. All outputs are computed in fp32. The folder:

    manifest.json           cases (architecture, files and their formats), and parameter counts of published models
    <case>/outputs.safetensors   images float [3, 3, S, S] (normalised), ids int64 [M, T], image_embeddings,
                            text_embeddings (not normalised), logit_scale (as stored: a logarithm), logit_bias if any,
                            wide_images [2, 3, S', S''] and wide_image_embeddings where the reference can interpolate
    preprocessing.safetensors    images and what open_clip's transforms make of them
    <case>/...              the same weights in one or more released formats
"""

from __future__ import annotations

import argparse
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SHIM = torch.library.Library("torchvision", "DEF")  # torchvision's wheel wants these two schemas beside a CPU PyTorch
for op in ("nms", "qnms"):
    SHIM.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip  # noqa: E402
import timm  # noqa: E402
import transformers  # noqa: E402
from open_clip.model import CLIP, CustomTextCLIP  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "tests" / "models" / "golden"
SIDE, PATCH, WORDS = 32, 8, 128
Case = dict[str, Any]


def scramble(model: nn.Module, seed: int) -> nn.Module:
    """Give every parameter and running statistic a random value that fp16 holds exactly."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("logit_scale", "logit_bias")):
                p.fill_(2.75 if name.endswith("scale") else -7.25)
            elif p.ndim == 1:
                norm = name.endswith("weight")
                p.copy_((1.0 if norm else 0.0) + 0.2 * torch.randn_like(p))
            else:
                fan_in = p[0].numel() if p.ndim != 2 or "embed" not in name else 4
                p.copy_(torch.randn_like(p) / fan_in**0.5)
            p.copy_(p.half())
        for name, b in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                b.copy_((torch.rand_like(b) * 0.5 + (0.5 if name.endswith("var") else 0.0)).half())
    return model.eval()


def clip_ids(context: int, words: int = WORDS) -> Tensor:
    """Start, words, end (the highest id), zeros: four texts, one of them empty, one that fills the context."""
    ids = torch.zeros(4, context, dtype=torch.long)
    for row, length in enumerate((3, 0, 9, context - 2)):
        ids[row, 0] = words - 2
        ids[row, 1 : 1 + length] = torch.randint(1, words - 2, (length,))
        ids[row, 1 + length] = words - 1
    return ids


def architecture(vision: Case, text: Case, dim: int, activation: str) -> Case:
    return {"vision": vision, "text": text, "dim": dim, "activation": activation}


def vit(
    width: int, heads: int, mlp: int, layers: int = 2, pooling: str = "cls", side: int = SIDE, patch: int = PATCH
) -> Case:
    return {"kind": "vit", "image_px": side, "patch_px": patch, "width": width, "layers": [layers], "heads": heads,
            "mlp_width": mlp, "pooling": pooling}  # fmt: skip


def words(
    kind: str,
    width: int,
    heads: int,
    mlp: int,
    context: int = 77,
    vocabulary: int = WORDS,
    layers: int = 2,
    hidden: int = 0,
) -> Case:
    return {"kind": kind, "context": context, "vocabulary": vocabulary, "width": width, "layers": layers,
            "heads": heads, "mlp_width": mlp, "hidden": hidden}  # fmt: skip


@torch.no_grad()
def outputs(model: Any, ids: Tensor, wide: bool = False, side: int = SIDE) -> dict[str, Tensor]:
    """Run an open_clip model, or a transformers one, in fp32; `wide`: also at a size that is not its own."""
    torch.manual_seed(5)
    images = torch.randn(3, 3, side, side)
    found = {"images": images, "ids": ids}
    if isinstance(model, transformers.PreTrainedModel):
        found["image_embeddings"] = model.get_image_features(pixel_values=images).pooler_output
        found["text_embeddings"] = model.get_text_features(input_ids=ids).pooler_output
    else:
        found["image_embeddings"], found["text_embeddings"] = model.encode_image(images), model.encode_text(ids)
    if wide:
        found["wide_images"] = torch.randn(2, 3, SIDE + 2 * PATCH, SIDE - PATCH)
        wide_out = model.get_image_features(pixel_values=found["wide_images"], interpolate_pos_encoding=True)
        found["wide_image_embeddings"] = wide_out.pooler_output
    for name in ("logit_scale", "logit_bias"):
        if getattr(model, name, None) is not None:
            found[name] = getattr(model, name).detach().reshape(())
    return {key: value.contiguous().clone() for key, value in found.items()}


class Folder:
    """Collects one case."""

    def __init__(
        self, out: Path, name: str, family: str, shape: Case, results: dict[str, Tensor], note: str = ""
    ) -> None:
        self.path = out / name
        self.path.mkdir(parents=True)
        save_file(results, str(self.path / "outputs.safetensors"))
        self.case: Case = {"name": name, "family": family, "architecture": shape, "note": note, "files": []}

    def add(self, file: str, kind: str, precision: str, note: str = "") -> Path:
        self.case["files"].append(
            {"path": f"{self.path.name}/{file}", "format": kind, "precision": precision, "note": note}
        )
        return self.path / file


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.contiguous().clone() for k, v in state.items()}


def open_clip_model(vision: Case, text: Case, dim: int, quick: bool = False, custom: bool = False, **more: Any) -> Any:
    sort = CustomTextCLIP if custom else CLIP
    return sort(embed_dim=dim, vision_cfg=vision, text_cfg=text, quick_gelu=quick, **more)


VISION = {"image_size": SIDE, "patch_size": PATCH, "layers": 2, "width": 64, "head_width": 64, "mlp_ratio": 2.0}
TEXT = {"context_length": 77, "vocab_size": WORDS, "width": 64, "heads": 1, "layers": 2, "mlp_ratio": 2.0}


def clip_quick(out: Path) -> Case:
    """Two heads in both towers, quick-GELU, bare state dict."""
    model = open_clip_model(
        {**VISION, "width": 128, "mlp_ratio": 1.0}, {**TEXT, "width": 128, "heads": 2, "mlp_ratio": 1.0}, 48, quick=True
    )
    scramble(model, 1)
    shape = architecture(vit(128, 2, 128), words("clip", 128, 2, 128), 48, "quick_gelu")
    folder = Folder(out, "clip-vit-quickgelu", "clip", shape, outputs(model, clip_ids(77)))
    torch.save(half(model.state_dict()), folder.add("bare.pt", "open_clip state dict", "fp16"))
    return folder.case


def clip_plain(out: Path) -> Case:
    """GELU, as the trainer leaves it: epoch, name, `module.` names, the optimiser's state; and as safetensors."""
    model = scramble(open_clip_model(VISION, TEXT, 32), 2)
    results = outputs(model, clip_ids(77))
    shape = architecture(vit(64, 1, 128), words("clip", 64, 1, 128), 32, "gelu")
    folder = Folder(out, "clip-vit-gelu", "clip", shape, results)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    save_file(contiguous(state), str(folder.add("open_clip_model.safetensors", "open_clip safetensors", "fp32")))
    optimiser = torch.optim.AdamW([model.logit_scale, *model.ln_final.parameters()], lr=1e-3)
    model.encode_text(results["ids"]).sum().mul(model.logit_scale).backward()
    optimiser.step()
    wrapped = {"epoch": 20, "name": "golden", "state_dict": {f"module.{k}": v for k, v in half(state).items()}}
    wrapped["optimizer"] = optimiser.state_dict()
    torch.save(wrapped, folder.add("trainer.pt", "trainer checkpoint", "fp16", "module. prefix, optimiser state"))
    return folder.case


def clip_openai(out: Path) -> Case:
    """OpenAI's releases: a TorchScript archive in fp16 with three extra numbers, and its state dict."""
    model = scramble(open_clip_model(VISION, TEXT, 32, quick=True), 3)
    results = outputs(model, clip_ids(77))
    shape = architecture(vit(64, 1, 128), words("clip", 64, 1, 128), 32, "quick_gelu")
    folder = Folder(out, "clip-vit-openai", "clip", shape, results)
    extras = {"input_resolution": SIDE, "context_length": 77, "vocab_size": WORDS}
    state = half(model.state_dict()) | {k: torch.tensor(v) for k, v in extras.items()}
    torch.save(state, folder.add("openai_state.pt", "OpenAI state dict", "fp16", "input_resolution and friends"))
    archive = folder.add("openai_jit.pt", "OpenAI TorchScript archive", "fp16")
    for name, value in extras.items():
        model.__dict__.pop(name, None)  # open_clip keeps some of them as plain attributes
        model.register_buffer(name, torch.tensor(value))
    model.half()
    traced = torch.jit.trace_module(
        model, {"encode_image": results["images"].half(), "encode_text": results["ids"]}, check_trace=False
    )
    torch.jit.save(traced, str(archive))
    forget_sources(archive)
    return folder.case


def forget_sources(archive: Path) -> None:
    """Drop the debug records of a TorchScript archive: they hold paths of the machine that made it."""
    with zipfile.ZipFile(archive) as before:
        kept = [(entry, before.read(entry)) for entry in before.namelist() if not entry.endswith(".debug_pkl")]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as after:
        for entry, content in kept:
            after.writestr(entry, content)


def clip_long(out: Path) -> Case:
    """Long-CLIP: rows 0-19 from `positional_embedding`, 20-247 from `positional_embedding_res`, two masks."""
    model = scramble(
        open_clip_model({**VISION, "layers": 1}, {**TEXT, "context_length": 248, "layers": 1}, 32, quick=True), 4
    )
    shape = architecture(vit(64, 1, 128, layers=1), words("clip", 64, 1, 128, context=248, layers=1), 32, "quick_gelu")
    folder = Folder(out, "clip-long-248", "clip", shape, outputs(model, clip_ids(248)))
    state = half(model.state_dict())
    torch.save(state, folder.add("long_folded.pt", "open_clip state dict", "fp16", "one table of 248 rows"))
    table = state.pop("positional_embedding")
    mask1 = (torch.arange(248) < 20).half()[:, None]
    noise = torch.randn(table.shape).half()
    state["positional_embedding"] = torch.where(mask1.bool(), table, noise)
    state["positional_embedding_res"] = torch.where(mask1.bool(), noise, table)
    state |= {"mask1": mask1, "mask2": 1 - mask1}
    torch.save(
        state, folder.add("long_two_tables.pt", "Long-CLIP state dict", "fp16", "positional_embedding_res, masks")
    )
    return folder.case


def clip_resnet(out: Path) -> Case:
    """CLIP's ResNet; 64 px, so that the pooling layer sees a 2 x 2 grid."""
    vision = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 4, "head_width": 64}
    model = scramble(open_clip_model(vision, {**TEXT, "layers": 1}, 32, quick=True), 6)
    tower = {"kind": "resnet", "image_px": 64, "patch_px": 32, "width": 4, "layers": [1, 2, 1, 1], "heads": 2,
             "mlp_width": 0, "pooling": "attention"}  # fmt: skip
    shape = architecture(tower, words("clip", 64, 1, 128, layers=1), 32, "quick_gelu")
    folder = Folder(out, "clip-resnet", "clip", shape, outputs(model, clip_ids(77), side=64))
    torch.save(half(model.state_dict()), folder.add("bare.pt", "open_clip state dict", "fp16"))
    return folder.case


def xlmr(out: Path) -> Case:
    """open_clip's text tower around XLM-RoBERTa, masked mean, two projection layers."""
    config = transformers.XLMRobertaConfig(
        vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=128,
        max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)  # fmt: skip
    home = out / "xlmr-config"
    config.save_pretrained(home)
    model = open_clip_model(VISION, {"hf_model_name": str(home), "hf_model_pretrained": False}, 32, custom=True)
    shutil.rmtree(home)
    scramble(model, 7)
    ids = torch.ones(4, 77, dtype=torch.long)
    for row, length in enumerate((3, 0, 9, 75)):
        ids[row, 0], ids[row, 1 + length] = 0, 2
        ids[row, 1 : 1 + length] = torch.randint(4, 300, (length,))
    shape = architecture(vit(64, 1, 128), words("xlmr", 64, 1, 128, vocabulary=300, hidden=48), 32, "gelu")
    folder = Folder(out, "xlmr", "xlmr", shape, outputs(model, ids))
    file = folder.add("open_clip_model.safetensors", "open_clip safetensors", "fp16", "text.transformer, text.proj")
    save_file(contiguous(half(model.state_dict())), str(file))
    return folder.case


def siglip_open_clip(out: Path) -> Case:
    """SigLIP 2 as open_clip holds it: a timm image tower with attention pooling, a bidirectional text tower."""
    text = {**TEXT, "context_length": 16, "heads": 2, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}  # fmt: skip
    vision = {"image_size": 256, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
    model = open_clip_model(vision, text, 64, custom=True, init_logit_bias=-10.0)
    model.visual.trunk = timm.models.VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=64, depth=2, num_heads=2, mlp_ratio=2.0, class_token=False,
        global_pool="map", num_classes=0, act_layer="gelu_tanh")  # fmt: skip
    model.visual.head = nn.Sequential()
    scramble(model, 8)
    shape = architecture(vit(64, 2, 128, pooling="map"), words("siglip", 64, 2, 128, context=16), 64, "gelu_tanh")
    folder = Folder(out, "siglip-open-clip", "siglip", shape, outputs(model, torch.randint(1, WORDS, (4, 16))))
    save_file(
        contiguous(half(model.state_dict())),
        str(folder.add("open_clip_model.safetensors", "open_clip safetensors", "fp16", "timm image tower")),
    )
    return folder.case


def hugging_face(out: Path, name: str, family: str, model: Any, shape: Case, ids: Tensor) -> Case:
    folder = Folder(out, name, family, shape, outputs(model, ids, wide=True))
    model.half().save_pretrained(folder.add("folder", "Hugging Face folder", "fp16"))
    return folder.case


def clip_hf(out: Path) -> Case:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **sizes,
        "vocab_size": WORDS,
        "max_position_embeddings": 77,
        "bos_token_id": WORDS - 2,
        "eos_token_id": WORDS - 1,
    }
    vision = {**sizes, "image_size": SIDE, "patch_size": PATCH}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    model = scramble(transformers.CLIPModel(config), 9)
    shape = architecture(vit(64, 2, 128), words("clip", 64, 2, 128), 32, "quick_gelu")
    return hugging_face(out, "clip-hf", "clip", model, shape, clip_ids(77))


def siglip_hf(out: Path) -> Case:
    """SigLIP and fixed-resolution SigLIP 2 share this layout (model_type "siglip")."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": WORDS, "max_position_embeddings": 16, "projection_size": 64}
    vision = {**sizes, "image_size": SIDE + 3, "patch_size": PATCH}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    model = scramble(transformers.SiglipModel(config), 10)
    shape = architecture(
        vit(64, 2, 96, pooling="map", side=SIDE + 3), words("siglip", 64, 2, 96, context=16), 64, "gelu_tanh"
    )
    return hugging_face(out, "siglip-hf", "siglip", model, shape, torch.randint(1, WORDS, (4, 16)))


PUBLISHED = (
    "RN50", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "xlm-roberta-base-ViT-B-32",
    "ViT-B-32-SigLIP2-256", "ViT-B-16-SigLIP2", "ViT-B-16-SigLIP2-256", "ViT-B-16-SigLIP2-384", "ViT-B-16-SigLIP2-512",
    "ViT-L-16-SigLIP2-256", "ViT-L-16-SigLIP2-384", "ViT-L-16-SigLIP2-512", "ViT-SO400M-14-SigLIP2",
    "ViT-SO400M-14-SigLIP2-378", "ViT-SO400M-16-SigLIP2-256", "ViT-SO400M-16-SigLIP2-384", "ViT-SO400M-16-SigLIP2-512",
    "ViT-gopt-16-SigLIP2-256", "ViT-gopt-16-SigLIP2-384",
)  # fmt: skip


def counts(out: Path) -> dict[str, int]:
    """Parameters of open_clip's published architectures, counted on the meta device; `-long-248`: long text."""
    home = out / "xlmr-config"
    transformers.XLMRobertaConfig(  # xlm-roberta-base
        vocab_size=250002, hidden_size=768, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    ).save_pretrained(home)
    found = {}
    for name in PUBLISHED:
        found[name] = _count(open_clip.get_model_config(name), home)
        if name in {"ViT-B-32", "ViT-B-16", "ViT-L-14"}:
            config = open_clip.get_model_config(name)
            config["text_cfg"]["context_length"] = 248
            found[f"{name}-long-248"] = _count(config, home)
    shutil.rmtree(home)
    return found


def _count(config: Case, xlmr_home: Path) -> int:
    text = dict(config.pop("text_cfg"))
    if "hf_model_name" in text:
        text |= {"hf_model_name": str(xlmr_home), "hf_model_pretrained": False}
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    with torch.device("meta"):
        model = (CustomTextCLIP if custom else CLIP)(text_cfg=text, **config)
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def preprocessing(out: Path) -> None:
    """What open_clip's evaluation transform makes of images that are wide, high, small: to 32 px, not normalised."""
    from PIL import Image

    torch.manual_seed(11)
    found = {}
    for height, width in ((45, 71), (90, 33), (17, 20)):
        pixels = (torch.rand(3, 6, 7)[None] * 255).round()
        pixels = nn.functional.interpolate(pixels, (height, width), mode="bilinear")[0].permute(1, 2, 0)
        pixels = (pixels + 20 * torch.randn(pixels.shape)).clamp(0, 255).to(torch.uint8).contiguous()
        found[f"{height}x{width}"] = pixels
        for resize in ("shortest", "squash"):
            for interpolation in ("bicubic", "bilinear"):
                settings = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "resize_mode": resize}
                transform = open_clip.image_transform(SIDE, False, interpolation=interpolation, **settings)
                made = transform(Image.fromarray(pixels.numpy()))  # [3, 32, 32] in [0, 1]
                found[f"{height}x{width} {resize} {interpolation}"] = (made * 255).round().to(torch.uint8)
    save_file({k: v.contiguous() for k, v in found.items()}, str(out / "preprocessing.safetensors"))


CASES = (clip_quick, clip_plain, clip_openai, clip_long, clip_resnet, xlmr, siglip_open_clip, clip_hf, siglip_hf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    packages = (torch, open_clip, timm, transformers)
    manifest = {
        "made_with": {p.__name__: p.__version__ for p in packages},
        "cases": [make(out) for make in CASES],
        "parameters": counts(out),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    preprocessing(out)
    for file in (f for f in out.rglob("*") if f.is_file()):
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{len(manifest['cases'])} cases, {size / 1e6:.2f} MB in {out}")


if __name__ == "__main__":
    main()
