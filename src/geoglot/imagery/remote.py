"""Files on web servers, read within a `Reach`: the address that was checked is the one that is connected to.

Redirects are followed here, each checked like the first address. GDAL makes no requests of its own: it reads through
`remote_file`. A proxy that the environment names (`http_proxy`, `https_proxy`, `no_proxy`) is used as it is; what lies
behind it is the proxy's to decide.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import cache
from urllib.parse import quote, urljoin, urlsplit

from geoglot.errors import SourceError
from geoglot.imagery.reach import Reach, is_url, server_of

TIMEOUT_S = 20.0
"""Seconds of silence after which a server is given up."""
DOCUMENT_S = 120.0
"""Seconds that a whole answer may take."""
REDIRECTS = 5
DOCUMENT_BYTES = 64 * 2**20
PART_BYTES = 64 * 2**10
_REDIRECT = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server.

    Attributes:
        url: Where redirects ended.
        status: HTTP status.
        headers: As sent.
        body: The content; empty for HEAD.
    """

    url: str
    status: int
    headers: Message
    body: bytes


def ask(
    url: str,
    reach: Reach,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    most: int = DOCUMENT_BYTES,
    refused: Collection[int] = (),
) -> Answer:
    """One request, redirects followed.

    Args:
        url: Whom to ask for what.
        reach: Which servers may be asked.
        method: GET or HEAD.
        headers: What to send along.
        most: Bytes of an answer.
        refused: Statuses of 400 or more that are answers as well.

    Raises:
        OutOfReachError: It is, or leads, outside the reach.
        SourceError: No answer, another answer of 400 or more, a loop, or more than `most` bytes.
    """
    for _ in range(REDIRECTS + 1):
        with _exchange(url, reach, method, headers or {}) as response:
            if response.status not in _REDIRECT or not response.headers.get("Location"):
                if response.status >= 400 and response.status not in refused:
                    raise SourceError(f"{url!r} answers {response.status} {response.reason}", hint="Check the address.")
                return Answer(url, response.status, response.headers, _body(response, url, most))
            url = _target(url, response.headers["Location"])
    raise SourceError(f"{url!r} leads on and on", hint="Check the address.")


def _target(url: str, location: str) -> str:
    target = urljoin(url, quote(location, safe="%/:=&?~#+!$,;'@()*[]"))
    if not is_url(target):
        raise SourceError(f"{url!r} leads to {target!r}, which is no web address", hint="Check the address.")
    return target


def _body(response: http.client.HTTPResponse, url: str, most: int) -> bytes:
    """The content, as long as it comes within DOCUMENT_S."""
    parts, size, deadline = [], 0, time.monotonic() + DOCUMENT_S
    while part := response.read1(PART_BYTES):
        parts.append(part)
        size += len(part)
        if size > most:
            raise SourceError(f"{url!r} sends more than {most:,} bytes", hint="Check the address.")
        if time.monotonic() > deadline:
            raise SourceError(f"{url!r} takes more than {DOCUMENT_S:.0f} s to answer", hint="Try again later.")
    return b"".join(parts)


@contextmanager
def _exchange(url: str, reach: Reach, method: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
    """Send one request; whatever goes wrong on the network is a SourceError."""
    try:
        connection, target = connect(url, reach)
        try:
            connection.request(method, target, headers={"User-Agent": "geoglot", **headers})
            yield connection.getresponse()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(f"cannot reach {url!r}: {error}", hint="Check the address and the network.") from error


def connect(url: str, reach: Reach) -> tuple[http.client.HTTPConnection, str]:
    """An open connection to an address within reach, and what to ask it for.

    Raises:
        OutOfReachError: It lies outside.
        SourceError: The name is not known.
        OSError: It does not answer.
    """
    host, port = server_of(url)
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if (proxy := urllib.request.getproxies().get(parts.scheme)) and not urllib.request.proxy_bypass(host):
        return _through_proxy(proxy, host, port, secure), target if secure else url
    sock = _dial(reach.addresses(host, port))
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    connection.sock = _tls().wrap_socket(sock, server_hostname=host) if secure else sock
    connection.auto_open = 0  # it would look the name up again
    if secure:
        connection.default_port = 443  # for the Host header
    return connection, target


def _dial(addresses: list[tuple[int, tuple[str, int]]]) -> socket.socket:
    """The first address that answers."""
    trouble: OSError = OSError("it has no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_S)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            trouble = error
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise trouble


def _through_proxy(proxy: str, host: str, port: int, secure: bool) -> http.client.HTTPConnection:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S)
    if secure:
        connection.set_tunnel(host, port)
    return connection


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
