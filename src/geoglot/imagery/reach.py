"""Where scenes may lie: folders and servers. Every file and every address is held to it, however it was named."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from geoglot.errors import OutOfReachError, SourceError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses inside IPv6 (RFC 6052): the last 32 bits say where it really goes."""


def is_url(uri: str) -> bool:
    """True for http and https addresses."""
    return uri.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Reach:
    """Bounds of what is read.

    Attributes:
        roots: Folders that local scenes must lie in after symbolic links are followed; none means each scene's own
            folder, so that a link in it cannot lead out of it.
        hosts: Servers on a private network that may be read all the same: `NAME`, or `NAME:PORT` for one port only.
    """

    roots: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()

    def check(self, uri: str) -> None:
        """Refuse what lies outside. Costs one look-up of a name, or of a path's links; nothing is opened.

        Raises:
            OutOfReachError: Outside.
            SourceError: The server's name is not known.
        """
        if is_url(uri):
            self.addresses(*server_of(uri))
        else:
            self.check_file(uri)

    def check_file(self, path: str | os.PathLike[str], home: Path | None = None) -> None:
        """Refuse a file outside the roots or, where there are none, outside `home`: by default its own folder.

        Raises:
            OutOfReachError: Outside.
        """
        real = Path(os.path.realpath(path))
        roots = self.roots or (home or Path(path).parent,)
        if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
            raise OutOfReachError(
                f"{os.fspath(path)!r} lies outside the folders that may be read, in {str(real.parent)!r}",
                hint="If that is meant, allow its folder: --root FOLDER",
            )

    def addresses(self, host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
        """Where a server is, as (address family, socket address), to be connected to without another look-up.

        Raises:
            OutOfReachError: Any of its addresses is not a public one, and the server is not among `hosts`.
            SourceError: The name is not known.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SourceError(f"the server {host!r} is not known: {error}", hint="Check the network.") from error
        if not {host, f"{host}:{port}"} & set(self.hosts) and not all(_is_public(str(e[4][0])) for e in found):
            raise OutOfReachError(
                f"{host!r} is on a private network",
                hint=f"If that is meant, allow it: --allow-host {host}",
            )
        return [(int(entry[0]), (str(entry[4][0]), port)) for entry in found]


def _is_public(address: str) -> bool:
    """Whether an address is on the internet; one that is wrapped in another counts as what it wraps."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = (
            ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        )
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


PUBLIC = Reach()
"""Servers on the internet, and of files each scene's own folder."""


def given(*uris: str) -> Reach:
    """PUBLIC and the servers that are named outright: who names an address means it, but not where it leads."""
    return Reach(hosts=tuple("{}:{}".format(*server_of(uri)) for uri in uris if is_url(uri)))


def server_of(url: str) -> tuple[str, int]:
    """Name and port of an address.

    Raises:
        SourceError: It has none.
    """
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise SourceError(f"{url[:200]!r} is no web address: {error}", hint="Check it.") from error
