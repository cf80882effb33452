"""Make the golden files of tests/models/golden_tokens: what open_clip's tokenizers say about 1,200 strings.

Needs the virtual environment that make_goldens.py describes, with `sentencepiece` beside it:

    PYTHONPATH=src reference/bin/python tools/golden/make_tokenizer_goldens.py

The real vocabularies belong to others, so tiny ones are trained here, in the files' real formats, on strings of ours:
sentences of the glossary in ten languages, and a list of awkward ones. The folder:

    texts.json              the strings
    bpe.txt.gz              merges as OpenAI ships them
    xlmr.json, gemma.json   tokenizer.json files: unigram with a precompiled normaliser; BPE with byte fallback
    ids.npz                 bpe_77, bpe_248, xlmr, gemma: int32 [M, T], from SimpleTokenizer and HFTokenizer
    manifest.json           versions; and what happened when the real BPE vocabulary that open_clip carries went through
                            geoglot's tokenizer in the same process: texts, strings of every Unicode character, the
                            sha256 of the ids, and whether they were equal
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tempfile
import unicodedata
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHIM = torch.library.Library("torchvision", "DEF")  # torchvision's wheel wants these two schemas beside a CPU PyTorch
for op in ("nms", "qnms"):
    SHIM.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import sentencepiece  # noqa: E402
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, default_bpe  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

from geoglot.data.glossary import LANGUAGES, concepts, templates  # noqa: E402
from geoglot.models.tokenizers.clip_bpe import byte_letters, read_clip_bpe  # noqa: E402
from geoglot.models.tokenizers.pieces import GEMMA, XLMR, read_pieces  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "tests" / "models" / "golden_tokens"
MERGES, PIECES = 1500, 1200
AWKWARD = [
    "",
    " ",
    "\n",
    "\t \r\n",
    "\x00",
    "a\x00b",
    "a\x1b[31mred\x1b[0m",
    "\x07bell\x08",
    "\u200b\u200d\ufeff",
    "\u00ad",
    "\u2028line\u2029paragraph",
    "\u3000wide\u3000space",
    "a\u00a0b",
    "🚢⚓️🌊",
    "👩‍🚀 on the 🌍",
    "🇵🇹🇰🇷",
    "✈️✈️✈️✈️",
    "👍🏽",
    "e\u0301cole",
    "école",
    "Å Å",
    "ﬁeld",
    "ＡＢＣ１２３",
    "½ ¼ ² ③ Ⅳ",
    "x²+y²=z²",
    "schÃ¶n",
    "L&AMP;AMP;ID",
    "a &amp; b",
    "&amp;amp;lt;",
    "&lt;start_of_text&gt;",
    "&#8217;s",
    "&nbsp;",
    "&notanentity;",
    "<start_of_text>",
    "<END_OF_TEXT>",
    "!!<start_of_text>",
    "a<end_of_text>b",
    "<start_of_text",
    "<|startoftext|> x <|endoftext|>",
    "</s><pad><mask>",
    "<s> x </s>",
    "<eos>",
    "<bos>x<unk>",
    "it's they've we'll I'd 'tis 'S 'RE",
    "don’t “quote” ‘x’",
    "'ſ 'K",
    "İstanbul ISPARTA ı",
    "ẞ straße STRASSE",
    "ΑΣ ας Σ",
    "ǅ ǆ",
    "1234567890",
    "3.14e-10",
    "12,345 km²",
    "50°N 8°E",
    "²³¹",
    "٣٤٥",
    "१२३",
    "snake_case_name",
    "__init__",
    "C++ #tag @user",
    "https://example.org/a?b=c&d=e#f",
    "a\\b\\n",
    '"quoted"',
    "(a) [b] {c}",
    "{}",
    "...",
    "…",
    "—–-",
    "!?!?!?",
    "$$$ €€ ££",
    "～〜",
    "。、！？",
    "港口里有很多船，旁边是一座城市。",
    "中文English混合",
    "日本の港",
    "こんにちは世界",
    "대한민국 서울의 항구",
    "ㄱㄴㄷ",
    "\u1100\u1161\u11a8",
    "العربية ميناء",
    "עברית נמל",
    "हवाई अड्डा",
    "ท่าเรือ",
    "Ελληνικά λιμάνι",
    "სატელიტი",
    "አማርኛ",
    "𝒽𝑒𝓁𝓁𝑜",
    "𐍈",
    "𠀀𠀁",
    "\U000e0041",
    "\ufffd",
    "\ud83d",
    "a\udc80b",
    "\ufffe",
    "ￜ",
    "ﷺ",
    "Z̷͑a̶l̷g̸o",
    "a" * 300,
    "ab " * 200,
    "supercalifragilistic" * 20,
    "1" * 200,
    "!" * 200,
    "🌊" * 120,
    "港" * 150,
    "ё" * 120,
    "a b\tc\nd\re\x0bf\x0cg\x1ch\x85i",
    "trailing space ",
    " leading",
    "MiXeD CaSe",
    "ALL CAPS HARBOUR",
    "no-break\u2011hyphen",
]


def texts() -> list[str]:
    """1,200 strings: sentences in ten languages, long captions of several, and the awkward ones."""
    named = list(concepts().values())
    found = list(AWKWARD)
    for step in count():
        language = LANGUAGES[step % len(LANGUAGES)]
        frames = templates()[language].image + templates()[language].query
        words = [named[(step * 7 + k * 13) % len(named)].name(language) for k in range(1 + step % 3)]
        sentence = frames[step % len(frames)].replace("{c}", ", ".join(words))
        if step % 9 == 0:
            sentence = ". ".join(
                frames[(step + k) % len(frames)].replace("{c}", words[k % len(words)]) for k in range(12)
            )
        found.append(sentence.title() if step % 5 == 0 else sentence)
        if len(found) == 1200:
            return found


def train_bpe(lines: list[str]) -> None:
    """A merges file in OpenAI's format; longer than what is used, as OpenAI's is."""
    engine = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=514 + MERGES, initial_alphabet=byte_letters(), end_of_word_suffix="</w>")
    engine.train_from_iterator([line.lower() for line in lines], trainer)
    merges = json.loads(engine.to_str())["model"]["merges"]
    body = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])  # no last newline: it would be a token
    (OUT / "bpe.txt.gz").write_bytes(gzip.compress(body.encode(), mtime=0))


def train_xlmr(lines: list[str]) -> None:
    """A unigram vocabulary as XLM-R's tokenizer.json holds it, with a small table of normalisations."""
    with tempfile.TemporaryDirectory() as folder:
        rules = {"\u00a0": " ", "\u3000": " ", "½": "1/2", "²": "2", "③": "3", "Ⅳ": "IV", "…": "...", "e\u0301": "é"}
        table = Path(folder) / "rules.tsv"
        table.write_text("".join(f"{_hex(a)}\t{_hex(b)}\n" for a, b in rules.items()), "utf-8")
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(lines), "utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=f"{folder}/m", vocab_size=PIECES, model_type="unigram",
            normalization_rule_tsv=str(table), hard_vocab_limit=False, character_coverage=0.998, num_threads=1,
        )  # fmt: skip
        model = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")
        charsmap = _field(_field(model.serialized_model_proto(), 3), 2)
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(3, model.get_piece_size())]
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, ("<mask>", 0.0)]
    engine = Tokenizer(models.Unigram(vocab, unk_id=3))
    engine.normalizer = normalizers.Precompiled(charsmap)
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    engine.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    engine.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    engine.save(str(OUT / "xlmr.json"), pretty=False)


