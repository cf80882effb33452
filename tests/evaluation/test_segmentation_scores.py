"""mIoU against loops and numbers by hand; the published protocols' steps; suites from end to end on drawn sets."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from geoglot.data.segmentation import SegmentationSet, open_segmentation
from geoglot.errors import EmptyQueryError, SampleError, SourceError, UsageError
from geoglot.evaluation.report import published, tables
from geoglot.evaluation.segmentation import (
    NO_ANSWER,
    confusion,
    intersections_unions,
    mean_iou,
    percent_iou,
    score,
)
from geoglot.evaluation.segmentation_protocols import (
    CHIP_PX,
    MEAN_COLOUR,
    PUBLISHED,
    STRIDE_PX,
    chip_scores,
    chip_starts,
    decide,
    fit,
    imagenet_templates,
    our_predict,
    published_predict,
    slide,
    template_means,
)
from geoglot.evaluation.segmentation_suite import open_masks
from geoglot.evaluation.suites import Options, evaluate, find_suites
from geoglot.models.card import Card
from geoglot.scoring.enlarge import enlarged
from geoglot.types import Calibration

COLOURS = {"water": (20, 60, 220), "sea": (25, 65, 215), "forest": (20, 160, 40), "sand": (230, 190, 60)}


class Patches:
    """Colours as words; a patch is the mean of 16 px, centred, as a unit vector."""

    patch_px = 16

    def __init__(self) -> None:
        calibration = Calibration(temperature=20.0, alike=0.9, slope=4.0, offset=-4.0)
        self.card = Card(
            "patches", "1", 3, 32, ("en",), None, (), background=("sand", "forest", "water"), calibration=calibration
        )
        self.shapes: list[tuple[int, ...]] = []

    def encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._unit(images.reshape(len(images), -1, 3).mean(axis=1))

    def patch_features(self, images: NDArray[np.uint8], last_block: object = None) -> NDArray[np.float32]:
        n, h, w, _ = images.shape
        self.shapes.append(images.shape)
        return self._unit(images.reshape(n, h // 16, 16, w // 16, 16, 3).mean(axis=(2, 4)))

    def patches_and_token(self, images: NDArray[np.uint8], last_block: object = None) -> tuple[object, object]:
        return self.patch_features(images), self.encode_images(images)

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        if any(not text for text in texts):
            raise EmptyQueryError("empty")
        words = [next((w for w in t.replace(".", "").split() if w in COLOURS), "sand") for t in texts]
        return self._unit(np.array([COLOURS[word] for word in words], float))

    @staticmethod
    def _unit(colours: NDArray[np.floating]) -> NDArray[np.float32]:
        centred = colours - 110.0
        return np.asarray(centred / np.linalg.norm(centred, axis=-1, keepdims=True), np.float32)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Three pictures, left half water, right half forest, the rim ignored, in the generic layout, as `root/dubai`."""
    folder = tmp_path / "dubai"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(3):
        rgb, mask = np.zeros((64, 96, 3), np.uint8), np.ones((64, 96), np.uint8)
        rgb[:], rgb[:, 48:], mask[:, 48:] = COLOURS["water"], COLOURS["forest"], 2
        mask[:2] = 0
        Image.fromarray(rgb).save(folder / "images" / f"tile2_{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"tile2_{number}.png")
    (folder / "classes.json").write_text(json.dumps(["unlabeled", "water", "forest"]))
    return tmp_path


def opened(root: Path) -> SegmentationSet:
    return open_segmentation("dubai", root / "dubai")


# --- the metric ----------------------------------------------------------------------------------


def test_iou_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    called = np.array([[0, 1, 1, NO_ANSWER, 0]], np.uint8)
    counts = confusion(called, truth, 3)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    iou = percent_iou(intersections_unions(counts))
    assert iou[:2] == pytest.approx([100 * 1 / 2, 100 * 1 / 3])
    assert np.isnan(iou[2])
    result = score(intersections_unions(counts)[None], ("a", "b", "c"))
    assert result.miou == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    with pytest.raises(UsageError, match="the prediction has"):
        confusion(called[:, :3], truth, 3)
    with pytest.raises(SampleError, match="holds 3, 254, which is neither one of 3 classes nor ignored"):
        confusion(called, np.array([[0, 3, 254, 1, 255]], np.uint8), 3)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_iou_equals_sets_of_pixels(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(classes), 255], (6, 7)).astype(np.uint8)
    called = rng.choice([*range(classes), 255], (6, 7)).astype(np.uint8)
    got = percent_iou(intersections_unions(confusion(called, truth, classes)))
    for k in range(classes):
        is_k = {p for p in np.ndindex(6, 7) if truth[p] == k}
        called_k = {p for p in np.ndindex(6, 7) if called[p] == k and truth[p] != 255}
        union = is_k | called_k
        wanted = 100 * len(is_k & called_k) / len(union) if union else np.nan
        assert got[k] == pytest.approx(wanted, nan_ok=True)


