from __future__ import annotations

from pathlib import Path

import pytest

from geoglot.errors import ModelFileError, ModelNotFoundError
from geoglot.files import sha256
from geoglot.models.card import read_card
from geoglot.models.zoo.registry import find_card

CARD = """
name = "tiny"
version = "1"
dim = 4
image_px = 8
languages = ["en"]
gsd_m = [0.3, 10]
ground_m = [80]
background = ["a forest"]
licence = "ours"
[calibration]
slope = 2.0
[files.image]
file = "image.onnx"
sha256 = "{sha}"
"""


def _folder(path: Path, body: str = CARD) -> Path:
    (path / "image.onnx").write_bytes(b"weights")
    (path / "card.toml").write_text(body.replace("{sha}", sha256(path / "image.onnx")))
    return path


def test_reads_and_verifies(tmp_path: Path) -> None:
    card = read_card(_folder(tmp_path))
    assert (card.name, card.dim, card.image_px, card.gsd_m) == ("tiny", 4, 8, (0.3, 10.0))
    assert card.calibration.slope == 2.0
    assert card.about == {"licence": "ours"}
    card.verify()
    (tmp_path / "image.onnx").write_bytes(b"weightz")
    with pytest.raises(ModelFileError, match="damaged"):
        card.verify()
    (tmp_path / "image.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"lacks image\.onnx; looked in"):
        card.file("image")
    with pytest.raises(ModelFileError, match="names no text file"):
        card.file("text")


def test_fingerprint_follows_weights_and_preprocessing(tmp_path: Path) -> None:
    first = read_card(_folder(tmp_path)).fingerprint
    assert read_card(_folder(tmp_path, CARD.replace("slope = 2.0", "slope = 3.0"))).fingerprint == first
    assert read_card(_folder(tmp_path, CARD.replace("image_px = 8", "image_px = 16"))).fingerprint != first
    assert read_card(_folder(tmp_path, CARD.replace("{sha}", "0" * 64))).fingerprint != first


@pytest.mark.parametrize(
    "body", ["name = 3 =", CARD.replace("dim = 4", ""), CARD.replace("slope", "slop"), CARD.replace("[0.3, 10]", "3")]
)
def test_a_bad_card_is_refused(tmp_path: Path, body: str) -> None:
    with pytest.raises(ModelFileError, match="not a valid card"):
        read_card(_folder(tmp_path, body))


def test_unknown_model_suggests(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="geoglot-mino") as caught:
        find_card("geoglot-mino")
    assert "geoglot-mini" in caught.value.hint
    with pytest.raises(ModelNotFoundError, match=r"no card\.toml"):
        find_card(str(tmp_path))
