"""The command line's verbs as functions: names and paths in, values out.

Each takes the same names and defaults as its command. A model is a name that `load_encoder` takes, or a loaded encoder;
an archive remembers its own. Heavy packages are imported when a function runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geoglot.archive.answers import SearchResult
    from geoglot.archive.archive import Archive
    from geoglot.archive.filters import Filter
    from geoglot.archive.ingest_plan import Spec
    from geoglot.archive.ingest_report import IngestReport
    from geoglot.evaluation.report import Number
    from geoglot.models.card import Card
    from geoglot.models.encoder import DualEncoder
    from geoglot.tasks.localize.localizer import LocalizeSettings
    from geoglot.tasks.results import Localization, Segmentation
    from geoglot.tasks.segment.classes import AskedClass
    from geoglot.tasks.segment.windows import SegmentSettings


def index(
    archive: str | Path, scenes: Spec | Iterable[Spec], model: str | DualEncoder | None = None, *, prune: bool = True
) -> IngestReport:
    """Bring an archive up to date with scenes; make it if there is none.

    Args:
        archive: Its folder.
        scenes: Folders, files, globs or STAC documents, one or several.
        model: Default: the archive's own, for a new one geoglot-mini.
        prune: Drop scenes whose file is gone.

    Returns:
        What was done; scenes that could not be used stand in `failed`.

    Raises:
        SourceError: A spec stands for nothing.
        ArchiveMismatchError: The archive was built with another model.
        ArchiveBusyError: Another process writes to it.

    Example:
        >>> report = geoglot.index("my-archive", "scenes")
        >>> len(report.added), len(report.failed)
        (2, 0)
    """
    from geoglot.archive.ingest import ingest

    return ingest(archive, scenes, _encoder(model or _model_of(archive)), prune=prune)


def search(
    archive: str | Path | Archive, query: str, filter: Filter | None = None, *, limit: int = 20, point: int = 0
) -> SearchResult:
    """Ask an archive. Opening it takes longer than asking: open an `Archive` once to ask it often.

    Args:
        archive: Its folder, or opened.
        query: Words, or signed parts such as `"harbour" - "bridge"`.
        filter: Which chips may be found; default: all.
        limit: Most matches.
        point: Look closer at so many of the best chips, and say where in each the evidence lies.

    Raises:
        ArchiveNotFoundError: There is no archive.
        QueryError: The query cannot be run.
        UnknownNameError: The filter names a sensor or scene that is not there.

    Example:
        >>> answer = geoglot.search("my-archive", "boats in a harbour", limit=1)
        >>> answer.matches[0].scene.name
        'harbor.tif'
        >>> len(answer.to_geojson()["features"])
        1
    """
    from geoglot.archive.archive import Archive
    from geoglot.archive.filters import Filter
    from geoglot.archive.manifest import read_manifest

    if not isinstance(archive, Archive):
        archive = Archive.open(archive, _encoder(read_manifest(Path(archive)).model))
    return archive.search(query, filter or Filter(), limit=limit, point=point)


def segment(
    scene: str | Path,
    classes: Sequence[str | AskedClass],
    out: str | Path = "segments",
    *,
    model: str | DualEncoder | None = None,
    settings: SegmentSettings | None = None,
) -> Segmentation:
    """Map classes, asked for in words, over a scene of any size; the files go into a folder.

    Args:
        scene: A raster file, or its address.
        classes: Such as `building,roof`: synonyms, of which the first is the name; or `Siedlung: building, roof`.
        out: The folder.
        model: Default: geoglot-mini.
        settings: How; default: `SegmentSettings()`.

    Raises:
        UsageError: A class or a setting is wrong, or the model tells no places apart.
        UnknownWordsError: A word that the model does not know.
        SceneError, SourceError: The scene cannot be read.
        StorageError: The folder cannot be written.

    Example:
        >>> areas = geoglot.segment("scenes/harbor.tif", ["water,sea", "building,roof"])
        >>> [entry.name for entry in areas.report.classes]
        ['background', 'water', 'building']
        >>> areas.class_map().shape
        (300, 300)
    """
    from geoglot.imagery.scene import open_scene
    from geoglot.models.encoder import dense
    from geoglot.tasks.results import Segmentation
    from geoglot.tasks.segment.scene import segment_scene
    from geoglot.tasks.segment.segmenter import Segmenter

    segmenter = Segmenter(dense(_encoder(model)), classes, settings)
    with open_scene(scene) as opened:
        return Segmentation(Path(out), segment_scene(segmenter, opened, Path(out)))


def localize(
    scene: str | Path,
    sentences: str | Sequence[str],
    out: str | Path = "localized",
    *,
    model: str | DualEncoder | None = None,
    settings: LocalizeSettings | None = None,
) -> Localization:
    """Show where in a scene sentences hold; heat maps, regions and pictures go into a folder.

    Args:
        scene: A raster file, or its address.
        sentences: One, or several that share one pass over the scene.
        out: The folder.
        model: Default: geoglot-mini.
        settings: How; default: `LocalizeSettings()`.

    Raises:
        QueryError: No sentence, or no word of one is known.
        SceneError, SourceError: The scene cannot be read.
        TooLargeError: The scene has too many windows.
        StorageError: The folder cannot be written.

    Example:
        >>> places = geoglot.localize("scenes/harbor.tif", "boats at a pier")
        >>> places.heat().shape[0]
        1
        >>> places.to_geojson()["type"]
        'FeatureCollection'
    """
    from geoglot.imagery.scene import open_scene
    from geoglot.tasks.localize.localizer import LocalizeSettings, localize_scene, make_folder, make_plan
    from geoglot.tasks.localize.scene import write_heats
    from geoglot.tasks.results import Localization

    asked = [sentences] if isinstance(sentences, str) else list(sentences)
    encoder, folder = _encoder(model), Path(out)
    with open_scene(scene) as opened:
        plan = make_plan(opened, asked, settings or LocalizeSettings())
        make_folder(folder)
        heats = localize_scene(opened, encoder, asked, plan)
        return Localization(folder, write_heats(opened, plan, heats, asked, folder))


def classify(
    image: str | Path | NDArray[np.uint8], labels: Sequence[str], *, model: str | DualEncoder | None = None
) -> dict[str, float]:
    """Share a picture out among labels, without training.

    Args:
        image: A file, or RGB uint8 [S, S, 3] at the model's own size.
        labels: At least two; one of them is taken to be right.
        model: Default: geoglot-mini.

    Returns:
        Label to probability, the likeliest first; they sum to 1.

    Raises:
        UsageError: Too few labels or too many, or one twice.
        UnknownWordsError: No word of a label is known.
        QueryError, SceneError: The file cannot be read.

    Example:
        >>> shares = geoglot.classify("scenes/forest.tif", ["forest", "harbour", "desert"])
        >>> next(iter(shares))
        'forest'
    """
    from geoglot.archive.query import read_picture
    from geoglot.tasks.classify import encode_labels, probabilities

    encoder = _encoder(model)
    square = image[None] if isinstance(image, np.ndarray) else read_picture(str(image), encoder.card.image_px)
    vectors = encode_labels(encoder, labels)
    shares = probabilities(encoder.encode_images(square), vectors, encoder.card.calibration.temperature)[0]
    order = np.argsort(-shares, kind="stable")
    return {labels[at]: float(shares[at]) for at in order}


def train(
    recipe: str, config: str | Path, data: str | Path = ".", out: str | Path = "runs/latest", *, smoke: bool = False
) -> Path:
    """Train a model by a recipe; an unfinished run in `out` is continued.

    Args:
        recipe: Such as "contrastive"; all: `geoglot train --help`.
        config: The recipe's settings, TOML.
        data: What the config's paths are relative to.
        out: The run folder.
        smoke: A few steps only, to see that everything works.

    Returns:
        What the recipe left, most often a model folder that `load_encoder` takes.

    Raises:
        UnknownNameError: No such recipe, or no such key in the config.
        UsageError: The config is refused.
        MissingExtraError: PyTorch is not installed.

    Example:
        >>> left = geoglot.train("contrastive", "contrastive.toml", out="run", smoke=True)
        >>> geoglot.load_encoder(str(left)).card.dim
        32
    """
    from geoglot.training.registry import run_recipe

    return run_recipe(recipe, Path(config), Path(data), Path(out), smoke=smoke)


def evaluate(
    suite: str,
    model: str | DualEncoder | None = None,
    data: str | Path = "data",
    *,
    datasets: Sequence[str] = (),
    limit: int | None = None,
    partial: bool = False,
    seed: int = 0,
) -> list[Number]:
    """Measure a model by a named protocol.

    Args:
        suite: Such as "zsc/rs5m-3"; all: `geoglot eval --list`.
        model: Default: geoglot-mini.
        data: Folder above the data sets.
        datasets: On these sets instead of the suite's.
        limit: A dry look: at most so many images of each set; every number says so.
        partial: Take sets that are not whole; every number says so.
        seed: Of intervals and of what is drawn.

    Raises:
        UnknownNameError: No such suite or data set.
        SourceError: Some data is not there; the message names its page.

    Example:
        >>> numbers = geoglot.evaluate("zsc/rs5m-3", datasets=["whu-rs19"], partial=True)
        >>> [(number.metric, number.count) for number in numbers if number.metric == "top1"]
        [('top1', 4)]
    """
    from geoglot.evaluation.suites import Options, find_suites
    from geoglot.evaluation.suites import evaluate as run_suites

    options = Options(Path(data), limit, seed, partial=partial)
    return run_suites(find_suites(suite, datasets), [_encoder(model)], options)


def list_models() -> tuple[Card, ...]:
    """The cards of all models that geoglot knows: bundled, pulled and released; `card.files` is empty until pulled.

    Example:
        >>> "geoglot-mini" in [card.name for card in geoglot.list_models()]
        True
    """
    from geoglot.models.zoo.registry import all_models, find_card

    return tuple(find_card(name) for name in all_models())


def _encoder(model: str | DualEncoder | None) -> DualEncoder:
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.registry import DEFAULT_MODEL

    return load_encoder(model or DEFAULT_MODEL) if model is None or isinstance(model, str) else model


def _model_of(archive: str | Path) -> str | None:
    """The model of an archive; None where there is no archive yet."""
    from geoglot.archive.manifest import MANIFEST_FILE, read_manifest

    path = Path(archive)
    return read_manifest(path).model if (path / MANIFEST_FILE).is_file() else None
