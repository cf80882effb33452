"""The presets open the published files: a few images of each set, in its own layout and encoding."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from geoglot.config import load_config  # noqa: E402
from geoglot.data.regions import open_regions  # noqa: E402
from geoglot.data.sources import DataSource, open_source  # noqa: E402
from geoglot.training.recipes import contrastive  # noqa: E402
from geoglot.training.recipes.farslip import recipe as farslip  # noqa: E402
from geoglot.training.recipes.farslip.region_pairs import RegionPairs  # noqa: E402
from geoglot.training.recipes.gaia import recipe as gaia  # noqa: E402
from geoglot.training.recipes.purify import recipe as purify  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*_*.toml"))
RECIPES: dict[str, Any] = {"contrastive": contrastive, "farslip": farslip, "gaia": gaia, "purify": purify}
PRESETS = [path for path in CONFIGS if path.stem.split("_")[0] in RECIPES]
CAPTION = "一座机场 with “planes”"  # not valid UTF-8 once it is gb18030


def picture(kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 100, 3)).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def rs5m_sample() -> dict[str, bytes]:
    """The members of a sample of RS5M."""
    return {"img_name": b"laion2b_0_1.jpg", "caption": b"an aerial image", "img_content": picture("JPEG")}


def img2dataset_sample() -> dict[str, bytes]:
    """The members of a sample as img2dataset writes it."""
    facts = json.dumps({"key": "000000000", "status": "success", "caption": CAPTION}, ensure_ascii=False)
    return {"jpg": picture("JPEG"), "txt": CAPTION.encode(), "json": facts.encode()}


def write_tar(path: Path, key: str, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{key}.{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RS5M's tars; RSICD (gb18030) and RSITMD as its test pack has them, and their train tables; MGRS-200k; GAIA's
    pairs and CLIP-RS's pools as img2dataset writes tars; COCO's captions."""
    base = tmp_path_factory.mktemp("published")
    for part in ("pub11", "rs3"):
        write_tar(base / "rs5m" / f"{part}-train-0000.tar", f"{part}_00000001", rs5m_sample())
    for folder in ("gaia/train", "gaia/val", "skyscript", "coarse"):
        write_tar(base / folder / "00000.tar", "000000000", img2dataset_sample())
    (base / "coco").mkdir()
    (base / "coco" / "1.png").write_bytes(picture())
    (base / "coco" / "val2017.jsonl").write_text(json.dumps({"image": "1.png", "captions": [CAPTION]}) + "\n", "utf-8")
    for name, folder, encoding in (("rsicd", "RSICD_images", "gb18030"), ("rsitmd", "images", "utf-8")):
        (base / name / folder).mkdir(parents=True)
        table = f"filename,title\n{name}.png,{CAPTION}\n".encode(encoding)
        (base / name / f"{name}_test.csv").write_bytes(table)
        (base / f"{name}_train.csv").write_bytes(table)
        for place in (base / name / folder, base):
            (place / f"{name}.png").write_bytes(picture())
    (base / "mgrs-200k" / "global_imgs").mkdir(parents=True)
    (base / "mgrs-200k" / "global_imgs" / "1.png").write_bytes(picture())
    box = {"x1": 4, "y1": 8, "x2": 60, "y2": 80, "W": 100, "H": 90}
    ship = {"bbox": box, "category": "ship", "category_id": 3}
    record = {"global_filepath": "1.png", "global_caption": "", "detailed_caption": CAPTION, "segment": [ship]}
    (base / "mgrs-200k" / "text_info.json").write_text(json.dumps([record], ensure_ascii=False), "utf-8")
    return base


def sources_of(config: Any) -> list[DataSource]:
    """Every source of pairs that a config names for training and validation."""
    fields = [getattr(config, name, None) for name in ("data", "good", "coarse", "gained", "kept")]
    flat = [source for field in fields for source in (field if isinstance(field, tuple) else (field,))]
    return [source for source in flat if source is not None]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_open_the_published_files(path: Path, base: Path) -> None:
    config = load_config(RECIPES[path.stem.split("_")[0]].Config, path)
    pairs: list[Any] = [open_source(source, base) for source in sources_of(config)]
    pairs += [RegionPairs(open_regions(source, base)) for source in getattr(config, "regions", ())]
    assert pairs
    assert all(one.read(0).captions[0] for one in pairs)
    tests = [open_source(source, base).read(0) for source in getattr(config, "leakage", ())]
    assert [pair.captions for pair in tests] == [(CAPTION,)] * len(tests)
    assert bool(tests) == path.stem.startswith("contrastive")
