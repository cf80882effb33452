"""Long tasks: kept in folders, run one after the other, told about while they run, resumed after a crash.

A job is `<state>/jobs/<id>/`: `job.json` says what was asked and how it stands and is replaced whole at each change of
state; `files/` holds the result. All of it is the server's user's alone (0700, 0600). A task only reads an archive, so
a job that a crash interrupted is simply run again.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from geoglot.errors import (
    ExpiredError,
    GeoglotError,
    NotDoneError,
    NotThereError,
    StorageError,
    TooLongError,
    TooManyError,
)
from geoglot.files import take_lock, write_atomically
from geoglot.server.errors import problem_of

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
ENDED: frozenset[str] = frozenset({"done", "failed", "cancelled", "expired"})
ATTEMPTS = 3
"""A job that was running at so many crashes is not run again: it may be what crashes the server."""
GRAVES_S = 30 * 86_400.0
"""Seconds for which an expired job is remembered as such."""
_log = logging.getLogger("geoglot.server.jobs")

Run = Callable[[str, str, Mapping[str, Any], Path, Callable[[float, str], None]], None]
"""(task, collection, body, folder, report): does a task's work."""


@dataclass(frozen=True, slots=True)
class Job:
    """How a job stands.

    Attributes:
        id: 32 hex digits.
        task, collection, body: What was asked.
        owner: Who asked: the digest of a key, or empty.
        state: See State.
        progress: Share done, in [0, 1].
        message: A few words on it.
        created, expires: ISO 8601, UTC; `expires` is set when it has ended.
        attempts: How often it was begun.
        problem: Why it failed, as a problem document.
    """

    id: str
    task: str
    collection: str
    body: Mapping[str, Any]
    owner: str
    state: State
    created: str
    progress: float = 0.0
    message: str = ""
    expires: str | None = None
    attempts: int = 0
    problem: Mapping[str, Any] | None = None


class _Cancelled(Exception):
    """Raised in a task's report to end it."""


