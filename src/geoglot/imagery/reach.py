"""Which scenes a server may read: not every file and address that an archive may have recorded."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from geoglot.errors import NotAllowedError, SourceError
from geoglot.imagery.addresses import is_url

TRUST_S = 60
"""Seconds for which an address that led nowhere else is not followed again."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Bounds of what is read.

    Attributes:
        roots: Folders that local scenes must lie in after symbolic links are followed; none means each scene's own
            folder, so that a link in it cannot lead out of it.
        hosts: Names of servers that may be read although they are on a private network.
    """

    roots: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()

    def check(self, uri: str) -> None:
        """Refuse what lies outside.

        An address is refused if any of its server's addresses is not a public one, and so is one that redirects to
        such a server; names are looked up at each check. A hostile server that answers the reader differently from
        this check can still lead elsewhere: keep untrusted addresses out of archives.

        Raises:
            NotAllowedError: Outside.
            SourceError: The server's name is not known.
        """
        if is_url(uri):
            self._check_host(urlsplit(uri).hostname or "")
            _follow(self, uri, int(time.monotonic() / TRUST_S))
        else:
            self._check_file(uri)

    def _check_file(self, uri: str) -> None:
        real = Path(os.path.realpath(uri))
        roots = self.roots or (Path(uri).parent,)
        if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
            raise NotAllowedError(
                f"scene {Path(uri).name!r} lies outside the folders that this server reads",
                hint="The operator may add its folder: geoglot serve --root FOLDER",
            )

    def _check_host(self, host: str) -> None:
        if host in self.hosts:
            return
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SourceError(f"the server {host!r} is not known: {error}", hint="Check the network.") from error
        if not all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found):
            raise NotAllowedError(
                f"the scene lies on a private network, at {host!r}",
                hint="The operator may allow the server: geoglot serve --allow-host NAME",
            )


class _Watched(HTTPRedirectHandler):
    """Follows a redirect only to where the reader may go."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """See urllib."""
        self._reach._check_host(urlsplit(newurl).hostname or "")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@functools.lru_cache(1024)
def _follow(reach: Reach, uri: str, when: int) -> None:
    """Ask for one byte, and go where the answer leads; `when` makes the cache forget.

    Raises:
        NotAllowedError: It leads to a private network.
    """
    try:
        build_opener(_Watched(reach)).open(Request(uri, headers={"Range": "bytes=0-0"}), timeout=10).close()
    except (OSError, ValueError):
        return  # it leads nowhere; who reads the scene is told why
