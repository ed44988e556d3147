"""Events to publish, a log to wait on, and an operator to look and to interfere."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import redis
import structlog

from worker.channel.envelope import Envelope

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

ORGANIZATION = uuid4()


def new_session(*, turns: int = 1, organization_id: UUID = ORGANIZATION) -> list[Envelope]:
    """Events 1, 2, ... of a new session: one for each of its turns."""
    session_id, now = uuid4(), datetime.now(UTC)
    return [
        Envelope(organization_id, session_id, uuid4(), sequence, "turn.completed", now, "completed", sequence)
        for sequence in range(1, turns + 1)
    ]


class Log:
    """A last structlog processor that keeps the lines, so that a test can wait for one."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._grown = asyncio.Event()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        self.lines.append(dict(event))
        self._grown.set()
        raise structlog.DropEvent

    def named(self, name: str) -> list[dict[str, Any]]:
        """The lines of this name so far."""
        return [line for line in self.lines if line["event"] == name]

    async def wait_for(self, name: str) -> dict[str, Any]:
        """The first line of this name, as soon as there is one."""
        while not self.named(name):
            self._grown.clear()
            await self._grown.wait()
        return self.named(name)[0]


class Operator:
    """Somebody with a connection to the server and the right to do anything."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, client_name="operator")

    def close(self) -> None:
        """Go."""
        self._client.close()

    def calls(self, command: str) -> int:
        """How often the server has carried out a command since it was started."""
        return int(self._info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

    def reads(self) -> int:
        """How often the server has read from any connection."""
        return int(self._info("stats")["total_reads_processed"])

    def connections(self) -> list[str]:
        """The names of the others' connections."""
        clients: Any = self._client.client_list()
        return [client["name"] for client in clients if client["name"] != "operator"]

    def kill_connections(self) -> int:
        """Cut the others' connections; how many there were."""
        normal: Any = self._client.client_kill_filter(_type="normal", skipme=True)
        following: Any = self._client.client_kill_filter(_type="pubsub")
        return int(normal) + int(following)

    def _info(self, section: str) -> dict[str, Any]:
        info: Any = self._client.info(section)
        return dict(info)
