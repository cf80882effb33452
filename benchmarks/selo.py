"""Semantic localization of 20 sentences in a scene of 5,000 x 5,000 px, against twins that work window by window.

    python benchmarks/selo.py
    python benchmarks/selo.py --side 1500 --sentences 3 --sample 20      # a quick look

Three ways to the same maps, one process, one scene, the same model and threads:

- ours: `geoglot localize` in fast mode, windows encoded once, in batches; maps in full resolution (cells of 1 px), and
  on its own cells of 16 px
- twin: for each sentence each window is cut, resized, encoded alone and added to its pixels (NumPy slices)
- released: the same, through a JPEG file for each window and a Python loop over the pixels that divides the sums, as
  the method's released code does

Both twins are timed on a sample of windows, one sentence's slices and some rows of the pixel loop, and extrapolated:
all of their parts are linear. The maps are compared: means of the same values, and the scores of windows cut one by one
with those of the scene reader. Target: 30x the twin.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoglot.evaluation.localization import windows_of
from geoglot.imagery.grid import SIDES_PX, ScaleGrid
from geoglot.imagery.scene import open_scene
from geoglot.models.encoder import DualEncoder
from geoglot.models.load import load_encoder
from geoglot.tasks.localize.localizer import LocalizeSettings, localize_scene, make_plan
from geoglot.tasks.localize.maps import encode_windows
from geoglot.types import Window

WORDS = (
    "boats in a harbor", "a river", "dense forest", "an airport", "a parking lot", "tennis courts", "a bridge",
    "farmland", "storage tanks", "a baseball field", "desert", "a lake", "houses", "a railway station", "a stadium",
    "a beach", "mountain", "a pond", "an industrial area", "a school",
)  # fmt: skip


def draw(path: Path, side: int) -> NDArray[np.uint8]:
    """Coloured fields with texture, tiled GeoTIFF; what they show does not change the time."""
    import rasterio

    random = np.random.default_rng(0)
    fields = random.integers(30, 220, (side // 125 + 1, side // 125 + 1, 3), dtype=np.uint8)
    pixels = fields.repeat(125, 0).repeat(125, 1)[:side, :side]
    pixels = pixels + random.integers(0, 30, (side, side, 1), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    profile |= {"blockxsize": 256, "blockysize": 256, "photometric": "rgb"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **profile) as out:
            out.write(np.moveaxis(pixels, 2, 0))
    return np.asarray(pixels)


def seconds(work: Callable[[], object]) -> float:
    """Wall clock of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ours(path: Path, encoder: DualEncoder, sentences: list[str], cell_px: int | None) -> None:
    """All sentences; each map is made and let go."""
    with open_scene(path) as scene:
        plan = make_plan(scene, sentences, LocalizeSettings(cell_px=cell_px))
        for heat in localize_scene(scene, encoder, sentences, plan):
            assert heat.values.shape == (plan.height, plan.width)


def window_seconds(
    image: NDArray[np.uint8], encoder: DualEncoder, windows: list[Window], released: bool, folder: Path
) -> float:
    """Of one window of one sentence: cut, resize, encode image and compare."""
    side = encoder.card.image_px

    def work() -> None:
        text = encoder.encode_texts([WORDS[0]])[0]
        for window in windows:
            chip = Image.fromarray(image[window.y0 : window.y1, window.x0 : window.x1])
            if released:
                chip.resize((256, 256), Image.Resampling.BICUBIC).save(folder / "chip.jpg", quality=95)
                chip = Image.open(folder / "chip.jpg")
            pixels = np.asarray(chip.resize((side, side), Image.Resampling.BICUBIC))
            float(encoder.encode_images(pixels[None])[0] @ text)

    return seconds(work) / len(windows)


def slice_seconds(shape: tuple[int, int], windows: list[Window]) -> float:
    """Of one sentence: every window's score added to its pixels, and the division."""
    total, count = np.zeros(shape), np.zeros(shape)

    def work() -> None:
        for window in windows:
            total[window.y0 : window.y1, window.x0 : window.x1] += 0.5
            count[window.y0 : window.y1, window.x0 : window.x1] += 1
        np.divide(total, count)

    return seconds(work)


