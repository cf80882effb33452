"""Make tests/models/golden_adapterhub: a small random CLIP with each tuning method's parts, as AdapterHub puts them in.

Needs a virtual environment of its own, because AdapterHub wants an older transformers:

    python -m venv reference && reference/bin/pip install \
        torch==2.13.0 adapters==1.3.0 transformers==4.57.6 safetensors==0.8.0
    reference/bin/python tools/golden/make_adapterhub.py

Every method has the configuration that AdapterHub gives it, but for the hidden width of the prefix's network (16, not
512), which is only a size. All values are random, also those that start at 0. The files, fp32:

    plain.safetensors       the model under transformers' names; images [3, 3, 16, 16] (normalised), ids int64 [3, 12]
    <method>.safetensors    what the method trains, and image_embeddings and text_embeddings (not normalised)

AdapterHub has no BitFit: there the biases of transformers' own model are others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapters
import torch
from adapters import LoRAConfig, PrefixTuningConfig, SeqBnConfig, UniPELTConfig
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

OUT = Path(__file__).resolve().parents[2] / "tests" / "models" / "golden_adapterhub"
NAME = "golden"
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": 16, "patch_size": 8}
TEXT = TOWER | {"vocab_size": 40, "max_position_embeddings": 12, "bos_token_id": 38, "eos_token_id": 39}
METHODS: dict[str, Any] = {
    "lora": LoRAConfig(),
    "adapter": SeqBnConfig(),
    "prefix": PrefixTuningConfig(bottleneck_size=16),
    "unipelt": UniPELTConfig(prefix_tuning=PrefixTuningConfig(prefix_length=10, bottleneck_size=16)),
}


def plain() -> CLIPModel:
    """The same model at each call."""
    model = CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=24)).eval()
    scramble(dict(model.named_parameters()), seed=0)
    return model


@torch.no_grad()
def scramble(parameters: dict[str, Tensor], seed: int) -> None:
    """Random values: of norms around 1, of other vectors around 0, of matrices by their inputs."""
    torch.manual_seed(seed)
    for name, p in sorted(parameters.items()):
        if p.ndim < 2:
            p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * torch.randn_like(p))
        else:
            p.copy_(torch.randn_like(p) / p[0].numel() ** 0.5)


def inputs() -> dict[str, Tensor]:
    """Three images; three texts of 4, 12 and 7 tokens, start and end among them, zeros behind."""
    chance = torch.Generator().manual_seed(1)
    ids = torch.zeros(3, 12, dtype=torch.long)
    for row, length in enumerate((4, 12, 7)):
        ids[row, :length] = torch.randint(1, 38, (length,), generator=chance)
        ids[row, 0], ids[row, length - 1] = 38, 39
    return {"images": torch.randn(3, 3, 16, 16, generator=chance), "ids": ids}


@torch.no_grad()
def embeddings(model: CLIPModel) -> dict[str, Tensor]:
    """One pass of both towers: AdapterHub makes its prefixes in the model's forward, not in the towers' own methods."""
    given = inputs()
    said = model(input_ids=given["ids"], pixel_values=given["images"])
    return {
        "image_embeddings": model.visual_projection(said.vision_model_output.pooler_output),
        "text_embeddings": model.text_projection(said.text_model_output.pooler_output),
    }


def tuned(config: Any, seed: int) -> dict[str, Tensor]:
    """AdapterHub's parts and what the model says with them; the shared prefix network has one name of many."""
    model = plain()
    adapters.init(model)
    model.add_adapter(NAME, config=config)
    model.set_active_adapters(NAME)
    parts = {name.rpartition(".pool.")[2]: p for name, p in model.named_parameters() if f".{NAME}." in name}
    scramble(parts, seed)
    return parts | embeddings(model.eval())


def biases(seed: int) -> dict[str, Tensor]:
    model = plain()
    parts = {name: p for name, p in model.named_parameters() if name.endswith("bias")}
    scramble(parts, seed)
    return parts | embeddings(model)


def write(name: str, tensors: dict[str, Tensor]) -> None:
    save_file({key: t.detach().contiguous().clone() for key, t in tensors.items()}, OUT / f"{name}.safetensors")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    write("plain", dict(plain().named_parameters()) | inputs())
    write("bitfit", biases(seed=9))
    for seed, (method, config) in enumerate(METHODS.items(), 10):
        write(method, tuned(config, seed))


if __name__ == "__main__":
    main()
