"""How a server is to behave: what it may read, and the limits that keep it answering."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from geoglot.imagery.limits import UPLOAD, Limits
from geoglot.imagery.reach import Reach
from geoglot.server.webpage import Basemap


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are safe for a machine that others can reach.

    Attributes:
        title: Of the landing page.
        state: Folder for jobs and their results.
        api_keys: Any of these opens the server; none means that no key is asked for.
        rate_per_min: Requests a minute for each key or, without keys, each address; None for no limit.
        cors: Origins that pages of other servers may come from, or "*".
        public_url: What links begin with; None takes it from each request.
        allowed_hosts: Names that a request may call the server by, so that a foreign page cannot reach a server on
            loopback by a name of its own; None allows any.
        reach: What scenes may be read.
        page: Folder of the map page; None for none.
        basemap: A map from elsewhere that the page draws below the scenes; None for none.
        max_body: Bytes of a request's body, uploads aside.
        max_upload: Bytes of an upload.
        upload_limits: Pixels of an upload.
        max_picture_px: Pixels of a chip in full resolution.
        max_uploads: Uploads that are under way at the same time; half as many of the largest.
        max_requests: Requests that are under way at the same time.
        wrong_keys_per_min: Wrong keys an address may try; then no key of it is looked at for a while.
        proxies: Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
        headers_s: Seconds that a request's headers may take to arrive.
        max_jobs: Jobs that wait or run, in all; with keys, of each key at most half of them.
        job_threads: Jobs that run at the same time.
        job_s: Seconds that a job may take.
        job_keep_s: Seconds that an ended job is kept.
        body_s: Seconds that a request's body may take to arrive.
        follow_s: Seconds between two looks at whether an archive has grown.
    """

    title: str = "geoglot"
    state: Path = Path("geoglot-jobs")
    api_keys: tuple[str, ...] = ()
    rate_per_min: int | None = None
    cors: tuple[str, ...] = ()
    public_url: str | None = None
    allowed_hosts: frozenset[str] | None = None
    reach: Reach = Reach()  # noqa: RUF009  frozen
    page: Path | None = None
    basemap: Basemap | None = None
    max_body: int = 1_000_000
    max_upload: int = 20_000_000
    upload_limits: Limits = UPLOAD
    max_picture_px: int = 16_777_216
    max_uploads: int = 8
    max_requests: int = 500
    wrong_keys_per_min: int = 10
    proxies: tuple[str, ...] = ()
    headers_s: float = 10.0
    max_jobs: int = 20
    job_threads: int = 1
    job_s: float = 600.0
    job_keep_s: float = 86_400.0
    body_s: float = 30.0
    follow_s: float = 2.0


def digest(key: str) -> str:
    """The name of a key in logs, limits and jobs: 16 hex digits of its hash."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]
