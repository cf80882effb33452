"""`geoglot serve`: archives over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoglot.cli.app import PLAIN
from geoglot.cli.options import Definitions
from geoglot.errors import MissingExtraError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
EXTRA = frozenset({"fastapi", "uvicorn", "starlette", "pydantic", "rio_tiler", "prometheus_client", "multipart"})

app = typer.Typer(**PLAIN)


@app.command()
def serve(
    archives: Annotated[
        list[str], typer.Argument(metavar="ARCHIVE...", help="Folders of archives; NAME=FOLDER names the collection.")
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port.")] = 8080,
    title: Annotated[str, typer.Option(metavar="TEXT", help="What the landing page says.")] = "geoglot",
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="GEOGLOT_API_KEYS", metavar="KEY", help="A key that opens the server; repeat for several."),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Requests a minute for each key, or each address.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Let pages of this origin ask; repeat, or * for all.")
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Read scenes only below this folder; repeat for several."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Read scenes from this server on a private network; repeat."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Believe X-Forwarded-For from this proxy, an address or network; repeat."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="What links begin with, behind a proxy.")
    ] = None,
    basemap: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Have the page draw a map from elsewhere: a template with {z}, {x} and {y}."),
    ] = None,
    basemap_credit: Annotated[
        str, typer.Option(metavar="TEXT", help="Whom the basemap's licence asks to name; shown on the map.")
    ] = "",
    state: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where jobs are kept. Default: in geoglot's data folder, by port."),
    ] = None,
    definitions: Definitions = None,
    max_jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Jobs that may wait or run.")] = 20,
    job_minutes: Annotated[float, typer.Option(min=0.1, metavar="N", help="How long a job may take.")] = 10.0,
) -> None:
    """Serve archives: a STAC API with language search, map tiles, and tasks. Needs the extra `serve`.

    Listens on this machine only, unless told otherwise. Logs are JSON lines on stderr.
    """
    try:
        from geoglot.server.app import serve as run
        from geoglot.server.archives import ArchivePool, named_archives
        from geoglot.server.settings import Settings
        from geoglot.server.webpage import PAGE, Basemap, has_page
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA:
            raise MissingExtraError("geoglot serve", "serve") from error
        raise
    from functools import partial
    from urllib.parse import urlsplit

    from geoglot.cli.screen import say
    from geoglot.imagery.reach import Reach
    from geoglot.models.load import load_encoder
    from geoglot.models.zoo.store import home

    named = {urlsplit(public_url).hostname or ""} if public_url else set()
    settings = Settings(
        title=title,
        state=state or home() / "serve" / str(port),
        api_keys=tuple(api_key or ()),
        rate_per_min=rate,
        cors=tuple(cors or ()),
        public_url=public_url,
        proxies=tuple(proxy or ()),
        allowed_hosts=LOOPBACK | named if host in LOOPBACK else None,
        reach=Reach(tuple(root or ()), tuple(allow_host or ())),
        page=PAGE,
        basemap=Basemap(basemap, basemap_credit) if basemap else None,
        max_jobs=max_jobs,
        job_s=60 * job_minutes,
    )
    if host not in LOOPBACK and not api_key:
        say("Everybody who can reach this machine can ask: there is no --api-key.")
    pool = ArchivePool(named_archives(archives), partial(load_encoder, definitions=definitions))
    if not has_page(PAGE):
        say("The map page is not built, the rest works. Build it, with Node: cd web && npm ci && npm run build")
    say(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends it)")
    run(pool, settings, host, port)
