"""Which scenes a server may read: not every file and address that an archive may have recorded."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from geoglot.errors import NotAllowedError, SourceError
from geoglot.imagery.sources import is_url


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

        An address is refused if any of its server's addresses is not a public one. A server that answers differently
        to the second question, or that redirects, can still lead elsewhere: keep untrusted addresses out of archives.

        Raises:
            NotAllowedError: Outside.
            SourceError: The server's name is not known.
        """
        if is_url(uri):
            self._check_host(urlsplit(uri).hostname or "")
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