def loop_seconds(shape: tuple[int, int], rows: int) -> float:
    """Of one sentence: the released code's division, pixel by pixel, from some rows."""
    total, count = np.ones((rows, shape[1])), np.ones((rows, shape[1]))

    def work() -> None:
        for row in range(rows):
            for column in range(shape[1]):
                total[row, column] = total[row, column] / count[row, column]

    return seconds(work) * shape[0] / rows


def agreement(path: Path, encoder: DualEncoder, windows: list[Window]) -> tuple[float, float]:
    """(largest difference of the means for the same values; correlation with windows cut one by one, on a crop)."""
    with open_scene(path) as scene:
        encoded = encode_windows(scene, encoder, ScaleGrid(SIDES_PX))
        width, height = scene.info.width, scene.info.height
        values = encoded.vectors @ encoder.encode_texts([WORDS[0]])[0]
    found = encoded.cover(width, height, 1).mean(values)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (x0, y0, x1, y1), value in zip(encoded.boxes.tolist(), values.tolist(), strict=True):
        total[y0:y1, x0:x1] += value
        count[y0:y1, x0:x1] += 1
    difference = float(np.abs(found - total / count).max())
    by_box = dict(zip(map(tuple, encoded.boxes.tolist()), values.tolist(), strict=True))
    image = np.asarray(Image.fromarray(_read(path)))
    side = encoder.card.image_px
    cut = [image[w.y0 : w.y1, w.x0 : w.x1] for w in windows]
    alone = np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in cut])
    scores = encoder.encode_images(alone) @ encoder.encode_texts([WORDS[0]])[0]
    return difference, float(np.corrcoef(scores, [by_box[w.box_px] for w in windows])[0, 1])


def _read(path: Path) -> NDArray[np.uint8]:
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as source:
            return np.moveaxis(source.read(), 0, 2)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="geoglot-mini")
    parser.add_argument("--side", type=int, default=5000)
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--sample", type=int, default=200, help="windows that the twins are timed on")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    encoder = load_encoder(args.model, threads=args.threads)
    sentences = list(WORDS[: args.sentences])
    encoder.encode_texts(sentences)
    encoder.encode_images(np.zeros((2, encoder.card.image_px, encoder.card.image_px, 3), np.uint8))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        image = draw(folder / "scene.tif", args.side)
        windows = windows_of(args.side, args.side, SIDES_PX)
        picked = [windows[i] for i in np.linspace(0, len(windows) - 1, min(args.sample, len(windows))).astype(int)]
        cells = seconds(lambda: ours(folder / "scene.tif", encoder, sentences, None))
        mine = seconds(lambda: ours(folder / "scene.tif", encoder, sentences, 1))
        add = slice_seconds(image.shape[:2], windows)
        twin = window_seconds(image, encoder, picked, False, folder) * len(windows) + add
        loop = loop_seconds(image.shape[:2], max(1, min(20, args.side)))
        released = window_seconds(image, encoder, picked, True, folder) * len(windows) + add + loop
        difference, correlation = agreement(folder / "scene.tif", encoder, picked)
    times = len(sentences)
    print(f"{encoder.card.name}: {args.side} x {args.side} px, {len(windows)} windows, {times} sentences")
    print(f"ours {mine:.1f} s in full resolution; {cells:.1f} s on cells of 16 px")
    print(f"twin {twin * times:.1f} s ({twin:.1f} s a sentence, of which adding {add:.1f} s): "
          f"{twin * times / mine:.1f}x (target 30x), on cells {twin * times / cells:.1f}x")  # fmt: skip
    print(f"released {released * times:.1f} s (pixel loop {loop:.1f} s a sentence): {released * times / mine:.1f}x, "
          f"{released * times / cells:.1f}x")  # fmt: skip
    print(f"means differ by {difference:.1e} at most; scores of windows cut alone correlate by {correlation:.4f}")
    print(f"extrapolated from {len(picked)} of {len(windows)} windows, one sentence's adding, and 20 rows of the loop")


if __name__ == "__main__":
    main()
