"""Trained towers -> ONNX files for the light runtime, with their preprocessing inside the graph."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoglot.errors import MissingExtraError, ModelFileError
from geoglot.models.encoder import Images
from geoglot.models.towers.convnet_training import DualTower, TowerShape

PATCH_PX = 32
"""Stride of the image tower: side of one place of its map."""

LARGE_BYTES = 1_900_000_000  # ONNX files end at 2 GiB, a limit of protocol buffers


class _ImageGraph(nn.Module):
    """uint8 [N, H, W, 3] -> unit vectors [N, D] of the images, and [N, ceil(H / 32), ceil(W / 32), D] of their places.

    The projection is linear, so an image's vector is the mean of its places' before they are normalised.
    """

    def __init__(self, towers: DualTower) -> None:
        super().__init__()
        self.image = towers.image

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.image.features(images.permute(0, 3, 1, 2).float() / 255.0)  # [N, C, Ph, Pw]
        n, c, rows, columns = found.shape
        # One product over a matrix: a product and a sum apart would have the sum quantised.
        places = self.image.project(found.permute(0, 2, 3, 1).reshape(-1, c)).reshape(n, rows, columns, -1)
        return F.normalize(self.image.project(found.mean((2, 3))), dim=1), F.normalize(places, dim=3)


class _TextGraph(nn.Module):
    """int64 [M, T] -> unit vectors [M, D]."""

    def __init__(self, towers: DualTower) -> None:
        super().__init__()
        self.text = towers.text

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text(tokens), dim=1)


def load_towers(weights: Path) -> DualTower:
    """Read what the recipe's `final.pt` holds, in evaluation mode.

    Raises:
        ModelFileError: Not such a file.
    """
    try:
        state = torch.load(weights, weights_only=True)
        shape = TowerShape(**state["shape"])
        towers = DualTower(shape)
        towers.load_state_dict(state["weights"])
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise ModelFileError(f"{weights} does not hold trained towers: {error}") from error
    return towers.eval()


def export_image(towers: DualTower, side_px: int, path: Path) -> None:
    """Write the fp32 image graph, with outputs "vectors" and "patches", for images of any size. About 5 s."""
    example = torch.zeros(2, side_px, side_px, 3, dtype=torch.uint8)
    sides = {1: torch.export.Dim("height", min=2, max=16384), 2: torch.export.Dim("width", min=2, max=16384)}
    write_graph(_ImageGraph(towers), example, "images", path, sides, ("vectors", "patches"))


def export_text(towers: DualTower, path: Path) -> None:
    """Write the fp32 text graph. About 5 s."""
    example = torch.ones(2, towers.shape.context, dtype=torch.int64)
    write_graph(_TextGraph(towers), example, "tokens", path)


def write_graph(
    graph: nn.Module,
    example: Tensor,
    name: str,
    path: Path,
    free: Mapping[int, Any] | None = None,
    outputs: Sequence[str] = ("vectors",),
) -> None:
    """Write a graph with one input, for any batch.

    Args:
        graph: Called with the example.
        example: At least two rows.
        name: Of the input.
        path: The file to write; above 1.9 GB of weights they go into a second file, `<path>.data`.
        free: Further axes of the input whose length is free, as torch.export.Dim; the others keep the example's.
        outputs: Names of what the graph returns.

    Raises:
        MissingExtraError: The exporter is not installed.
        ModelFileError: The graph cannot be exported.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("exporting a model", "export") from error
    axes = {0: torch.export.Dim("batch", min=1, max=65536), **(free or {})}
    for noisy in ("torch.onnx", "onnxscript"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's to itself, a dozen a graph
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            input_names=[name],
            output_names=list(outputs),
            dynamic_shapes=(axes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelFileError(f"the exporter returned nothing for {path}")
    program.save(str(path), external_data=is_large(graph))


def is_large(graph: nn.Module) -> bool:
    """Whether the weights are too many for one file."""
    return bool(sum(tensor.nbytes for tensor in graph.state_dict().values()) > LARGE_BYTES)


def quantize_image(fp32: Path, int8: Path, calibration: Images, *, joined: bool = False) -> None:
    """Static int8 of the convolutions, weights per channel, activations by the range seen on `calibration` chips.

    The first convolution sees raw pixels and the projection makes the vector: both stay fp32.

    Args:
        fp32: The exported image graph.
        int8: The file to write.
        calibration: uint8 [N, S, S, 3]; a few hundred training chips.
        joined: Whether the graph is one of a joined model. Its weights take 7 of the 8 bits, for the same vectors on
            processors with and without VNNI (see int8.py); and it is not optimised before, which would undo its heads'
            int8 weights.
    """
    try:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError("quantising a model", "export") from error

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, Any]] = iter(
                {"images": calibration[at : at + 32]} for at in range(0, len(calibration), 32)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(fp32), str(prepared), skip_optimization=joined, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(int8),
            Reader(),
            per_channel=True,
            op_types_to_quantize=["Conv", "Add", "Relu", "Clip", "AveragePool"],
            reduce_range=joined,
            nodes_to_exclude=_first_convolution(prepared),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def _first_convolution(path: Path) -> list[str]:
    import onnx

    return [node.name for node in onnx.load(str(path)).graph.node if node.op_type == "Conv"][:1]


def strip_traces(path: Path) -> None:
    """Drop what the exporter notes down of its own run (stack traces with paths of this machine); in place."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    onnx.save(model, str(path))
