"""A TCP proxy that breaks connections, so that what was sent may have arrived and what was answered may be lost."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType


class CuttingProxy:
    """Passes bytes on between its callers and a server, until told to cut.

    Attributes:
        answers_to_lose: So many of the next answers are cut off before their first byte; their requests arrive.
        connections: How many were made through it.
        flowing: While it is not set, bytes are held back: the server is there and says nothing.
        delay_seconds: How long whatever is sent stands still on its way.
    """

    def __init__(self, target_url: str) -> None:
        self._target = urlsplit(target_url)
        self._open: set[asyncio.StreamWriter] = set()
        self.answers_to_lose = 0
        self.connections = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.delay_seconds = 0.0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        credentials, at, _ = self._target.netloc.rpartition("@")
        self.url = urlunsplit(self._target._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection there is."""
        for writer in self._open:
            writer.transport.abort()

    def end(self) -> None:
        """End every connection there is before the event loop goes on."""
        for writer in self._open:
            writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:  # the server is away, and so is the proxy
            writer.transport.abort()
            return
        self._open |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._pass_on(reader, server_writer, answers=False), self._pass_on(server_reader, writer, answers=True)
            )
        finally:
            self._open -= {writer, server_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if answers and self.answers_to_lose:
                    self.answers_to_lose -= 1
                    break
                await self.flowing.wait()
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