class JobBoard:
    """All jobs of a server. Safe between threads.

    Args:
        folder: Where they are kept; one server at a time.
        run: Does the work.
        threads: How many run at the same time.
        most: How many may wait or run.
        job_s: Seconds one may take.
        keep_s: Seconds an ended one is kept.

    Raises:
        StorageError: The folder cannot be written, or another server uses it.
    """

    def __init__(self, folder: Path, run: Run, *, threads: int, most: int, job_s: float, keep_s: float) -> None:
        self._folder = folder / "jobs"
        self._run = run
        self._most, self._job_s, self._keep_s = most, job_s, keep_s
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._unwanted: set[str] = set()
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._claim = _claim(folder)
        self._jobs = self._load()
        for job in sorted(self._jobs.values(), key=lambda job: job.created):
            if job.state == "queued":
                self._waiting.put(job.id)
        self._threads = [threading.Thread(target=self._work, name=f"job-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def _load(self) -> dict[str, Job]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        jobs = {}
        for file in sorted(self._folder.glob("*/job.json")):
            try:
                job = Job(**json.loads(file.read_text("utf-8")))
            except (OSError, ValueError, TypeError) as error:
                _log.error("a job cannot be read", extra={"file": str(file), "error": repr(error)})
                continue
            jobs[job.id] = self._revived(job)
        return jobs

    def _revived(self, job: Job) -> Job:
        if job.state in ENDED:
            return job
        if job.attempts >= ATTEMPTS:
            return self._ended(job, "failed", problem_of(GeoglotError(f"the server ended {ATTEMPTS} times during it")))
        return replace(job, state="queued", progress=0.0, message="waits to run again")

    def submit(self, task: str, collection: str, body: Mapping[str, Any], owner: str) -> Job:
        """Take a job in; it runs when those before it are done.

        Raises:
            TooManyError: Too many wait or run: of all, or of this owner, who may have half of the places.
            StorageError: It cannot be written down.
        """
        job = Job(secrets.token_hex(16), task, collection, body, owner, "queued", _now().isoformat())
        with self._lock:
            waiting = [other.owner for other in self._jobs.values() if other.state not in ENDED]
            share = -(-self._most // 2) if owner else self._most
            if len(waiting) >= self._most or waiting.count(owner) >= share:
                raise TooManyError(
                    f"{len(waiting)} jobs wait or run already, {waiting.count(owner)} of them of this key",
                    hint="Wait until one is done.",
                    retry_s=10,
                )
            self._save(job)
            self._jobs[job.id] = job
        self._waiting.put(job.id)
        return job

    def get(self, job_id: str, owner: str) -> Job:
        """How a job stands.

        Raises:
            NotThereError: No such job, or another owner's.
            ExpiredError: It ended long ago.
        """
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise NotThereError(f"there is no job {job_id[:64]!r}", hint="Was it deleted?")
        if job.state == "expired":
            raise ExpiredError(f"job {job_id} has expired", hint="Run it again.")
        return job

    def list(self, owner: str) -> tuple[Job, ...]:
        """An owner's jobs, the newest first."""
        mine = (job for job in list(self._jobs.values()) if job.owner == owner and job.state != "expired")
        return tuple(sorted(mine, key=lambda job: job.created, reverse=True))

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        states = [job.state for job in list(self._jobs.values())]
        return {state: states.count(state) for state in ("queued", "running", "done", "failed", "cancelled")}

    def remove(self, job_id: str, owner: str) -> Job | None:
        """Cancel a job that has not ended (it then ends soon); delete one that has, with its files.

        Raises:
            NotThereError, ExpiredError: As get.
        """
        job = self.get(job_id, owner)
        with self._lock:
            job = self._jobs[job_id]
            if job.state in ENDED:
                del self._jobs[job_id]
                shutil.rmtree(self._folder / job_id, ignore_errors=True)
                return None
            self._unwanted.add(job_id)
            if job.state == "queued":
                job = self._jobs[job_id] = self._ended(job, "cancelled")
                self._save(job)
        return job

    def files(self, job: Job) -> tuple[Path, ...]:
        """The result's files; none before the job is done."""
        folder = self._folder / job.id / "files"
        return tuple(sorted(folder.iterdir())) if job.state == "done" and folder.is_dir() else ()

    def file(self, job: Job, name: str) -> Path:
        """One file, by its name.

        Raises:
            NotDoneError: The job has not ended.
            NotThereError: It has no such file.
        """
        if job.state not in ENDED:
            raise NotDoneError(f"job {job.id} is {job.state}", hint="Wait until its state is done.")
        found = next((path for path in self.files(job) if path.name == name), None)
        if found is None:
            raise NotThereError(f"the job has no file {name[:80]!r}", hint="Its files stand in the job.")
        return found

    def tidy(self) -> None:
        """Delete the files of jobs that have expired, and in the end forget them."""
        now = _now()
        for job in list(self._jobs.values()):
            if job.expires is None or datetime.fromisoformat(job.expires) > now:
                continue
            with self._lock, suppress(StorageError):
                shutil.rmtree(self._folder / job.id / "files", ignore_errors=True)
                if datetime.fromisoformat(job.expires) + timedelta(seconds=GRAVES_S) < now:
                    self._jobs.pop(job.id, None)
                    shutil.rmtree(self._folder / job.id, ignore_errors=True)
                elif job.state != "expired" and job.id in self._jobs:
                    self._jobs[job.id] = replace(job, state="expired", body={}, message="")
                    self._save(self._jobs[job.id])

    def close(self) -> None:
        """Stop working; what has not ended is run again by the next server."""
        self._halt.set()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(timeout=5)
        self._claim.release()

    def _work(self) -> None:
        while (job_id := self._waiting.get()) is not None and not self._halt.is_set():
            with self._lock:
                job = self._jobs.get(job_id)
                if job is None or job.state != "queued":
                    continue
                job = self._jobs[job_id] = replace(job, state="running", attempts=job.attempts + 1)
                self._save(job)
            self._finish(job, *self._outcome(job))

    def _outcome(self, job: Job) -> tuple[State, Mapping[str, Any] | None]:
        folder = self._folder / job.id / "files"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700, parents=True)
            self._run(job.task, job.collection, job.body, folder, self._reporter(job.id))
            for file in folder.iterdir():
                file.chmod(0o600)
        except _Cancelled:
            return "cancelled", None
        except GeoglotError as error:
            return "failed", problem_of(error, request=job.id)
        except Exception as error:  # noqa: BLE001  a bug in a task must not end the thread that runs the others
            _log.error("bug in a job", exc_info=error, extra={"job": job.id})
            return "failed", problem_of(GeoglotError("something went wrong that should not have"), request=job.id)
        return "done", None

    def _reporter(self, job_id: str) -> Callable[[float, str], None]:
        deadline = time.monotonic() + self._job_s

        def report(progress: float, message: str) -> None:
            if job_id in self._unwanted or self._halt.is_set():
                raise _Cancelled
            if time.monotonic() > deadline:
                raise TooLongError(f"the job took more than {self._job_s:.0f} s", hint="Ask for a smaller area.")
            with self._lock:
                self._jobs[job_id] = replace(self._jobs[job_id], progress=round(progress, 3), message=message)

        return report

    def _finish(self, job: Job, state: State, trouble: Mapping[str, Any] | None) -> None:
        if self._halt.is_set() and state == "cancelled":
            return  # stays `running` on disk: the next server runs it again
        with self._lock:
            job = self._jobs[job.id] = self._ended(self._jobs[job.id], state, trouble)
            self._unwanted.discard(job.id)
            try:
                self._save(job)
            except StorageError as error:
                _log.error("a job's end cannot be written", extra={"job": job.id, "error": str(error)})
        _log.info("job ended", extra={"job": job.id, "task": job.task, "state": state})

    def _ended(self, job: Job, state: State, trouble: Mapping[str, Any] | None = None) -> Job:
        expires = (_now() + timedelta(seconds=self._keep_s)).isoformat()
        progress = 1.0 if state == "done" else job.progress
        return replace(job, state=state, progress=progress, problem=trouble, expires=expires)

    def _save(self, job: Job) -> None:
        folder = self._folder / job.id
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error}", hint="Free some space.") from error
        write_atomically(folder / "job.json", json.dumps(asdict(job), ensure_ascii=False).encode())
        (folder / "job.json").chmod(0o600)


def _claim(folder: Path) -> Any:
    """The folder's lock, which the system lets go when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error}", hint="Choose another: --state FOLDER") from error
    lock = take_lock(folder / "lock", wait_s=2.0)
    if lock is None:
        raise StorageError(f"another server keeps its jobs in {folder}", hint="Choose another: --state FOLDER")
    return lock


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
