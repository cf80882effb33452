"""Make tests/models/golden_settings: open_clip models whose configurations state what CLIP's do not.

Needs the virtual environment that make_goldens.py describes:

    reference/bin/python tools/golden/make_settings.py

Each case is a folder as open_clip writes it, with random weights: open_clip_config.json, open_clip_model.safetensors,
and outputs.safetensors with images float [2, 3, 16, 16] (normalised), ids int64 [3, 12], image_embeddings and
text_embeddings (not normalised).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

SHIM = torch.library.Library("torchvision", "DEF")  # torchvision's wheel wants these two schemas beside a CPU PyTorch
for op in ("nms", "qnms"):
    SHIM.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from open_clip.model import CLIP  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "tests" / "models" / "golden_settings"
VISION = {"image_size": 16, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 12, "vocab_size": 40, "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clipa": (
        {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        {"pool_type": "last", "no_causal_mask": True},
    ),
    "mean": ({"pool_type": "avg"}, {}),
    "mean-then-norm": ({"pool_type": "avg", "final_ln_after_pool": True}, {"pool_type": "last"}),
    "no-norm-before": ({"no_ln_pre": True, "final_ln_after_pool": True}, {"no_causal_mask": True}),
    "end-token": ({}, {"pool_type": "eos", "eos_id": 2}),
    "first-token": ({}, {"pool_type": "first", "no_causal_mask": True, "final_ln_after_pool": True}),
}


def scrambled(model: nn.Module, seed: int) -> nn.Module:
    """Random values everywhere, also where training starts from 0 or 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * torch.randn_like(p))
            elif p.ndim:
                p.copy_(torch.randn_like(p) / p[0].numel() ** 0.5)
    return model.eval()


def token_ids() -> torch.Tensor:
    """The end token 2 stands in the middle; the highest id stands elsewhere."""
    ids = torch.randint(3, 39, (3, 12), generator=torch.Generator().manual_seed(3))
    for row, (end, highest) in enumerate(((4, 9), (11, 6), (1, 2))):
        ids[row, end], ids[row, highest] = 2, 39
    return ids


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    for seed, (name, (vision, text)) in enumerate(CASES.items()):
        config = {"embed_dim": 24, "vision_cfg": VISION | vision, "text_cfg": TEXT | text}
        model = scrambled(CLIP(**config), seed)
        folder = OUT / name
        folder.mkdir(parents=True)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}, indent=1) + "\n")
        save_file(
            {k: v.contiguous().clone() for k, v in model.state_dict().items()},
            str(folder / "open_clip_model.safetensors"),
        )
        images, ids = torch.randn(2, 3, 16, 16), token_ids()
        with torch.no_grad():
            found = {"image_embeddings": model.encode_image(images), "text_embeddings": model.encode_text(ids)}
        save_file({"images": images, "ids": ids, **found}, str(folder / "outputs.safetensors"))


if __name__ == "__main__":
    main()
