"""The light text side from multilingual USE: size, cold start, sentences a second, and what leaving out words costs.

    python benchmarks/text_side.py [--words 30000] [--captions rsicd/captions.jsonl]
    python benchmarks/text_side.py --shares 10000 30000 [--captions rsicd/captions.jsonl]

The second form only counts: which share of the texts keeps its vector, because all its pieces stay.

Needs the extras `parts` and `export`. The head is the identity, so that vectors are USE's own. Agreement is the cosine
to the encoder with all its words, in float: of the glossary's names in sentences of each language, and of captions.
The glossary is not among what chooses the words here; a released model keeps its words, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from torch import nn

from geoglot.data.glossary import LANGUAGES, concepts, templates
from geoglot.models.card import read_card, sha256
from geoglot.models.export.sentence_text import pieces_of, write_text
from geoglot.models.onnx_encoder import LightEncoder
from geoglot.models.parts.use import WIDTH, UseEncoder, read_use
from geoglot.models.parts.words import common_words
from geoglot.models.zoo.card_toml import write_card

COLD = """
import time
start = time.perf_counter(), time.process_time()
from pathlib import Path
from geoglot.models.card import read_card
from geoglot.models.onnx_encoder import LightEncoder
encoder = LightEncoder(read_card(Path({folder!r})), threads=1)
encoder.encode_texts(["many planes are parked near a long runway"])
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=30_000, help="commonest words of each language to keep; 0: all")
    parser.add_argument("--shares", type=int, nargs="+", help="count for so many words instead")
    parser.add_argument("--captions", type=Path, help="JSON lines with `captions`")
    parser.add_argument("--runs", type=int, default=9, help="cold processes")
    options = parser.parse_args()
    original = read_use()
    if options.shares:
        return _shares(original, options.shares, _captions(options.captions))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_text(original, nn.Identity(), folder, common_words(LANGUAGES, options.words) if options.words else None)
        encoder = _open(folder)
        _sizes(folder)
        _cold(folder, options.runs)
        captions = _captions(options.captions)
        _pace(encoder, captions or _glossary("en"))
        for language in LANGUAGES:
            _agreement(f"glossary {language}", encoder, original, _glossary(language))
        if captions:
            _agreement("captions", encoder, original, captions)


def _open(folder: Path) -> LightEncoder:
    names = {"text": "text.onnx", "text_data": "text.onnx.data", "tokenizer": "tokenizer.json"}
    files = {role: {"file": name, "sha256": sha256(folder / name)} for role, name in names.items()}
    values = {"name": "text-side", "version": "1", "dim": WIDTH, "image_px": 128, "languages": list(LANGUAGES)}
    write_card(folder, values | {"files": files, "tokenizer": {"kind": "unigram"}})
    return LightEncoder(read_card(folder), threads=1)


def _sizes(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        print(f"{path.name:<18} {len(body) / 1e6:6.2f} MB, {len(zlib.compress(body)) / 1e6:6.2f} MB in a wheel")


def _cold(folder: Path, runs: int) -> None:
    code = COLD.format(folder=str(folder))
    command = [sys.executable, "-c", code]
    done = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(runs)]
    wall, cpu = zip(*(map(float, line.split()) for line in done), strict=True)
    print(f"first sentence of a process: {statistics.median(wall):.3f} s wall, {statistics.median(cpu):.3f} s of CPU")


def _pace(encoder: LightEncoder, texts: list[str]) -> None:
    for batch in (1, 32):
        sample = texts[: 10 * max(batch, 10)]
        encoder.encode_texts(sample[:batch])  # opens the session, the first time
        start = time.process_time()
        for at in range(0, len(sample), batch):
            encoder.encode_texts(sample[at : at + batch])
        print(f"batches of {batch}: {len(sample) / (time.process_time() - start):.0f} sentences a second of CPU")


def _agreement(what: str, encoder: LightEncoder, original: UseEncoder, texts: list[str]) -> None:
    cosines = (encoder.encode_texts(texts) * original.encode(texts)).sum(1)
    low, middle = np.quantile(cosines, [0.05, 0.5])
    same = 100 * (cosines > 0.9999).mean()
    print(f"{what:<12} mean {cosines.mean():.4f}  5 % {low:.4f}  median {middle:.5f}  unchanged {same:.0f} %")


def _shares(original: UseEncoder, counts: list[int], captions: list[str]) -> None:
    texts = {language: _glossary(language) for language in LANGUAGES} | ({"captions": captions} if captions else {})
    split = {what: original.ids(some) for what, some in texts.items()}
    for count in counts:
        kept = set(pieces_of(original, common_words(LANGUAGES, count)).tolist())
        shares = {what: 100 * np.mean([kept.issuperset(ids) for ids in rows]) for what, rows in split.items()}
        print(f"{count} words: {len(kept)} pieces;", ", ".join(f"{what} {v:.0f} %" for what, v in shares.items()))


def _glossary(language: str) -> list[str]:
    frames = templates()[language].image
    return [frames[at % len(frames)].replace("{c}", c.name(language)) for at, c in enumerate(concepts().values())]


def _captions(path: Path | None) -> list[str]:
    if path is None:
        return []
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return list(dict.fromkeys(caption for row in rows[::20] for caption in row["captions"]))[:640]


if __name__ == "__main__":
    main()
