"""A frozen sentence encoder and a trained head -> the text side of a light model folder.

    text.onnx        token ids [M, T] -> unit vectors [M, D]: the network, the head, weights in int8
    text.onnx.data   vectors of words at 6 bits, one byte each; ONNX Runtime maps the file and reads the rows it needs
    tokenizer.json   see tokenizers/unigram.py

Words that the wanted languages do not use are left out. What they spell is split into shorter pieces, down to single
characters, so no text becomes unreadable.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geoglot.models.export.int8_weights import int8_linears
from geoglot.models.export.towers import strip_traces, write_graph
from geoglot.models.parts.sentencepiece import SPACE
from geoglot.models.parts.use import END, PAD, START, SentenceNetwork, UseEncoder, WordTable
from geoglot.models.tokenizers.subword import Specials
from geoglot.models.tokenizers.unigram import write_unigram

CONTEXT = 256
"""Most tokens of a text, the two that frame it included."""
_EAST_ASIAN = re.compile("[\u4e00-\u9fff]+|[\uac00-\ud7a3]+")
GRAPH, WORDS, TOKENIZER = "text.onnx", "text.onnx.data", "tokenizer.json"


class SentenceGraph(nn.Module):
    """int64 [M, T], padded with PAD -> unit vectors [M, D]."""

    codes: Tensor
    scale: Tensor
    low: Tensor

    def __init__(self, words: WordTable, network: SentenceNetwork, head: nn.Module) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(words.codes))
        self.register_buffer("scale", torch.from_numpy(words.scale[:, None]))
        self.register_buffer("low", torch.from_numpy(words.low[:, None]))
        self.network = int8_linears(copy.deepcopy(network))
        self.head = int8_linears(copy.deepcopy(head))

    def forward(self, tokens: Tensor) -> Tensor:
        words = self.codes[tokens].float() * self.scale[tokens] + self.low[tokens]  # [M, T, 512]
        sentences = self.network(words, (tokens != PAD).float())
        return functional.normalize(self.head(sentences), dim=1)


def write_text(encoder: UseEncoder, head: nn.Module, folder: Path, texts: Iterable[str] | None = None) -> None:
    """Write the three files. Half a minute; needs the extra `export`.

    Args:
        encoder: See parts/use.py.
        head: Sentence vectors [M, 512] -> [M, D], any norm; its linear layers become int8.
        folder: A folder.
        texts: The pieces of these are kept, with all single characters; None keeps all pieces.

    Raises:
        MissingExtraError: The exporter is not installed.
    """
    ids = np.arange(len(encoder.pieces.pieces)) if texts is None else pieces_of(encoder, texts)
    pieces = encoder.pieces.take(ids.tolist())
    write_unigram(
        folder / TOKENIZER,
        pieces.pieces,
        pieces.scores,
        pieces.replacements,
        Specials((START,), END, PAD),
        unknown=pieces.unknown,
        context=CONTEXT,
    )
    graph = SentenceGraph(encoder.words.take(ids), encoder.network, head).eval()
    length = {1: torch.export.Dim("length", min=3, max=CONTEXT)}
    write_graph(graph, torch.ones(2, 16, dtype=torch.int64), "tokens", folder / GRAPH, length)
    strip_traces(folder / GRAPH)
    _words_apart(folder / GRAPH, graph.codes.nbytes)


def pieces_of(encoder: UseEncoder, texts: Iterable[str]) -> NDArray[np.int64]:
    """Ids of pieces in rising order.

    They are the special ones, single characters, those that the texts are split into, and all that are written in
    Chinese or Korean letters, where lists of words say little of how a sentence is split.
    """
    bare = [piece.removeprefix(SPACE) for piece in encoder.pieces.pieces]
    wanted = {number for number, piece in enumerate(bare) if len(piece) <= 1 or _EAST_ASIAN.fullmatch(piece)}
    wanted.update(number for ids in encoder.ids(list(texts)) for number in ids)
    return np.array(sorted(wanted), np.int64)


def _words_apart(path: Path, size: int) -> None:
    """Move the table of words, the one array of this size, into a file of its own; in place."""
    import onnx

    model = onnx.load(str(path))
    (path.parent / WORDS).unlink(missing_ok=True)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WORDS,
        size_threshold=size,
    )
    (path.parent / WORDS).chmod(path.stat().st_mode)  # onnx leaves it to its writer alone