def _hex(text: str) -> str:
    return " ".join(f"{ord(c):X}" for c in text)


def _field(message: bytes, wanted: int) -> bytes:
    """The last length-delimited field of this number in a protocol buffer, one level deep."""
    at, found = 0, b""

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            number()
        elif key & 7 == 5:
            at += 4
        elif key & 7 == 1:
            at += 8
        else:
            size = number()
            if key >> 3 == wanted:
                found = message[at : at + size]
            at += size
    return found


def train_gemma(lines: list[str]) -> None:
    """BPE with byte fallback, as Gemma's tokenizer.json holds it."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{n:02X}>" for n in range(256)]
    engine = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    engine.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=261 + PIECES, special_tokens=special + bytes_, limit_alphabet=300)
    engine.train_from_iterator([word for line in lines for word in (line.lower().split())], trainer)
    body = json.loads(engine.to_str())
    body["added_tokens"] = [token for token in body["added_tokens"] if token["content"] in special]
    engine = Tokenizer.from_str(json.dumps(body))
    engine.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    engine.save(str(OUT / "gemma.json"), pretty=False)


def reference(kind: str, config: dict[str, Any], context: int, clean: str) -> HFTokenizer:
    """open_clip's own wrapper around transformers, over a folder as the hub lays it out."""
    folder = Path(tempfile.mkdtemp())
    (folder / "tokenizer.json").write_bytes((OUT / f"{kind}.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return HFTokenizer(str(folder), context_length=context, clean=clean)


def every_character() -> list[str]:
    """Each assigned Unicode character between letters, and twice after a digit."""
    points = (chr(n) for n in range(sys.maxunicode + 1) if not 0xD800 <= n < 0xE000)
    return [f"x{c}y 1{c}{c}" for c in points if unicodedata.category(c) != "Cn"]


def same(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Compare, and describe."""
    differ = np.flatnonzero((ours != theirs).any(1))
    print(name, ours.shape, "differ:", len(differ), differ[:5])
    digest = hashlib.sha256(theirs.astype("<i4").tobytes()).hexdigest()
    return {"rows": len(ours), "context": ours.shape[1], "sha256": digest, "equal": not len(differ)}


def real(lines: list[str]) -> dict[str, Any]:
    """The real BPE vocabulary through both tokenizers."""
    path = Path(default_bpe())
    found: dict[str, Any] = {"file": path.name, "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for context in (77, 248):
        theirs = SimpleTokenizer(context_length=context)
        found[f"texts_{context}"] = same(
            f"real {context}", read_clip_bpe(path, context).ids(lines), theirs(lines).numpy()
        )
    characters = every_character()
    theirs = SimpleTokenizer(context_length=24)
    return found | {
        "characters": same("characters", read_clip_bpe(path, 24).ids(characters), theirs(characters).numpy())
    }


def main() -> None:
    """Train, run, store, compare."""
    OUT.mkdir(parents=True, exist_ok=True)
    lines = texts()
    (OUT / "texts.json").write_text(json.dumps(lines, indent=0), "ascii")
    plain = lines[len(AWKWARD) :]
    train_bpe(plain)
    train_xlmr(plain)
    train_gemma(plain)
    xlmr = reference("xlmr", {"tokenizer_class": "XLMRobertaTokenizer"}, 77, "whitespace")
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "padding_side": "right",
        "add_bos_token": False,
        "add_eos_token": True,
    }
    gemma = reference("gemma", config, 64, "canonicalize")
    bpe = {f"bpe_{t}": SimpleTokenizer(str(OUT / "bpe.txt.gz"), context_length=t) for t in (77, 248)}
    ids = {name: one(lines).numpy().astype(np.int32) for name, one in {**bpe, "xlmr": xlmr, "gemma": gemma}.items()}
    np.savez_compressed(OUT / "ids.npz", **ids)
    manifest: dict[str, Any] = {
        "versions": {
            p: version(p) for p in ("open_clip_torch", "transformers", "tokenizers", "ftfy", "regex", "sentencepiece")
        }
    }
    manifest["vocabulary"] = {
        "bpe": bpe["bpe_77"].vocab_size,
        "xlmr": len(xlmr.tokenizer),
        "gemma": len(gemma.tokenizer),
    }
    manifest["real_bpe"] = real(lines)
    ours = {"bpe_77": read_clip_bpe(OUT / "bpe.txt.gz", 77, manifest["vocabulary"]["bpe"])}
    ours["xlmr"] = read_pieces(OUT / "xlmr.json", XLMR, 77, manifest["vocabulary"]["xlmr"])
    ours["gemma"] = read_pieces(OUT / "gemma.json", GEMMA, 64, manifest["vocabulary"]["gemma"])
    for name, tokenizer in ours.items():
        same(name, tokenizer.ids(lines), ids[name])
    (OUT / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
