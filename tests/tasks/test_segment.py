"""Words to class maps: who wins a pixel, who is there at all, nodata, layouts that agree, memory that stays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_colours import COLOURS, PatchColours, quarters, unit

from geoglot.errors import UnknownWordsError, UsageError
from geoglot.imagery.scene import Pixels
from geoglot.models.encoder import DenseEncoder, dense
from geoglot.models.load import load_encoder
from geoglot.tasks.segment import decision, scores, segmenter
from geoglot.tasks.segment.classes import AUTO, EVERY, TOP, AskedClass, Presence, best_of, make_prompts, read_classes
from geoglot.tasks.segment.decision import Rule
from geoglot.tasks.segment.scores import Batch, PatchScorer
from geoglot.tasks.segment.segmenter import Segmenter, SegmentSettings, segment_image
from geoglot.tasks.segment.windows import ArrayPicture, make_plan, spans
from geoglot.types import Window

NAMES = ("water", "forest", "sand", "roof")


@pytest.fixture
def encoder() -> PatchColours:
    return PatchColours()


def painted(side: int = 128, **more: int) -> NDArray[np.uint8]:
    return quarters(side, NAMES, **more)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((), "no class is given"),
        (("water", ""), "empty word"),
        (("building,,roof",), "empty word"),
        (("water", "Water"), "given twice"),
        (("building,roof", "roof"), "'roof' is given twice, for 'building' and 'roof'"),
        (tuple(f"c{i}" for i in range(255)), "at most 254"),
    ],
)
def test_bad_classes_are_refused(asked: Sequence[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_classes(asked)


def test_a_class_is_named_after_its_first_word() -> None:
    assert [(one.name, one.words) for one in read_classes([" building , roof", "water"])] == [
        ("building", ("building", "roof")),
        ("water", ("water",)),
    ]


def test_a_class_with_a_name_of_its_own_keeps_it(encoder: PatchColours) -> None:
    asked = AskedClass("Siedlung", ("building", "roof"))
    assert read_classes(["Siedlung: building, roof", "water"]) == (asked, AskedClass("water", ("water",)))
    assert read_classes([asked, "water"])[0] is asked
    assert Segmenter(encoder, [asked]).classes == (asked,)
    assert Segmenter(encoder, [AskedClass("Dach, rot", ("roof",))]).classes[0].name == "Dach, rot"
    for name, words in (("", ("roof",)), ("a", ()), ("a", ("roof", " "))):
        with pytest.raises(UsageError, match="empty name" if not name else "empty word"):
            read_classes([AskedClass(name, words)])
    with pytest.raises(UsageError, match="two classes are called 'Stadt'"):
        read_classes(["Stadt: roof", "stadt: building"])


def test_an_unknown_word_does_not_hide_behind_a_template(encoder: PatchColours) -> None:
    with pytest.raises(UnknownWordsError, match="zorblax"):
        make_prompts(encoder, read_classes(["zorblax"]), None, ("{c}", "water and {c}"))
    with pytest.raises(UsageError, match="must hold"):
        make_prompts(encoder, read_classes(["water"]), None, ("no place",))


def test_background_words_that_mean_a_class_do_not_count_against_it(encoder: PatchColours) -> None:
    prompts = make_prompts(encoder, read_classes(["sea", "building"]), (AUTO,))
    assert [word for word, counts in zip(encoder.card.background, prompts.counts[0], strict=True) if not counts] == [
        "water"
    ]
    assert len(prompts.background) == 3  # neither water nor roof


def test_the_best_synonym_speaks_for_its_class() -> None:
    scores = np.array([[0.1, 0.9, 0.3], [0.8, 0.2, 0.5]], np.float32)
    assert best_of(scores, np.array([0, 0, 1])).tolist() == [
        pytest.approx([0.9, 0.3]),
        pytest.approx([0.8, 0.5]),
    ]


# --- scores --------------------------------------------------------------------------------------


def test_scores_are_temperature_times_cosine_with_the_window_s_own_score_taken_off(encoder: PatchColours) -> None:
    settings = SegmentSettings(templates=("{c}",), cls_bias=-0.3, background=("sand",))
    prompts = make_prompts(encoder, read_classes(["water,sea", "roof"]), settings.background, settings.templates)
    presence = Presence(prompts, 20.0, encoder.card.calibration)
    images = painted(32)[None]
    batch = Batch(0, (0,), images, np.ones((1, 4, 4), np.bool_))
    got = PatchScorer(encoder, prompts, settings, presence)(batch, 1)
    patches = encoder.patch_features(images)
    token = patches.mean(axis=(1, 2))
    token /= np.linalg.norm(token)
    for channel, word in enumerate(("water", "roof", "sand")):
        text = unit(np.array(COLOURS[word], float))
        wanted = 20.0 * (patches[0] @ text - 0.3 * float(token[0] @ text))
        np.testing.assert_allclose(got[0, channel], wanted, rtol=1e-4, atol=1e-3)


def test_a_class_token_is_used_where_the_model_has_one(encoder: PatchColours) -> None:
    class WithToken(PatchColours):
        def patches_and_token(self, images: NDArray[np.uint8], last_block: object = None) -> tuple[object, object]:
            return self.patch_features(images), np.array([[0.0, 0.0, 1.0]], np.float32).repeat(len(images), 0)

    image, asked = painted(64), ["water", "forest"]
    settings = SegmentSettings(templates=("{c}",), presence=0, cls_bias=-50.0)
    blue = unit(np.array([COLOURS["water"], COLOURS["forest"]], float))[:, 2]
    wanted = 2 if blue[0] > blue[1] else 1  # what resembles the token is taken off, whatever the patch
    assert set(np.unique(segment_image(WithToken(), image, asked, settings).classes)) == {wanted}


# --- who is there --------------------------------------------------------------------------------


def test_presence_equals_the_formula_written_out(encoder: PatchColours) -> None:
    rng = np.random.default_rng(1)
    patches = unit(rng.uniform(0, 255, (400, 3)))
    prompts = make_prompts(encoder, read_classes(["water", "roof"]), None, ("{c}",))
    calibration = encoder.card.calibration
    presence = Presence(prompts, 20.0, calibration)
    presence.add(patches[:101] @ prompts.words.T, patches[:101] @ prompts.others.T)
    presence.add(patches[101:] @ prompts.words.T, patches[101:] @ prompts.others.T)

    def margin(p: NDArray[np.float32], word: NDArray[np.float32]) -> float:
        others = [b for b in prompts.others if float(word @ b) < calibration.alike]
        return 20 * float(p @ word) - float(np.log(sum(np.exp(20 * float(p @ b)) for b in others)))

    sampled = [*patches[:101:EVERY], *patches[101::EVERY]]
    usual = np.array([margin(p, b) for p in sampled for b in prompts.others])
    for k in range(2):
        values = np.sort([margin(p, prompts.words[k]) for p in patches])[::-1]
        best = values[round(TOP * len(patches)) - 1]
        z = (best - usual.mean()) / usual.std()
        assert presence.standard()[k] == pytest.approx(z, abs=0.02)
        wanted = 1 / (1 + np.exp(-(calibration.slope * z + calibration.offset)))
        assert presence.scores()[k] == pytest.approx(wanted, abs=0.02)


def test_an_absent_class_stays_absent(encoder: PatchColours) -> None:
    image = quarters(128, ("water", "forest", "water", "forest"))
    found = segment_image(encoder, image, ["water", "forest", "roof"], SegmentSettings(presence=0.5))
    assert found.presence[2] < 0.5 < found.presence[:2].min()
    assert set(np.unique(found.classes)) == {1, 2}
    assert not found.probabilities[..., 3].any()
    noisy = np.random.default_rng(0).integers(0, 40, (128, 128, 3)).astype(np.uint8) + 200
    nobody = segment_image(encoder, noisy, ["water", "roof"], SegmentSettings(presence=1.0))
    assert not nobody.classes.any()


def test_nothing_but_nodata_has_no_presence(encoder: PatchColours) -> None:
    found = segment_image(encoder, painted(64), ["water"], SegmentSettings(), valid=np.zeros((64, 64), np.bool_))
    assert found.presence.tolist() == [0.0]
    assert (found.classes == 255).all()
    assert encoder.seen == []  # nothing was encoded


# --- class maps ----------------------------------------------------------------------------------


def test_each_quarter_becomes_its_class(encoder: PatchColours) -> None:
    found = segment_image(encoder, painted(128), ["sea", "forest", "sand", "building"], SegmentSettings())
    wanted = np.kron([[1, 2], [3, 4]], np.ones((64, 64)))
    away = np.ones((128, 128), np.bool_)
    away[60:68] = away[:, 60:68] = False
    assert (found.classes == wanted)[away].all()
    assert (found.classes == wanted).mean() > 0.97
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, atol=1e-5)
    assert (found.probabilities[..., 1:].argmax(axis=-1) + 1 == found.classes).all()


def test_background_takes_what_is_none_of_the_classes(encoder: PatchColours) -> None:
    alone = segment_image(encoder, painted(128), ["water"], SegmentSettings())
    assert "only one class was given" in alone.notes[0]
    assert (alone.classes[:56, :56] == 1).all()
    assert not alone.classes[72:].any()
    named = segment_image(encoder, painted(128), ["water", "forest"], SegmentSettings(background=("sand", "roof")))
    assert not named.classes[72:].any()
    forced = segment_image(encoder, painted(128), ["water", "forest"], SegmentSettings())
    assert forced.classes.min() >= 1


def test_nodata_stays_nodata_and_does_not_spread(encoder: PatchColours) -> None:
    image, valid = painted(128), np.ones((128, 128), np.bool_)
    valid[10:50, 30:91] = False
    image[~valid] = 0
    whole = segment_image(encoder, painted(128), list(NAMES), SegmentSettings())
    holed = segment_image(encoder, image, list(NAMES), SegmentSettings(), valid=valid)
    assert ((holed.classes == 255) == ~valid).all()
    assert not holed.probabilities[~valid].any()
    far = valid.copy()
    far[:66, 14:107] = False  # two patches away
    assert (holed.classes == whole.classes)[far].all()


def test_scores_below_the_floor_become_background(encoder: PatchColours) -> None:
    scores = np.array([[[3.0, 0.1]], [[0.0, 0.0]], [[-9.0, -9.0]]], np.float32)
    rule = Rule.of(np.array([True, True]), 3, min_probability=0.6)
    values, share = rule.decide(scores)
    assert values.tolist() == [[1, 0]]
    assert share[0] == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-0.1))], abs=1e-3)
    assert Rule.of(np.array([False, True]), 2).decide(scores[:2])[0].tolist() == [[2, 2]]
    assert Rule.of(np.array([False, False]), 2).decide(scores[:2])[0].tolist() == [[0, 0]]


# --- windows -------------------------------------------------------------------------------------


def test_windows_are_measured_on_the_ground(encoder: PatchColours) -> None:
    picture = ArrayPicture(painted(400), gsd_m=0.5)
    by_card = make_plan(picture, encoder, SegmentSettings())  # the card's finest is 1 m: shown at half the size
    assert (by_card.model_width, by_card.window_m) == (200, 56.0)
    asked = make_plan(picture, encoder, SegmentSettings(window_m=100, model_px=80))
    assert (asked.window_scene_px, asked.model_width, asked.window_px) == (200.0, 160, (80, 80))
    assert make_plan(picture, encoder, SegmentSettings(window_px=56)).model_width == 400
    with pytest.raises(UsageError, match="the size of the scene's pixels is not known"):
        make_plan(ArrayPicture(painted(64)), encoder, SegmentSettings(window_m=10))


def test_a_window_larger_than_the_scene_is_cut_and_that_is_said(encoder: PatchColours) -> None:
    image = painted(128)[:20, :33]
    found = segment_image(encoder, image, ["water", "forest"], SegmentSettings())
    assert found.classes.shape == (20, 33)
    assert (found.classes == 1).all()
    assert encoder.seen == [(1, 24, 40, 3)]
    assert any("larger than the scene: it was cut to 33 x 20 px" in note for note in found.notes)
    assert segment_image(encoder, image[:1, :1], ["water", "forest"]).classes.tolist() == [[1]]


@pytest.mark.parametrize(
    "bad",
    [
        {"window_m": 0}, {"window_px": -1}, {"window_m": 5, "window_px": 5}, {"overlap": 1.0}, {"presence": 2},
        {"temperature": 0}, {"min_probability": -1}, {"background": ("",)}, {"model_px": float("nan")},
    ],
)  # fmt: skip
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SegmentSettings(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("picture", "model"), [(100, 100), (100, 37), (37, 100), (1, 8), (512, 64), (1000, 999)])
def test_spans_land_where_they_should(picture: int, model: int) -> None:
    for start in range(0, model, 3):
        for stop in {start + 1, min(start + 16, model), model} - {start}:
            first, last, count, skip = spans(picture, model, start, stop)
            assert 0 <= first < last <= picture
            assert skip + stop - start <= count
            step = (last - first) / count  # picture pixels a model pixel
            strays = (first + skip * step) * model / picture - start
            assert abs(strays) <= 1.01


def test_the_scale_does_not_move_the_map(encoder: PatchColours) -> None:
    image = painted(128).repeat(3, axis=0).repeat(3, axis=1)  # 384 px
    small = segment_image(encoder, painted(128), list(NAMES), SegmentSettings(window_px=56))
    large = segment_image(encoder, image, list(NAMES), SegmentSettings(window_px=168))
    assert (large.classes[1::3, 1::3] == small.classes).mean() > 0.98


def seams(plan_axis: Sequence[int], cell: int, length: int, reach: int) -> NDArray[np.bool_]:
    near = np.zeros(length, np.bool_)
    for first in plan_axis:
        near[max(first * cell - reach, 0) : first * cell + reach] = first > 0
    return near


def test_layouts_of_one_scene_agree_far_from_seams_and_at_them() -> None:
    """The bundled model on a drawn harbour: on average probabilities differ by less than 0.05, far and near."""
    from geoglot_sandbox.samples import draw_sample

    encoder: DenseEncoder = dense(load_encoder("geoglot-mini", threads=1))
    image = draw_sample("harbor", 3, size_px=224).rgb
    asked = ["water", "building,roof", "tree,forest", "road"]
    found, near = [], np.zeros((224, 224), np.bool_)
    for overlap in (0.5, 0.65):
        settings = SegmentSettings(window_px=96, model_px=96, overlap=overlap, presence=0)
        segmenter = Segmenter(encoder, asked, settings)
        plan = segmenter.plan(ArrayPicture(image))
        rows = seams(plan.down.firsts, plan.cell_px, 224, 6)
        near |= rows[:, None] | rows[None, :]
        found.append(segment_image(encoder, image, asked, settings).probabilities)
    apart = np.abs(found[0] - found[1]).max(axis=-1)
    assert 0.1 < near.mean() < 0.9
    assert apart[~near].mean() < 0.05, "far from seams"
    assert apart[near].mean() < 0.05, "at seams"


@dataclass(frozen=True)
class Endless:
    """A picture of any size that takes no memory: stripes."""

    width: int
    height: int
    gsd_m: float | None = None

    def read(self, window: Window, size_px: tuple[int, int]) -> Pixels:
        rgb = np.zeros((*size_px, 3), np.uint8)
        rgb[:] = COLOURS["water"] if window.y0 % 512 else COLOURS["forest"]
        return Pixels(rgb, np.ones(size_px, np.bool_))

    def valid(self, window: Window) -> NDArray[np.bool_]:
        return np.ones((window.height, window.width), np.bool_)


def peak(width: int, height: int) -> int:
    segmenter = Segmenter(PatchColours(), ["water", "forest"], SegmentSettings(model_px=128))
    picture = Endless(width, height)
    tracemalloc.start()
    try:
        with segmenter.scored(picture, segmenter.plan(picture)) as scored:
            for block in scored.blocks():
                assert block.values.max() <= 2
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_follow_the_size_of_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "KEPT_BYTES", 2**16)
    monkeypatch.setattr(scores, "WINDOW_PIXELS", 4 * 128**2)
    for module in (scores, segmenter):  # belts fill up where reading costs nothing
        monkeypatch.setattr(module, "AHEAD_BYTES", 2**17)
    monkeypatch.setattr(decision, "BLOCK", (64, 128))
    peak(256, 256)
    small, tall, wide = peak(512, 512), peak(512, 3072), peak(3072, 512)
    assert tall < 1.15 * small
    strip = (2 + 1) * 64 * (3072 - 512) // 2 * 4  # classes and weight, cells of 2 px in a window of 128 px
    assert wide - small < 4 * strip