def test_the_interval_is_over_images(drawn: Path) -> None:
    data = opened(drawn)
    exact = mean_iou(lambda image, gsd: np.where(image[..., 2] > 200, 0, 1).astype(np.uint8), data)
    assert (exact.miou, exact.interval, exact.images) == (100.0, (100.0, 100.0), 3)
    answers = iter([0, 0, 1])
    mixed = mean_iou(lambda image, gsd: np.full(image.shape[:2], next(answers), np.uint8), data)
    # water: 2 of 3 images right, called on 2 whole images; forest: 1 of 3.
    assert mixed.iou == pytest.approx([100 * 2 / 5, 100 * 1 / 4])
    assert mixed.interval == pytest.approx((25.0, 32.5))  # water alone, or all three pictures
    assert mean_iou(lambda image, gsd: np.zeros(image.shape[:2], np.uint8), data, limit=2).images == 2


# --- the published protocols ---------------------------------------------------------------------


def test_published_values() -> None:
    assert (CHIP_PX, STRIDE_PX) == (224, 112)
    assert len(set(imagenet_templates())) == 80
    assert all(template.count("{c}") == 1 for template in imagenet_templates())
    assert PUBLISHED["ovss/farslip"].bias == 0
    assert PUBLISHED["ovss/segearth-bilinear"].bias == -0.3
    means = {p.model: p.value for p in published() if p.protocol == "ovss/farslip-8" and p.dataset == "mean"}
    assert (means["B/32 FarSLIP-s2"], means["B/16 FarSLIP-s1"], len(means)) == (30.49, 35.44, 17)


@given(st.integers(1, 1200))
def test_chips_cover_every_pixel(size: int) -> None:
    spots = chip_starts(size)
    assert spots[0][0] == 0
    assert spots[-1][1] == size
    assert all(end - start == min(CHIP_PX, size) for start, end in spots)
    assert all(0 < b[0] - a[0] <= STRIDE_PX for a, b in pairwise(spots))
    by_hand = max(size - CHIP_PX + STRIDE_PX - 1, 0) // STRIDE_PX + 1
    assert len(spots) == by_hand


def test_pictures_are_fitted_by_their_longer_side() -> None:
    assert fit(np.zeros((500, 1000, 3), np.uint8)).shape == (224, 448, 3)
    assert fit(np.zeros((333, 100, 3), np.uint8)).shape == (448, 135, 3)
    same = np.random.default_rng(0).integers(0, 255, (448, 300, 3)).astype(np.uint8)
    assert fit(same) is same
    ramp = np.linspace(0, 1, 5, dtype=np.float32)[None, None].repeat(3, 1)
    wanted = np.interp((np.arange(10) + 0.5) / 2 - 0.5, range(5), ramp[0, 0])
    assert enlarged(ramp, (3, 10))[0, 0] == pytest.approx(wanted)


