"""The guarded client under an SDK that speaks through httpx2, such as those of LLM providers and of MCP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
import httpx2
from yarl import URL

from worker.engine.web.client import origin, web_error
from worker.engine.web.errors import ResponseTooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.engine.web.client import WebClient
    from worker.engine.web.errors import WebError
    from worker.workflow.web_address import AllowedHosts

_OWN_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Reaches public addresses, and the hosts that are allowed. An httpx2 client over it follows no proxy.

    What is refused or fails is raised as httpx2's errors, each caused by a `WebError`.
    """

    def __init__(
        self, client: WebClient, allowed: AllowedHosts, *, owns_client: bool = False, max_bytes: int | None = None
    ) -> None:
        """Send over a client.

        Args:
            owns_client: Whether the client is closed with the transport.
            max_bytes: The most bytes of one answer; None for no limit, where whoever reads has one.
        """
        self._client = client
        self._allowed = allowed
        self._owns_client = owns_client
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make one request; redirects are whoever's who asked for it, and come through here again."""
        url = URL(str(request.url), encoded=True)
        timeout = request.extensions.get("timeout", {})
        body = await request.aread()
        try:
            answer = await self._client.session(url, self._allowed).request(
                request.method,
                url,
                headers=[(name, value) for name, value in request.headers.multi_items() if name not in _OWN_HEADERS],
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=timeout.get("connect"), sock_read=timeout.get("read")
                ),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translated(error, url) from web_error(error, url)
        return httpx2.Response(
            answer.status,
            headers=answer.raw_headers,
            stream=_AnswerStream(answer, url, self._max_bytes),
            request=request,
        )

    async def aclose(self) -> None:
        """Close the client, if it is the transport's own."""
        if self._owns_client:
            await self._client.close()


class _AnswerStream(httpx2.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse, url: URL, max_bytes: int | None) -> None:
        self._answer = answer
        self._url = url
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        arrived = 0
        try:
            async for chunk in self._answer.content.iter_any():
                arrived += len(chunk)
                if self._max_bytes is not None and arrived > self._max_bytes:
                    raise _refused(ResponseTooLarge(origin(self._url), self._max_bytes))
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, self._url) from web_error(error, self._url)

    async def aclose(self) -> None:
        self._answer.close()


def _refused(error: WebError) -> httpx2.ReadError:
    refused = httpx2.ReadError(str(error))
    refused.__cause__ = error
    return refused


def _translated(error: Exception, url: URL) -> httpx2.TransportError:
    message = str(web_error(error, url))
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx2.ConnectTimeout(message)
        case aiohttp.SocketTimeoutError():
            return httpx2.ReadTimeout(message)
        case aiohttp.ClientConnectorError() | ValueError():
            return httpx2.ConnectError(message)
    return httpx2.ReadError(message)
