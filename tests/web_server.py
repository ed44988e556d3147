"""A real HTTP server whose answers a test writes, on the test's own event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class WebServer:
    """Answers each request by the handler of its path, and remembers it."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, path: str, *answers: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer a path with these values as JSON, bytes or text, one after another and the last for ever."""
        left = list(answers or [None])

        async def handle(_: web.Request) -> web.StreamResponse:
            value = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(value, web.StreamResponse):
                return value
            if isinstance(value, bytes):
                return web.Response(body=value, status=status, headers=headers)
            if isinstance(value, str):
                return web.Response(text=value, status=status, headers=headers)
            return web.json_response(value, status=status, headers=headers)

        self.handlers[path] = handle

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.received.append(Received(request.method, request.path, dict(request.query), dict(request.headers), body))
        self.arrived.set()
        handler = self.handlers.get(request.path)
        return web.Response(status=404) if handler is None else await handler(request)


@asynccontextmanager
async def web_server() -> AsyncIterator[WebServer]:
    server = WebServer()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
