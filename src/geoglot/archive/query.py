"""What can be asked: terms with signs, and the answer.

The grammar of a query text::

    query  = part { ("+" | "-") part }            a sign before the first part is allowed
    part   = run of pieces of one kind
    piece  = "quoted text" | word | picture file | image:<path> | chip:<chip_id>

- A quote opens at the start of a word and closes at the end of one; “…”, „…“ and «…» work as well. Neighbouring words
  and quoted texts make one text: `boats in a "free port"` is one text.
- A word that ends like a picture (.png .jpg .jpeg .webp .tif .tiff .jp2) is a picture file and must exist. A path with
  spaces is written image:"./my ship.png".
- A sign counts only beside a piece that is quoted, a picture or a chip: with spaces around it, or glued to the front of
  such a piece (-"bridge"). Anywhere else it is part of the text: `semi-detached houses`, `roads - small`.
- Pieces that follow each other without a sign are added, except that words make one text.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from geoglot.errors import EmptyQueryError, QueryError, UsageError

if TYPE_CHECKING:
    from geoglot.archive.snapshot import Snapshot
    from geoglot.imagery.limits import Limits
    from geoglot.models.encoder import DualEncoder, Images

Kind = Literal["text", "image", "chip", "vector"]
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".jp2")
QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»"}
PREFIXES: dict[str, Kind] = {"image:": "image", "chip:": "chip"}
SMALLEST_SUM = 1e-6
"""Terms whose vectors cancel to less than this leave only rounding noise, and no direction to search in."""
PACKING = 0.02
"""Most that rounding to 16 bits may change the length of a unit vector."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: add (+1.0) or take away (-1.0) a text, an image file, a chip of the archive, or a vector.

    A vector is the text that `pack_vector` makes of a picture that was encoded before; no query text can name one.
    """

    weight: float
    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: Kind | Literal["sign"]
    value: str
    plain: bool = False  # a bare word, or a sign that stands alone


def parse_terms(text: str) -> tuple[Term, ...]:
    """Read a query text; the grammar is at the top of this module.

    Raises:
        EmptyQueryError: Nothing but spaces and quotes.
        QueryError: A sign without a part, or a picture file that is not there.
    """
    pieces = _settle_signs(_pieces(text))
    terms: list[Term] = []
    sign = ""
    after_text = False
    for piece in pieces:
        if piece.kind == "sign":
            if sign:
                raise QueryError(f"two signs in a row in {text!r}", hint='Write "harbour" - "bridge".')
            sign, after_text = piece.value, False
            continue
        if piece.kind == "text" and after_text:
            terms[-1] = Term(terms[-1].weight, "text", f"{terms[-1].value} {piece.value}")
        else:
            terms.append(Term(-1.0 if sign == "-" else 1.0, piece.kind, piece.value))
        sign, after_text = "", piece.kind == "text"
    if sign:
        raise QueryError(
            f"the sign {sign!r} at the end of {text!r} has nothing after it", hint='Write "harbour" - "bridge".'
        )
    if not terms or any(not term.value.strip() for term in terms):
        raise EmptyQueryError("the query is empty", hint='Ask for something, such as "boats in a harbour".')
    return tuple(terms)


def _settle_signs(pieces: list[_Piece]) -> list[_Piece]:
    """Turn signs that stand between plain words back into words."""
    settled = []
    for i, piece in enumerate(pieces):
        if piece.kind == "sign" and piece.plain:
            beside = [pieces[j] for j in (i - 1, i + 1) if 0 <= j < len(pieces)]
            if all(p.plain for p in beside):
                piece = _Piece("text", piece.value, plain=True)
        settled.append(piece)
    return settled


def _pieces(text: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        parts, at = _piece(text, at)
        pieces += parts
    return pieces


def _piece(text: str, at: int) -> tuple[list[_Piece], int]:
    """The piece, or glued sign and piece, that starts at `at`, and where it ends."""
    glued = text[at] in "+-" and at + 1 < len(text) and _explicit(text, at + 1)
    if glued:
        following, end = _piece(text, at + 1)
        return [_Piece("sign", text[at]), *following], end
    prefix = next((p for p in PREFIXES if text.startswith(p, at)), "")
    start = at + len(prefix)
    if (close := _closing_quote(text, start)) is not None:
        return [_Piece(PREFIXES.get(prefix, "text"), text[start + 1 : close])], close + 1
    end = next((i for i in range(start, len(text)) if text[i].isspace()), len(text))
    word = text[start:end]
    if prefix:
        return [_Piece(PREFIXES[prefix], word)], end
    if word in ("+", "-"):
        return [_Piece("sign", word, plain=True)], end
    if word.lower().endswith(PICTURES):
        return [_Piece("image", word)], end
    return [_Piece("text", word, plain=True)], end


def _explicit(text: str, at: int) -> bool:
    """True when a quoted text, a picture or a chip starts here."""
    word = text[at:].split(maxsplit=1)[0] if not text[at].isspace() else ""
    return _closing_quote(text, at) is not None or word.startswith(tuple(PREFIXES)) or word.lower().endswith(PICTURES)


def _closing_quote(text: str, at: int) -> int | None:
    """Where the quote that opens at `at` closes: before a space or the end. None when it is not a quote."""
    if at >= len(text) or text[at] not in QUOTES:
        return None
    closers = QUOTES[text[at]]
    for i in range(at + 1, len(text)):
        if text[i] in closers and (i + 1 == len(text) or text[i + 1].isspace()):
            return i
    return None


def query_vector(terms: Sequence[Term], encoder: DualEncoder | None, snapshot: Snapshot) -> NDArray[np.float32]:
    """The signed sum of the terms' unit vectors, made unit: float32 [D].

    Raises:
        EmptyQueryError: No terms.
        UnknownWordsError: No word of a text is known to the model.
        QueryError: A chip or a picture that is not there, or terms that cancel each other.
        UsageError: A text or a picture, and no encoder.
    """
    if not terms:
        raise EmptyQueryError("the query has no terms", hint='Ask for something, such as "boats in a harbour".')
    if encoder is None and any(term.kind in ("text", "image") for term in terms):
        raise UsageError("the archive was opened without a model", hint="Archive.open(path, load_encoder(name))")
    total = sum((term.weight * _vector(term, encoder, snapshot) for term in terms), np.float64(0))
    norm = float(np.linalg.norm(total))
    if not norm > SMALLEST_SUM:
        raise QueryError("the terms cancel each other: nothing is left to search for", hint="Leave one of them out.")
    return np.asarray(total / norm, dtype=np.float32)


def _vector(term: Term, encoder: DualEncoder | None, snapshot: Snapshot) -> NDArray[np.float64]:
    if term.kind == "vector":
        return unpack_vector(term.value, snapshot.arrays.vectors.shape[1])
    if term.kind == "chip" or encoder is None:
        row = snapshot.find_chip(term.value)
        if row is None:
            raise QueryError(f"no chip {term.value!r} in the archive", hint="Copy a chip_id from an answer.")
        return np.asarray(snapshot.arrays.vectors[row], np.float64)
    if term.kind == "text":
        return np.asarray(encoder.encode_texts([term.value])[0], np.float64)
    return np.asarray(encoder.encode_images(read_picture(term.value, encoder.card.image_px))[0], np.float64)


def pack_vector(vector: NDArray[np.float32]) -> str:
    """A unit vector float32 [D] as a text for a `Term` of kind "vector"; 2.7 letters per number, 1e-3 exact."""
    return base64.urlsafe_b64encode(vector.astype("<f2").tobytes()).decode("ascii").rstrip("=")


def unpack_vector(text: str, dim: int) -> NDArray[np.float64]:
    """The unit vector float64 [D] of `pack_vector`.

    Raises:
        QueryError: Not such a text, or of a model of another width.
    """
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        vector = np.frombuffer(raw, "<f2").astype(np.float64)
    except ValueError as error:
        raise QueryError("a picture's vector cannot be read", hint="Encode the picture again.") from error
    norm = float(np.linalg.norm(vector)) if vector.size else 0.0
    if vector.shape != (dim,) or not (np.isfinite(norm) and abs(norm - 1) <= PACKING):
        raise QueryError(
            f"a picture's vector has {vector.size} numbers and length {norm:.3g}; it must have {dim} and be unit",
            hint="Encode the picture again, with the model of this archive.",
        )
    return vector / norm


def read_picture(path: str, image_px: int, limits: Limits | None = None) -> Images:
    """The largest centred square of an image file, resized: uint8 [1, S, S, 3].

    Raises:
        QueryError: There is no such file.
        SceneError: It cannot be read as an image, or is over the limits.
    """
    file = Path(path).expanduser()
    if not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises on a text too long for a name
        raise QueryError(
            f"there is no picture {path!r}", hint="Check the path; to search for it as a text, put it in quotes."
        )
    from geoglot.imagery.scene import open_scene
    from geoglot.types import Window

    with open_scene(file, limits) as scene:
        width, height = scene.info.width, scene.info.height
        side = min(width, height)
        x0, y0 = (width - side) // 2, (height - side) // 2
        return scene.read(Window(x0, y0, x0 + side, y0 + side), (image_px, image_px)).rgb[None]
