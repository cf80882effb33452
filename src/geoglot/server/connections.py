"""Connections before a request: a deadline for headers, and a number for each address.

A connection that waits costs a socket and little else, so the oldest that waits makes room for a new one: who opens
thousands closes their own, and everybody else, `/health` included, is answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 10.0
"""Seconds that the headers of a request may take."""
EACH_ADDRESS = 100
"""Connections of one address; browsers open six to a server. Proxies may have as many as there are."""
ALL = 4_000
"""Connections in all."""


def site_of(address: str) -> str:
    """What counts as one visitor: an IPv4 address; of IPv6 the /64 network, which one household has to itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def is_among(address: str, proxies: Sequence[str]) -> bool:
    """Whether an address is one of these addresses and networks; "*" is all."""
    if "*" in proxies or address in proxies:
        return True
    try:
        ip = ipaddress.ip_address(address)
        return any(ip in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)
    except ValueError:  # a name, which is compared as it is
        return False


class Book:
    """The connections of a server, by who opened them, the oldest first.

    Args:
        proxies: Addresses and networks whose connections are only counted with all.
        each, most: How many one address, and all together, may have.
    """

    def __init__(self, proxies: Sequence[str] = (), each: int = EACH_ADDRESS, most: int = ALL) -> None:
        self._proxies, self._each, self._most = proxies, each, most
        self._open: defaultdict[str, dict[Guarded, None]] = defaultdict(dict)

    def enter(self, connection: Guarded, address: str) -> None:
        """Take one in; over a limit the oldest that waits is closed, or else the new one."""
        mine = self._open[site_of(address)]
        mine[connection] = None
        if len(mine) > self._each and not is_among(address, self._proxies):
            self._make_room(mine, connection)
        elif sum(map(len, self._open.values())) > self._most:
            self._make_room(max(self._open.values(), key=len), connection)

    def leave(self, connection: Guarded, address: str) -> None:
        """Forget one that is closed."""
        site = site_of(address)
        self._open[site].pop(connection, None)
        if not self._open[site]:
            del self._open[site]

    @staticmethod
    def _make_room(crowd: dict[Guarded, None], newest: Guarded) -> None:
        next((one for one in crowd if one.waits), newest).hang_up()


class Guarded(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for headers; `guarded` gives it a book."""

    book: Book
    headers_s: float = HEADERS_S
    _deadline: asyncio.TimerHandle | None = None
    _address = ""

    @property
    def waits(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def hang_up(self) -> None:
        """Close it now, whatever the other side does."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """See asyncio."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._start()
        self.book.enter(self, self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop()
        self.book.leave(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio. The deadline runs from the first byte of a request to the last of its headers."""
        if self._deadline is None and self.waits:
            self._start()
        super().data_received(data)
        if not self.waits:
            self._stop()

    def _start(self) -> None:
        self._deadline = self.loop.call_later(self.headers_s, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.waits:
            self.hang_up()


def guarded(book: Book, headers_s: float) -> type[asyncio.Protocol]:
    """The protocol of one server."""
    kind: Any = type("GuardedHere", (Guarded,), {"book": book, "headers_s": headers_s})
    return kind  # type: ignore[no-any-return]


def raise_file_limit() -> None:
    """Let the process have as many sockets as the system allows it. Windows has no such limit."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * ALL if hard == resource.RLIM_INFINITY else min(hard, 2 * ALL)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
