"""From a released name to an encoder: pulled, bundled, taken elsewhere, loaded without a network."""

from __future__ import annotations

import hashlib
import shutil
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
import small_models
from filelock import FileLock
from loopback_hub import COMMIT, LoopbackHub

from geoglot.errors import (
    DownloadError,
    MissingExtraError,
    ModelBusyError,
    ModelFileError,
    ModelNotFoundError,
    StorageError,
    TermsError,
    UsageError,
)
from geoglot.models.card import CARD_FILE, read_card
from geoglot.models.load import load_encoder
from geoglot.models.zoo import bundle as bundles
from geoglot.models.zoo import install, registry, store
from geoglot.models.zoo.bundle import bundle, is_bundle, unpack
from geoglot.models.zoo.card_toml import write_card
from geoglot.models.zoo.install import convert, pull
from geoglot.models.zoo.registry import find_card

pytest.importorskip("torch")
pytest.importorskip("transformers")

UNDECIDED = {"activation": "undecided", "activation_why": "Nobody says: choose."}
ASSUMED = {"activation": "assumed", "activation_why": "The README builds it so."}
NONCOMMERCIAL = {"id": "CC-BY-NC", "use": "noncommercial", "text": "No commerce."}


@pytest.fixture
def released(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four released models of the tiny kind."""
    folder = small_models.write_released(
        tmp_path / "cards",
        small_models.card_values(),
        small_models.card_values("tiny-nc", licence=NONCOMMERCIAL, doubts=ASSUMED),
        small_models.card_values("tiny-undecided", doubts=UNDECIDED, source={"repo": "other/model", "file": "x.pt"}),
        small_models.card_values("tiny-path", source={"note": "Ask the authors."}),
    )
    monkeypatch.setattr(registry, "CARDS", folder)
    monkeypatch.setattr(install, "CARDS", folder)
    registry.released_models.cache_clear()
    yield folder
    registry.released_models.cache_clear()


@pytest.fixture
def served(hub: LoopbackHub, released: Path, tmp_path: Path) -> LoopbackHub:
    """The hub keeps their weights and tokenizer."""
    weights = small_models.checkpoint(tmp_path / "weights.pt")
    hub.put("some/model", "tiny.pt", weights)
    hub.put("other/model", "x.pt", weights)
    hub.put("some/tokens", "bpe.txt.gz", small_models.GOLDEN / "bpe.txt.gz")
    return hub


def test_pull_then_ask(served: LoopbackHub, home: Path, tmp_path: Path) -> None:
    made = pull("tiny-clip")
    assert made.card.folder == home / "models" / "tiny-clip"
    assert sorted(p.name for p in made.card.folder.iterdir()) == ["bpe.txt.gz", CARD_FILE, "model.safetensors"]
    made.card.verify()
    record = made.card.about["converted"]
    assert record["from"] == f"hf-hub:some/model/tiny.pt@{COMMIT}"
    assert record["sha256_seen"] == hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    assert record["sha256_checked"] == "hub"
    assert not list((home / "downloads").iterdir())
    encoder = load_encoder("tiny-clip")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert encoder.encode_images(images).shape == (2, 16)
    assert np.allclose(np.linalg.norm(encoder.encode_texts(["a river"]), axis=1), 1, atol=1e-5)
    assert encoder.card.calibrated is False
    asked = len(served.asked)
    assert "here already" in pull("tiny-clip").notes[0]
    assert len(served.asked) == asked
    assert pull("tiny-clip", force=True).card.fingerprint == made.card.fingerprint
    assert find_card("hf-hub:other/model").name == "tiny-undecided"
    assert load_encoder(f"local-dir:{made.card.folder}").card.fingerprint == made.card.fingerprint


def test_a_pull_that_broke_off_goes_on(served: LoopbackHub, home: Path) -> None:
    served.cut = 20_000
    with pytest.raises(DownloadError, match="broke off after 20,000"):
        pull("tiny-clip")
    with pytest.raises(ModelFileError, match="is not on this machine; looked in") as caught:
        load_encoder("tiny-clip")
    assert caught.value.hint == "Run: geoglot models pull tiny-clip"
    pull("tiny-clip")
    assert [r for m, p, r in served.asked if m == "GET" and p.endswith("tiny.pt")] == ["", "bytes=20000-"]


def test_terms_and_choices_come_before_bytes(served: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TermsError, match="No commerce") as caught:
        pull("tiny-nc")
    assert "--accept-licence" in caught.value.hint
    with pytest.raises(UsageError, match="is not known") as choose:
        pull("tiny-undecided")
    assert choose.value.hint == "Nobody says: choose."
    with pytest.raises(DownloadError, match="no public address") as path:
        pull("tiny-path")
    assert "convert FILE --card tiny-path" in path.value.hint
    with pytest.raises(ModelNotFoundError, match="unknown released model 'tiny-clop'") as near:
        pull("tiny-clop")
    assert "tiny-clip" in near.value.hint
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="reading a released checkpoint"):
        pull("tiny-clip")
    assert served.asked == []


def test_what_was_assumed_or_chosen_is_said(served: LoopbackHub) -> None:
    assumed = pull("tiny-nc", accept_licence=True)
    assert any("activation quick_gelu: The README builds it so." in note for note in assumed.notes)
    chosen = pull("tiny-undecided", activation="gelu")
    assert chosen.card.architecture.activation == "gelu"  # type: ignore[union-attr]
    assert pull("tiny-nc", accept_licence=True, activation="gelu", force=True).card.fingerprint != (
        assumed.card.fingerprint
    )
    with pytest.raises(UsageError, match="tiny-clip has 'quick_gelu'"):
        pull("tiny-clip", activation="gelu")


def test_wrong_weights_leave_nothing(served: LoopbackHub, home: Path, tmp_path: Path) -> None:
    import torch

    tensors = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.save({**tensors, "text_projection": torch.zeros(64, 8)}, tmp_path / "wrong.pt")
    served.put("some/model", "tiny.pt", tmp_path / "wrong.pt")
    with pytest.raises(ModelFileError):
        pull("tiny-clip")
    assert store.installed_models() == ()
    assert list((home / "models").glob("*")) == []


def test_a_repository_without_a_card(served: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.put("any/one", "deep/my model.pt", tmp_path / "weights.pt")
    tokens = {"clip": install.TokenizerSource("clip_bpe", "some/tokens", "bpe.txt.gz")}
    monkeypatch.setattr(install, "TOKENIZERS", tokens)
    address = "hf-hub:any/one/deep/my model.pt"
    with pytest.raises(TermsError, match="its terms are not known"):
        pull(address)
    with pytest.raises(UsageError, match="nothing states the activation"):
        pull(address, accept_licence=True)
    made = pull(address, accept_licence=True, activation="gelu")
    assert made.card.name == "any--one--deep-my-model"
    assert find_card(address).fingerprint == made.card.fingerprint


def test_convert_a_file_that_is_here(released: Path, tmp_path: Path) -> None:
    weights = small_models.checkpoint(tmp_path / "mine.pt")
    with pytest.raises(UsageError, match="what is this checkpoint"):
        convert(weights)
    with pytest.raises(ModelFileError, match=r"no clip_bpe tokenizer is here: looked for tokenizer\.json in"):
        convert(weights, card_name="tiny-path")
    with pytest.raises(ModelFileError, match="is not on this machine") as missing:
        load_encoder("tiny-path")
    assert "geoglot models convert FILE --card tiny-path" in missing.value.hint
    tokens = small_models.tokenizer(tmp_path)
    made = convert(weights, card_name="tiny-path", tokenizer=tokens)
    assert load_encoder("tiny-path").card.fingerprint == made.card.fingerprint
    other = convert(weights, name="mine", activation="gelu")  # the tokenizer is found in the model just made
    assert other.card.about["summary"].startswith("Converted from a checkpoint without a card")
    assert load_encoder("mine").encode_texts(["a pier"]).shape == (1, 16)
    with pytest.raises(ModelNotFoundError, match="holds weights but no card") as bare:
        load_encoder(str(weights))
    assert "geoglot models convert" in bare.value.hint
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        load_encoder(str(tmp_path / "none.pt"))
    with pytest.raises(UsageError, match="cannot be a model's name"):
        convert(weights, card_name="tiny-path", name="../evil", tokenizer=tokens)


def _install(folder: Path) -> None:
    weights, tokens = small_models.checkpoint(folder / "a.pt"), small_models.tokenizer(folder)
    convert(weights, card_name="tiny-clip", tokenizer=tokens)


def test_runtimes(released: Path, tmp_path: Path) -> None:
    _install(tmp_path)
    with pytest.raises(ModelFileError, match="has no light files") as caught:
        load_encoder("tiny-clip", runtime="light")
    assert "geoglot models export tiny-clip" in caught.value.hint
    with pytest.raises(UsageError, match="unknown runtime 'lite'"):
        load_encoder("tiny-clip", runtime="lite")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="knows no device"):
        load_encoder("geoglot-mini", device="cpu")
    with pytest.raises(ModelFileError, match="names no weights file"):
        load_encoder("geoglot-mini", runtime="torch")


# --- bundles -------------------------------------------------------------------------------------


@pytest.fixture
def model(released: Path, tmp_path: Path) -> str:
    _install(tmp_path)
    return "tiny-clip"


def test_bundle_and_back(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(model, tmp_path / "b.tar")
    assert path.read_bytes() == bundle(model, tmp_path / "again.tar").read_bytes()
    assert is_bundle(path)
    with pytest.raises(UsageError, match="is there already"):
        bundle(model, path)
    with pytest.raises(UsageError, match="is here already"):
        unpack(path)
    before = load_encoder(model).encode_texts(["a river"])
    monkeypatch.setenv("GEOGLOT_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(ModelFileError, match="is not on this machine"):
        bundle(model, tmp_path / "c.tar")
    card = unpack(path)
    assert card.folder == tmp_path / "elsewhere" / "models" / model
    assert (load_encoder(model).encode_texts(["a river"]) == before).all()
    assert unpack(path, force=True).fingerprint == card.fingerprint
    (card.folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match="is damaged"):
        bundle(model, tmp_path / "d.tar")


def test_the_bundled_model_travels_too(home: Path, tmp_path: Path) -> None:
    card = unpack(bundle("geoglot-mini", tmp_path))
    assert card.fingerprint == find_card("geoglot-mini").fingerprint


def _tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    import io

    with tarfile.open(path, "w") as tar:
        for info, content in entries:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (_entry("/etc/evil"), "reaches for another folder"),
        (_entry("../evil"), "reaches for another folder"),
        (_entry("a/evil"), "reaches for another folder"),
        (_entry("..\\evil"), "reaches for another folder"),
        (_entry(".."), "reaches for another folder"),
        (_entry("evil", tarfile.SYMTYPE, "/etc/passwd"), "is not a plain file"),
        (_entry("evil", tarfile.LNKTYPE, "card.toml"), "is not a plain file"),
        (_entry("evil", tarfile.DIRTYPE), "is not a plain file"),
        (_entry("evil", tarfile.CHRTYPE), "is not a plain file"),
        (_entry("evil", tarfile.FIFOTYPE), "is not a plain file"),
        (_entry("CARD.toml"), "is in it twice"),
    ],
)
def test_hostile_tars_are_refused(model: str, tmp_path: Path, entry: tarfile.TarInfo, told: str) -> None:
    card = (store.place(model) / CARD_FILE).read_bytes().replace(b"tiny-clip", b"evil-clip")
    bad = _tar(tmp_path / "bad.tar", (_entry(CARD_FILE), card), (entry, b"x"))
    with pytest.raises(ModelFileError, match=told):
        unpack(bad)
    assert store.installed_models() == (model,)
    assert not list(tmp_path.rglob("evil*"))


def test_damaged_and_incomplete_tars_are_refused(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bundle(model, tmp_path / "b.tar").read_bytes()
    bad = tmp_path / "bad.tar"
    at = whole.index(b"tiny-clip")
    for content, told in (
        (whole[: len(whole) // 2], "damaged|unexpected end"),
        (b"not a tar" * 100, "damaged"),
        (whole.replace(b"Random weights.", b"Random weighty!"), "card.toml in it is damaged"),
        (whole[:at] + b"../../evi" + whole[at + 9 :], "cannot be a model's name"),
    ):
        bad.write_bytes(content)
        with pytest.raises((ModelFileError, UsageError), match=told):
            unpack(bad, force=True)
    with pytest.raises(ModelFileError, match="there is no file"):
        unpack(tmp_path / "none.tar")
    monkeypatch.setattr(bundles, "MAX_BYTES", 1000)
    bad.write_bytes(whole)
    with pytest.raises(ModelFileError, match="more than 64 files or 1,000 bytes"):
        unpack(bad, force=True)
    monkeypatch.undo()


# --- without a network, and the store ------------------------------------------------------------


def test_nothing_but_pull_needs_a_socket(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load, ask, bundle, unpack, convert, list, with every socket refused."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder = load_encoder(model)
    assert encoder.encode_texts(["a quay"]).shape == (1, 16)
    assert encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 16)
    assert unpack(bundle(model, tmp_path / "b.tar"), force=True).name == model
    assert [find_card(name).name for name in registry.all_models()]
    convert(tmp_path / "a.pt", name="again", activation="quick_gelu")


def test_the_place_of_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEOGLOT_HOME", str(tmp_path))
    assert store.home() == tmp_path
    monkeypatch.delenv("GEOGLOT_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "x"))
    assert store.home() == tmp_path / "x" / "geoglot"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert store.home() == Path("~/.local/share/geoglot").expanduser()
    monkeypatch.setattr("sys.platform", "darwin")
    assert store.home() == Path("~/Library/Application Support/geoglot").expanduser()
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "w"))
    assert store.home() == tmp_path / "w" / "geoglot"


def test_a_model_is_there_whole_or_not_at_all(home: Path) -> None:
    class Stop(Exception):
        pass

    def break_off() -> None:
        with store.writing("half") as folder:
            (folder / CARD_FILE).write_text("x")
            raise Stop

    with pytest.raises(Stop):
        break_off()
    assert store.installed_models() == ()
    (home / "models" / ".half.part-dead").mkdir()
    with store.writing("half") as folder:
        assert not (home / "models" / ".half.part-dead").exists()
        (folder / CARD_FILE).write_text("1")
    with store.writing("half") as folder:
        (folder / CARD_FILE).write_text("2")
        assert (home / "models" / "half" / CARD_FILE).read_text() == "1"
    assert (home / "models" / "half" / CARD_FILE).read_text() == "2"
    assert store.installed_models() == ("half",)


def test_one_writer_per_model(home: Path) -> None:
    (home / "models").mkdir(parents=True)
    with FileLock(home / "models" / ".tiny.lock"), pytest.raises(ModelBusyError), store.writing("tiny"):
        pass
    with store.writing("tiny"):
        pass


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("GEOGLOT_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write") as caught, store.writing("tiny"):
        pass
    assert "GEOGLOT_HOME" in caught.value.hint


def test_a_card_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    for name in ("../x", "/x", "a/b", "..", "", "a\\b"):
        values = small_models.card_values(files={"weights": {"file": name, "sha256": "0"}})
        with pytest.raises(ModelFileError, match="is not a plain file name"):
            write_card(tmp_path, values)


def test_a_card_survives_writing(tmp_path: Path) -> None:
    odd = {"a.b": {"é ü": 'quote " \\ \n tab \t', "n": [1, 2.5, True]}, "empty": {}, "text": "日本 \x7f"}
    card = write_card(tmp_path, small_models.card_values(odd=odd, parameters=7))
    assert card.about["odd"] == odd
    assert card.architecture == small_models.TINY
    assert card.parameters == 7
    assert read_card(Path(shutil.copytree(tmp_path, tmp_path / "copy"))).fingerprint == card.fingerprint
    for wrong in ({"resize": "stretch", "mean": [0.5], "std": [0.5]}, {"mean": "x", "std": [0.5]}, {"meen": [1.0]}):
        with pytest.raises(ModelFileError, match="not a valid card"):
            write_card(tmp_path, small_models.card_values(preprocess=wrong))


def test_an_archive_remembers_an_installed_model(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Index with it by name, ask without naming it; other weights of that name are refused."""
    import json

    from PIL import Image
    from typer.testing import CliRunner

    from geoglot.cli.app import app

    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        return done.exit_code, done.stdout, done.stderr

    (tmp_path / "scenes").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scenes" / "a.png")
    archive = str(tmp_path / "archive")
    assert run("index", str(tmp_path / "scenes"), "--archive", archive, "--model", model)[0] == 0
    info = json.loads(run("index", "info", "--archive", archive, "--json")[1])
    assert (info["model"], info["fingerprint"]) == (model, find_card(model).fingerprint)
    code, out, _ = run("a river", "--archive", archive, "--format", "json")
    found = json.loads(out)
    assert (code, found["calibrated"], found["nothing_matches"]) == (0, False, False)
    assert found["matches"]
    code, out, notes = run("a river", "--archive", archive)
    assert (code, "Not calibrated for this model" in notes, "score" in out) == (0, True, True)
    convert(small_models.checkpoint(tmp_path / "other.pt", seed=1), card_name=model, tokenizer=tmp_path / "bpe.txt.gz")
    code, _, errors = run("a river", "--archive", archive)
    assert (code, "the archive was built with model" in errors) == (2, True)
    shutil.rmtree(store.place(model))
    code, _, errors = run("a river", "--archive", archive)
    assert (code, "is not on this machine; looked in" in errors) == (2, True)
