"""The API on a socket: uvicorn, configured for it, in the event loop of whoever runs it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

from api_stub.app import create_app
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Generator

    from fastapi import FastAPI

    from api_stub.services import Services
    from worker.settings import Settings
    from worker.turns.dispatch import Doorbell

_BACKLOG: Final = 2048
# Longer than load balancers keep idle connections, so that it is never the API that closes one just being used again.
_KEEP_ALIVE_SECONDS: Final = 75


class AddressUnavailable(TurnWorkerError):
    """The API cannot listen where it was told to."""

    code = "address_unavailable"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host = host
        self.port = port
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"The API cannot listen on {self.host}:{self.port}: {self.reason}. "
            "Choose another address with TURN_WORKER_HOST and TURN_WORKER_PORT; port 0 takes a free one."
        )


class ApiServer:
    """The API, listening. Signals are its owner's business: call `stop` when one comes."""

    def __init__(self, settings: Settings, doorbell: Doorbell | None = None) -> None:
        """Take the address; requests are answered once it runs.

        Raises:
            AddressUnavailable: when something else listens there, or there is no such address.
            InvalidSettings: when the settings name no PostgreSQL or no Redis.
        """
        self.app = create_app(settings, doorbell)
        self._socket = _listen(settings.host, settings.port)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.started = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                self.app,
                lifespan="on",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=round(settings.shutdown_grace_seconds),
            ),
            self.app,
            self.started,
        )

    async def run(self) -> None:
        """Answer requests until `stop`, then finish those that are open, for as long as the settings allow."""
        try:
            await self._server.serve([self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Let `run` come to its end. Waits and streams end at once."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI, started: asyncio.Event) -> None:
        super().__init__(config)
        self._app = app
        self._started = started

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn waits for open requests before the app hears of the end; those that wait for news would hold it up.
        services: Services = self._app.state.services
        await services.subscriber.close()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise AddressUnavailable(host, port, error.strerror or str(error)) from error
