"""Connections to public addresses only, judged by the very address that is connected to.

There is no moment between the judgement and the connection at which a name could come to lead elsewhere: the resolver's
answer is judged and used, and each socket's address is judged again as the socket is made, which also covers addresses
written out in a URL.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver

from worker.workflow.web_address import address_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import ResolveResult

    from worker.workflow.web_address import IPAddress

CONNECT_SECONDS: Final = 10.0
"""How long opening a connection may take."""

_KEEPALIVE_SECONDS: Final = 15.0
_DNS_CACHE_SECONDS: Final = 10


class NotPublic(OSError):
    """A connection that was not made. An `OSError`, because that is what aiohttp expects of resolvers and sockets.

    Attributes:
        why: What is known of the address.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def connector(
    *,
    public_only: bool,
    max_connections: int,
    resolver: AbstractResolver | None = None,
    judge: Callable[[IPAddress], str | None] = address_problem,
) -> aiohttp.TCPConnector:
    """Make a pool of connections, for use on the running event loop.

    Args:
        public_only: Whether it refuses addresses that are not public, or goes wherever names lead.
        max_connections: The most connections at once.
        resolver: Looks names up; the system's by default.
        judge: Says why an address is not public, or None if it is.
    """
    looking_up = resolver or aiohttp.ThreadedResolver()
    guard: dict[str, Any] = {"resolver": looking_up}
    if public_only:
        guard = {"resolver": _GuardedResolver(looking_up, judge), "socket_factory": _guarded_sockets(judge)}
    return aiohttp.TCPConnector(
        limit=max_connections, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=_DNS_CACHE_SECONDS, **guard
    )


class _GuardedResolver(AbstractResolver):
    """Refuses a name if any of its addresses is not public: no honest name has addresses of both kinds."""

    def __init__(self, resolver: AbstractResolver, judge: Callable[[IPAddress], str | None]) -> None:
        self._resolver = resolver
        self._judge = judge

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            _check(result["host"], self._judge)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _guarded_sockets(judge: Callable[[IPAddress], str | None]) -> Callable[[Any], socket.socket]:
    def make(address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = address_info
        _check(address[0], judge)
        return socket.socket(family, kind, protocol)

    return make


def _check(address: str, judge: Callable[[IPAddress], str | None]) -> None:
    why = judge(ip_address(address))
    if why is not None:
        raise NotPublic(why)
