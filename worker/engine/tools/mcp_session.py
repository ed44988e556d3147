"""One connection to one MCP server. Loads the MCP SDK, which takes a second: import it late, and in a thread."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from worker.engine.web.transport import GuardedTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.types import CallToolResult, RequestParamsMeta, Tool

    from worker.engine.web.client import WebClient
    from worker.workflow.web_address import AllowedHosts

MAX_TOOLS: Final = 256
"""How many tools of one server are read."""

_MAX_ANSWER_BYTES: Final = 4_194_304
_CLOSING_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a server is and how it is spoken to. Two that are equal have the same tools.

    Attributes:
        headers: The credential's headers.
    """

    url: str
    transport: str
    headers: tuple[tuple[str, str], ...]
    allowed: AllowedHosts
    timeout_seconds: float


class McpSession:
    """A session with a server, kept by a task of its own: the SDK wants to be left by the task that entered it."""

    def __init__(self, address: ServerAddress, web: WebClient) -> None:
        """Begin to connect."""
        loop = asyncio.get_running_loop()
        self._client: asyncio.Future[Client] = loop.create_future()
        self._closing = asyncio.Event()
        self._task = loop.create_task(self._live(address, web))

    async def tools(self) -> list[Tool]:
        """List the server's tools, page by page."""
        client = await asyncio.shield(self._client)
        found: list[Tool] = []
        cursor: str | None = None
        while True:
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor or len(found) >= MAX_TOOLS:
                return found[:MAX_TOOLS]

    async def call(self, name: str, arguments: Mapping[str, Any], idempotency_key: str) -> CallToolResult:
        """Call a tool. The key goes along as `idempotencyKey` in the request's metadata."""
        client = await asyncio.shield(self._client)
        meta = cast("RequestParamsMeta", {"idempotencyKey": idempotency_key})
        return await client.call_tool(name, dict(arguments), meta=meta)

    @property
    def usable(self) -> bool:
        """Whether the session is open, or still opening."""
        return not self._task.done()

    async def close(self) -> None:
        """End the session, and leave nothing running whatever the server does."""
        self._closing.set()
        await asyncio.wait({self._task}, timeout=_CLOSING_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _live(self, address: ServerAddress, web: WebClient) -> None:
        try:
            async with AsyncExitStack() as stack:
                transport = _transport(address, web)
                client = Client(transport, read_timeout_seconds=address.timeout_seconds, cache=None)
                await stack.enter_async_context(client)
                self._client.set_result(client)
                await self._closing.wait()
        except BaseException as error:
            if not self._client.done():
                self._client.set_exception(error if isinstance(error, Exception) else ConnectionAbortedError())
                self._client.exception()  # seen: whoever waits for it may be gone
            if not isinstance(error, Exception):
                raise


def _transport(address: ServerAddress, web: WebClient) -> AbstractAsyncContextManager[Any]:
    if address.transport == "sse":
        return sse_client(
            address.url,
            headers=dict(address.headers),
            timeout=address.timeout_seconds,
            httpx_client_factory=lambda headers=None, timeout=None, auth=None: _http_client(
                address, web, headers=headers, timeout=timeout, auth=auth
            ),
        )
    return _streamable(address, web)


@asynccontextmanager
async def _streamable(address: ServerAddress, web: WebClient) -> AsyncIterator[Any]:
    timeout = httpx2.Timeout(address.timeout_seconds)
    async with (
        _http_client(address, web, headers=dict(address.headers), timeout=timeout) as http,
        streamable_http_client(address.url, http_client=http, max_sse_event_size=_MAX_ANSWER_BYTES) as streams,
    ):
        yield streams


def _http_client(address: ServerAddress, web: WebClient, **options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=GuardedTransport(web, address.allowed, max_bytes=_MAX_ANSWER_BYTES), trust_env=False, **options
    )
