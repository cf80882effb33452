"""The facts of a released model's card: input, tokens, where it comes from, terms, doubts.

Each class is a table of the TOML with the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From RGB pixels of any size to the image tower's input.

    Attributes:
        mean, std: Per channel, of pixels in [0, 1].
        resize: "shortest" makes the shortest side image_px and takes the centre; "squash" makes both sides image_px.
        interpolation: Of the resize.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["shortest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


@dataclass(frozen=True, slots=True)
class TokenizerSource:
    """How texts become tokens. The context stands in the architecture's text tower.

    Attributes:
        kind: Which reader.
        repo, file: Hub repository and file that `pull` takes it from.
        note: What is not certain about it, for people.
    """

    kind: Literal["clip_bpe", "sentencepiece_xlmr", "gemma", "concepts", "unigram"]
    repo: str = ""
    file: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the authors keep the weights.

    Attributes:
        repo, file: Hub repository and file in it; or
        url: a plain https address; with neither there is no public address and the user gives a path.
        member: The file inside, when the address gives a zip.
        sha256: Of the file at the address, where somebody publishes it, else empty: then `pull` records what it saw.
            A published prefix is compared as far as it goes.
        max_bytes: `pull` gives up beyond.
        note: Who publishes the checksum, and what to know about the file.
    """

    repo: str = ""
    file: str = ""
    url: str = ""
    member: str = ""
    sha256: str = ""
    max_bytes: int = 8_000_000_000
    note: str = ""

    @property
    def address(self) -> str:
        """The web page of the weights; empty without a public address."""
        return f"hf-hub:{self.repo}/{self.file}" if self.repo else self.url


@dataclass(frozen=True, slots=True)
class Licence:
    """The weights' own terms.

    Attributes:
        id: SPDX identifier, or "none stated".
        use: "free"; "noncommercial"; or "unstated", when the authors do not say what may be done.
        text: What `pull` prints.
    """

    id: str
    use: Literal["free", "noncommercial", "unstated"]
    text: str

    @property
    def needs_consent(self) -> bool:
        """True when `pull` must be told that the terms are accepted."""
        return self.use != "free"


@dataclass(frozen=True, slots=True)
class Doubts:
    """Facts that a checkpoint does not hold, and how sure the card is of them.

    Attributes:
        activation: "known"; "assumed": the card's value is a default with a reason, said aloud when the model is
            pulled; "undecided": whoever brings the model must choose.
        activation_why: The source, or the reason.
        context: "known"; or "detect": 77 or 248 tokens, read off the checkpoint.
        context_why: The reason.
    """

    activation: Literal["known", "assumed", "undecided"] = "known"
    activation_why: str = ""
    context: Literal["known", "detect"] = "known"
    context_why: str = ""


NO_DOUBTS = Doubts()