@pytest.mark.parametrize("size", [(100, 224), (224, 75), (33, 50), (64, 64)])
def test_small_chips_are_filled_up_and_then_shown_at_the_model_s_side(size: tuple[int, int]) -> None:
    """The steps of RS-OVSS (commit a65c307, forward_slide) in PyTorch: pad, resize, upsample, cut."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    class Sees(Patches):
        """One number a patch: the mean of its pixels."""

        def patch_features(self, images: NDArray[np.uint8], last_block: Any = None) -> NDArray[np.float32]:
            grid = images.astype(np.float32).mean(3)
            side, patch = self.card.image_px, self.patch_px
            assert images.shape[1:3] == (side, side)
            cells = grid.reshape(len(images), side // patch, patch, side // patch, patch).mean((2, 4))
            return cells[..., None] / 255

    encoder = Sees()
    side, patch = encoder.card.image_px, encoder.patch_px
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    top, left = (-size[0] % patch, -size[1] % patch)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() - torch.tensor(MEAN_COLOUR).view(1, 3, 1, 1)
    x = functional.pad(x, (left // 2, left - left // 2, top // 2, top - top // 2))
    shown = functional.interpolate(x, (side, side), mode="bilinear") + torch.tensor(MEAN_COLOUR).view(1, 3, 1, 1)
    cells = shown.mean(1).reshape(1, side // patch, patch, side // patch, patch).mean((2, 4))[:, None] / 255
    wanted = functional.interpolate(cells, x.shape[-2:], mode="bilinear")[0, 0]
    wanted = wanted[top // 2 : top // 2 + size[0], left // 2 : left // 2 + size[1]].numpy()
    (got,) = chip_scores(encoder, image[None], np.ones((1, 1), np.float32), PUBLISHED["ovss/farslip"])  # type: ignore[arg-type]
    assert got[0] == pytest.approx(wanted, abs=2e-3)  # pixels are rounded to 8 bits on the way


def test_chips_are_averaged_by_how_many_cover_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((448, 300, 3), np.uint8)
    numbers = iter(range(100))

    def constant(encoder: object, chips: NDArray[np.uint8], table: object, rules: object) -> list[NDArray[np.float32]]:
        return [np.full((2, *chips.shape[1:3]), next(numbers), np.float32) for _ in chips]

    monkeypatch.setattr("geoglot.evaluation.segmentation_protocols.chip_scores", constant)
    got = slide(Patches(), image, np.zeros((2, 3), np.float32), PUBLISHED["ovss/farslip"])  # type: ignore[arg-type]
    spots = [(y, x) for y in chip_starts(448) for x in chip_starts(300)]
    for y, x in ((0, 0), (150, 200), (447, 299), (230, 80)):
        over = [n for n, (v, u) in enumerate(spots) if v[0] <= y < v[1] and u[0] <= x < u[1]]
        assert got[0, y, x] == pytest.approx(np.mean(over))


def test_synonyms_softmax_and_threshold_on_hand_made_logits() -> None:
    logits = np.array([0.30, 0.10, 0.20], np.float32)[:, None, None]  # two synonyms of class 0, one of class 1
    odds = np.exp(50 * logits.ravel() - 15)
    shares = odds / odds.sum()
    assert decide(logits, np.array([0, 0, 1]), 0.0, 1).tolist() == [[0]]
    assert decide(logits, np.array([0, 0, 1]), float(shares[0]) + 1e-3, 1).tolist() == [[1]]
    assert decide(logits, np.array([0, 1, 1]), 0.0, 0).tolist() == [[0]]
    # the sum over synonyms would choose class 0 here, the best synonym chooses class 1
    close = np.array([0.200, 0.200, 0.205], np.float32)[:, None, None]
    assert decide(close, np.array([0, 0, 1]), 0.0, 0).tolist() == [[1]]


def test_the_bias_takes_off_the_chip_s_own_score(drawn: Path) -> None:
    encoder, data = Patches(), opened(drawn)
    table = template_means(encoder, ["water", "forest"])  # type: ignore[arg-type]
    image = np.random.default_rng(0).integers(0, 255, (224, 224, 3)).astype(np.uint8)
    plain = slide(encoder, image, table, PUBLISHED["ovss/segearth-bilinear"])  # type: ignore[arg-type]
    patches, token = encoder.patch_features(image[None]), encoder.encode_images(image[None])
    wanted = patches[0] @ table.T - 0.3 * (token @ table.T)[0]
    assert plain[:, 8::16, 8::16] == pytest.approx(_centres(wanted), abs=0.02)
    assert len(data) == 3

    class NoToken(Patches):
        patches_and_token = None  # type: ignore[assignment]

    with pytest.raises(UsageError, match="no class token"):
        slide(NoToken(), image, table, PUBLISHED["ovss/segearth-bilinear"])  # type: ignore[arg-type]


def _centres(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixel 8 of a patch of 16 lies 1/32 of the way to the next one."""
    places = np.clip(np.arange(len(patches)) + 1 / 32, 0, len(patches) - 1)
    left = np.minimum(places.astype(int), len(patches) - 2)
    share = (places - left)[:, None, None]
    rows = patches[left] * (1 - share) + patches[left + 1] * share
    columns = rows[:, left] * (1 - share.transpose(1, 0, 2)) + rows[:, left + 1] * share.transpose(1, 0, 2)
    return columns.transpose(2, 0, 1)


