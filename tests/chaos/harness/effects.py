"""The world outside: a service that a tool of the agent calls, and that remembers what it was asked to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW_SECONDS = 1.5
"""How long an order takes whose name begins with `slow`: long enough to be caught in the middle."""


@dataclass
class Order:
    """What was ordered under one `Idempotency-Key`, and how often the request for it came."""

    name: str
    key: str
    requests: int = 1


@dataclass
class Effects:
    """Takes orders over HTTP. As services do that promise it, it acts once for each `Idempotency-Key`."""

    orders: dict[str, Order] = field(default_factory=dict)
    unkeyed: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/orders", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.host = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def repeated(self) -> int:
        """How many requests came again, with a key that was known: each is a call that was made twice and acted once."""
        return sum(order.requests - 1 for order in self.orders.values())

    def of(self, name: str) -> Iterator[Order]:
        """The orders of this name; more than one means that something was done twice."""
        return (order for order in self.orders.values() if order.name == name)

    async def _take(self, request: web.Request) -> web.Response:
        name = str((await request.json())["order"])
        key = request.headers.get("Idempotency-Key")
        if key is None:
            self.unkeyed.append(name)
            return web.json_response({"error": "no Idempotency-Key"}, status=400)
        if key in self.orders:
            self.orders[key].requests += 1
        else:
            self.orders[key] = Order(name, key)
        if name.startswith("slow"):
            await asyncio.sleep(SLOW_SECONDS)
        return web.json_response({"ordered": name})
