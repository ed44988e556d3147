"""The HTTP client for everything tenants configure: tools, fetches, webhooks."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from worker.engine.web.body import ACCEPTED_ENCODINGS, BodyTooLarge, BodyUnreadable, read_body
from worker.engine.web.errors import (
    AddressRefused,
    ConnectionFailed,
    InvalidWebRequest,
    RedirectRefused,
    ResponseTooLarge,
    ResponseUnreadable,
    WebTimeout,
)
from worker.engine.web.guard import CONNECT_SECONDS, NotPublic, connector
from worker.workflow.web_address import NO_HOSTS, AllowedHosts, address_problem, form_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.abc import AbstractResolver

    from worker.engine.web.errors import WebError
    from worker.workflow.web_address import IPAddress

MAX_REDIRECTS: Final = 5
"""How many redirects of one request are followed."""

MAX_CONNECTIONS: Final = 1000
"""Connections of one event loop to where tenants say."""

_CHUNK_BYTES: Final = 65_536
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEPING_METHOD: Final = frozenset({307, 308})
# What the client says itself; another Host, for one, would reach a host that was never judged.
_OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OF_THE_BODY: Final = frozenset({"content-type", "content-encoding", "content-language"})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_HEADER_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# All that follows a redirect to another origin: everything else may be a credential.
_HARMLESS: Final = frozenset({"accept", "content-type", "user-agent"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    """One request.

    Attributes:
        headers: Headers, credentials included. They go to the URL's own origin only.
        timeout_seconds: Limit of the whole, redirects and answer included.
        max_bytes: The most bytes of the answer, packed and unpacked.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_seconds: float = 10.0
    max_bytes: int = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class WebResponse:
    """The answer, whatever its status.

    Attributes:
        headers: Its headers, names in lower case; of a repeated one the last.
        body: Its body, unpacked. That of a redirect is not read.
        charset: The charset its Content-Type names, or UTF-8.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    charset: str = "utf-8"

    @property
    def redirects(self) -> bool:
        """Whether it leads somewhere else."""
        return self.status in _REDIRECTS and "location" in self.headers

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text; what is none is replaced."""
        try:
            return self.body.decode(self.charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")


class WebClient:
    """Makes requests, reusing connections. Belongs to the event loop it is used on; close it before that ends."""

    def __init__(
        self,
        *,
        resolver: AbstractResolver | None = None,
        judge: Callable[[IPAddress], str | None] = address_problem,
    ) -> None:
        """Begin without connections.

        Args:
            resolver: Looks names up; the system's by default.
            judge: Says why an address is not public, or None if it is.
        """
        self._resolver = resolver
        self._judge = judge
        # Connections to a host that one organization allows are never lent to another that does not: they are reached
        # through a session that only allowed hosts are sent to.
        self._public: aiohttp.ClientSession | None = None
        self._allowed: aiohttp.ClientSession | None = None

    async def send(self, request: WebRequest, allowed: AllowedHosts = NO_HOSTS) -> WebResponse:
        """Make a request and read the whole answer, following redirects.

        Args:
            request: The request.
            allowed: The hosts that may be reached although they lead to addresses that are not public.

        Raises:
            WebError: There is no answer, or none that may be used. An answer of any status is returned.
        """
        hop = _Hop(request.method.upper(), _url(request.url), _checked(request.headers), request.body)
        try:
            async with asyncio.timeout(request.timeout_seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    response = await self._exchange(hop, allowed, request.max_bytes)
                    if not response.redirects:
                        return response
                    hop = hop.redirected(response.status, response.headers["location"])
        except TimeoutError:
            raise WebTimeout(origin(hop.url), request.timeout_seconds) from None
        raise RedirectRefused(origin(hop.url), f"there were more than {MAX_REDIRECTS} in a row")

    def session(self, url: URL, allowed: AllowedHosts) -> aiohttp.ClientSession:
        """The session by which a URL may be reached: the guarded one, unless its host is allowed."""
        if url.host and url.port and allowed.permits(url.host, url.port):
            self._allowed = self._allowed or self._open(public_only=False)
            return self._allowed
        self._public = self._public or self._open(public_only=True)
        return self._public

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._public, self._allowed):
            if session is not None:
                await session.close()

    def _open(self, *, public_only: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector(
                public_only=public_only, max_connections=MAX_CONNECTIONS, resolver=self._resolver, judge=self._judge
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # unpacked within a limit here
            trust_env=False,  # a proxy would connect in our place, unguarded
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers={"User-Agent": "turn-worker", "Accept-Encoding": ACCEPTED_ENCODINGS},
        )

    async def _exchange(self, hop: _Hop, allowed: AllowedHosts, max_bytes: int) -> WebResponse:
        try:
            async with self.session(hop.url, allowed).request(
                hop.method, hop.url, headers=hop.headers, data=hop.body, allow_redirects=False
            ) as answer:
                response = WebResponse(
                    status=answer.status,
                    headers={name.lower(): value for name, value in answer.headers.items()},
                    charset=answer.charset or "utf-8",
                )
                if response.redirects:
                    return response
                encoding = response.headers.get("content-encoding", "")
                body = await read_body(answer.content.iter_chunked(_CHUNK_BYTES), encoding, max_bytes)
                return replace(response, body=body)
        except BodyTooLarge:
            raise ResponseTooLarge(origin(hop.url), max_bytes) from None
        except BodyUnreadable as error:
            raise ResponseUnreadable(origin(hop.url), str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise web_error(error, hop.url) from error


@dataclass(frozen=True, slots=True)
class _Hop:
    """One step of a request on its way through redirects."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None

    def redirected(self, status: int, location: str) -> _Hop:
        """What follows a redirect, as browsers do it; to another origin go no header that may be a credential."""
        target = self._target(location)
        hop = replace(self, url=target)
        if status not in _KEEPING_METHOD and self.method not in {"GET", "HEAD"}:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_BODY}
            hop = replace(hop, method="GET", body=None, headers=headers)
        if target.origin() != self.url.origin():
            harmless = {name: value for name, value in hop.headers.items() if name.lower() in _HARMLESS}
            hop = replace(hop, headers=harmless)
        return hop

    def _target(self, location: str) -> URL:
        try:
            target = self.url.join(URL(location))
            problem = form_problem(str(target))
        except ValueError:
            problem = "It is not a URL."
        if problem is not None:
            raise RedirectRefused(origin(self.url), f"its Location cannot be used. {problem}")
        if self.url.scheme == "https" and target.scheme == "http":
            raise RedirectRefused(origin(self.url), "it leads from https to http")
        return target


def origin(url: URL) -> str:
    """What messages may show of a URL: its scheme, host and port."""
    return str(url.origin())


def web_error(error: Exception, url: URL) -> WebError:
    """What an exception of aiohttp means."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, NotPublic):
        return AddressRefused(url.host or "", cause.why)
    if isinstance(error, ValueError):  # aiohttp.InvalidURL is one
        return InvalidWebRequest("its URL or one of its headers holds what HTTP cannot carry")
    not_sent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return ConnectionFailed(origin(url), _reason(error), sent=not not_sent)


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            reason = "its name cannot be resolved"
        case aiohttp.ClientSSLError():
            reason = "TLS failed, as with a certificate that is not trusted"
        case aiohttp.ConnectionTimeoutError():
            reason = f"no connection within {CONNECT_SECONDS:g} seconds"
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.os_error.errno).lower() if error.os_error.errno else "no connection can be made"
        case aiohttp.ClientResponseError():
            reason = "its answer is not valid HTTP"
        case _:
            reason = "the connection broke before the answer was complete"
    return reason


def _url(text: str) -> URL:
    problem = form_problem(text)
    if problem is None:
        try:
            return URL(text)
        except ValueError:
            problem = "It is not a URL."
    raise InvalidWebRequest(f"its URL cannot be used. {problem}")


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    if taken := sorted(name for name in headers if name.lower() in _OWN_HEADERS):
        raise InvalidWebRequest(f"{', '.join(taken)} cannot be set, the client does that itself")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _NO_HEADER_VALUE.search(value):
            raise InvalidWebRequest(f"the header {name[:40]!r} holds what HTTP cannot carry, such as a line break")
    return headers