@pytest.mark.parametrize("kind", ["ovss/farslip", "ovss/segearth-bilinear"])
def test_published_protocols_find_plain_halves(kind: str, drawn: Path) -> None:
    encoder, data = Patches(), opened(drawn)
    result = mean_iou(published_predict(kind, encoder, data), data)  # type: ignore[arg-type]
    assert result.miou > 95
    own = kind == "ovss/farslip"
    assert {shape[1:3] for shape in encoder.shapes} == ({(32, 32)} if own else {(224, 224)})


def test_ours_finds_plain_halves_and_asks_for_the_background_as_such(drawn: Path) -> None:
    from dataclasses import replace

    encoder, data = Patches(), opened(drawn)
    assert mean_iou(our_predict(encoder, data), data).miou > 90  # type: ignore[arg-type]
    without = replace(data, classes=(("background",), ("forest",)), background=0)
    called = our_predict(encoder, without)(data.image(0), None)  # type: ignore[arg-type]
    assert (called[:, :40] == 0).all()
    assert (called[:, 56:] == 1).all()


# --- suites --------------------------------------------------------------------------------------


def test_a_suite_from_end_to_end(drawn: Path) -> None:
    told: list[tuple[str, int, int]] = []
    options = Options(drawn, told=lambda *facts: told.append(facts))
    numbers = evaluate(find_suites("ovss/geoglot", ["dubai"]), [Patches()], options)  # type: ignore[list-item]
    assert [n.metric for n in numbers] == ["miou", "iou water", "iou forest"]
    assert numbers[0].parts == ("iou water", "iou forest")
    assert numbers[0].interval is not None
    assert (numbers[0].protocol, numbers[0].dataset, numbers[0].split, numbers[0].count) == (
        "ovss/geoglot", "dubai", "test", 3,
    )  # fmt: skip
    assert told[-1] == ("patches on dubai test", 3, 3)
    (table,) = tables(numbers)
    assert table.columns == ("dubai (3)",)
    counted = evaluate(find_suites("ovss/farslip-8", ["dubai"]), [Patches()], Options(drawn))  # type: ignore[list-item]
    assert counted[0].protocol == "ovss/farslip"  # not one of the eight sets: no published number stands beside it


def test_sets_that_are_not_there_are_all_told(drawn: Path) -> None:
    with pytest.raises(SourceError, match="2 data sets cannot be used") as error:
        open_masks(["dubai", "loveda", "udd5"], drawn)
    assert "zenodo" in error.value.hint
    assert set(open_masks(["dubai"], drawn)) == {"dubai"}
