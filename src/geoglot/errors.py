"""Every error geoglot raises on purpose.

    GeoglotError
    ├── UsageError                 an argument is wrong (also a ValueError)
    │   ├── UnknownNameError       a name that is not in a list; suggests the nearest
    │   └── QueryError             a search that cannot be run
    │       ├── EmptyQueryError
    │       └── UnknownWordsError  no word of the text is known to the model
    ├── SceneError                 one scene cannot be used; ingest reports it and goes on
    │   ├── UnreadableSceneError   corrupt, truncated, mislabelled, not a raster
    │   ├── EmptySceneError        zero size or nothing but nodata
    │   ├── SceneTooLargeError     over a stated limit (decompression bombs)
    │   └── SceneChangedError      the file changed while it was read
    ├── SourceError                a folder, glob, STAC document or URL that cannot be listed
    ├── SampleError                one image-text pair cannot be used; training counts and reports it
    ├── TrainingError              a training run that cannot go on
    │   ├── DivergedError          the loss is not finite, or has jumped
    │   └── CollapsedError         all embeddings became alike, or nothing is learned
    ├── ArchiveError
    │   ├── ArchiveNotFoundError
    │   ├── ArchiveMismatchError   model, preprocessing or chip grid differ
    │   ├── ArchiveVersionError    written by a newer geoglot
    │   ├── ArchiveBusyError       another process is writing
    │   └── ArchiveDamagedError
    ├── ModelError
    │   ├── ModelNotFoundError
    │   ├── ModelFileError         missing, corrupt or wrong for its card
    │   ├── ModelBusyError         another process is writing the model
    │   ├── DownloadError          a file could not be fetched, or came out wrong
    │   ├── DisagreementError      an exported model differs too much from the original
    │   └── TermsError             the weights' terms were not accepted
    ├── RequestError               a server will not do what a request asks
    │   ├── KeyNeededError         no API key, or an unknown one
    │   ├── NotAllowedError        a server was not given that, or will not do it for this page or name
    │   │   └── OutOfReachError    a file or address outside what may be read (also a SceneError and a SourceError)
    │   ├── NotThereError          no such collection, item, scene, task, job or file
    │   ├── NotDoneError           the job has not ended
    │   ├── ExpiredError           the job is over and its files are deleted
    │   ├── TooLargeError          over a limit of size
    │   ├── UploadError            an upload that is not a picture
    │   ├── TooManyError           over a limit of requests or jobs
    │   └── TooLongError           over a limit of time
    ├── MissingExtraError          an optional package is not installed; prints the command
    └── StorageError               the disk is full or cannot be written

Each carries `.hint`: what to do next, in one sentence, or an empty string.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GeoglotError(Exception):
    """Base of the tree. `str(error)` says what happened and the value; `.hint` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(GeoglotError, ValueError):
    """An argument is wrong."""


class UnknownNameError(UsageError):
    """A name that is not in a known list.

    Args:
        kind: What the name should have been, e.g. "format".
        value: The name that was given.
        known: All valid names.
    """

    def __init__(self, kind: str, value: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
        listing = ", ".join(names) or "none"
        hint = f"Did you mean {near[0]!r}? Known: {listing}." if near else f"Known: {listing}."
        super().__init__(f"unknown {kind} {value!r}", hint=hint)


class QueryError(UsageError):
    """A search that cannot be run."""


class EmptyQueryError(QueryError):
    """The query holds no text, image or chip."""


class UnknownWordsError(QueryError):
    """No word of a text is known to the model, in any of its languages."""


class SceneError(GeoglotError):
    """One scene cannot be used. Ingest writes it into the run report and goes on."""


class UnreadableSceneError(SceneError):
    """Corrupt, truncated, mislabelled, or not a raster at all."""


class EmptySceneError(SceneError):
    """Zero size, or nothing but nodata."""


class SceneTooLargeError(SceneError):
    """Larger than a stated limit."""


class SceneChangedError(SceneError):
    """The file changed while it was being read, twice in a row."""


class SourceError(GeoglotError):
    """A folder, glob, STAC document or URL that cannot be listed."""


class SampleError(GeoglotError):
    """One image-text pair cannot be used. Training counts it, reports it by name, and goes on without it."""


class TrainingError(GeoglotError):
    """A training run cannot go on: it diverged, collapsed, or its data is unusable."""


class DivergedError(TrainingError):
    """The loss is not finite, or has jumped and stays up."""


class CollapsedError(TrainingError):
    """All embeddings became alike, or the loss never left what guessing gives."""


class ArchiveError(GeoglotError):
    """Something is wrong with an archive as a whole."""


class ArchiveNotFoundError(ArchiveError):
    """There is no archive at that path."""


class ArchiveMismatchError(ArchiveError):
    """The model, its preprocessing or the chip grid differ from what the archive was built with."""


class ArchiveVersionError(ArchiveError):
    """The archive was written by a newer geoglot."""


class ArchiveBusyError(ArchiveError):
    """Another process is writing to the archive."""


class ArchiveDamagedError(ArchiveError):
    """Files of the archive are missing or contradict each other."""


class ModelError(GeoglotError):
    """Something is wrong with a model."""


class ModelNotFoundError(ModelError):
    """No model of that name, and no folder at that path."""


class ModelFileError(ModelError):
    """A model file is missing, corrupt, or wrong for its card."""


class ModelBusyError(ModelError):
    """Another process is writing the model."""


class DownloadError(ModelError):
    """A file of a model could not be fetched, or is not what its publisher says it is."""


class DisagreementError(ModelError):
    """An exported model differs more from the original than it may."""


class TermsError(ModelError):
    """The terms of a model's weights must be accepted first."""


class RequestError(GeoglotError):
    """A server will not do what a request asks."""


class KeyNeededError(RequestError):
    """An API key is needed, and none or an unknown one was given."""


class NotAllowedError(RequestError):
    """The server may not do that."""


class OutOfReachError(NotAllowedError, UnreadableSceneError, SourceError):
    """A scene lies in, or leads to, a folder or network that may not be read."""


class NotThereError(RequestError):
    """There is no such collection, item, scene, task, job or file."""


class NotDoneError(RequestError):
    """The job has not ended, so that there is no result yet."""


class ExpiredError(RequestError):
    """The job ended long ago, and its files are deleted."""


class TooLargeError(RequestError):
    """The request or what it asks for is larger than the server allows."""


class UploadError(RequestError):
    """An upload cannot be read as a picture."""


class TooManyError(RequestError):
    """More requests or jobs than the server allows.

    Args:
        message: What happened.
        hint: What to do.
        retry_s: Seconds after which a new attempt makes sense.
    """

    def __init__(self, message: str, *, hint: str = "", retry_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_s = retry_s


class TooLongError(RequestError):
    """It took longer than the server allows."""


class MissingExtraError(GeoglotError):
    """An optional package is needed and not installed.

    Args:
        what: The thing the user asked for.
        extra: The extra of geoglot that brings the package.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs a package that is not installed", hint=f'Run: pip install "geoglot[{extra}]"')


class StorageError(GeoglotError):
    """The disk is full, or a folder cannot be written."""
