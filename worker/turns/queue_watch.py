"""Looks at what waits in the whole system, for the metrics of the processes that collect any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from worker.errors import TurnWorkerError
from worker.storage.sweeps import waiting_turns
from worker.telemetry import names

if TYPE_CHECKING:
    from worker.storage.database import Database
    from worker.telemetry.telemetry import Telemetry

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 2.0


class QueueWatch:
    """Tells the metrics how many turns wait, and for how long."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._metrics = telemetry.metrics
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Look every now and then until cancelled; where nobody collects, return at once."""
        while self._metrics is not None:
            await self.look()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def look(self) -> None:
        """Look now. While PostgreSQL is away the metrics have no value, rather than an old one."""
        if self._metrics is None:
            return
        try:
            # One at a time, however many ask: anyone may ask an API for its metrics.
            async with asyncio.timeout(_PATIENCE_SECONDS), self._looking, self._database.statement() as connection:
                depth, age_seconds = await waiting_turns(connection)
        except (TurnWorkerError, TimeoutError) as error:
            self._metrics.queue_unseen()
            log.debug(names.QUEUE_UNSEEN, error=str(error))
        else:
            self._metrics.queue_seen(depth, age_seconds)
