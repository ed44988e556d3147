"""Writes the steps of one attempt to PostgreSQL: those that are ready together in one commit, in their order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from worker.engine.journal import write_step
from worker.storage.attempts import LeaseLost
from worker.storage.database import DatabaseUnavailable
from worker.storage.journal import write_steps
from worker.telemetry import names
from worker.turns.fault_points import AFTER_JOURNAL_COMMIT, BEFORE_JOURNAL_COMMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import JsonValue

    from worker.engine.journal import Step
    from worker.storage.claim import Attempt
    from worker.storage.database import Database
    from worker.turns.fault_points import FaultPoint

log = structlog.get_logger(__name__)

_PAUSES_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
_FLUSH_SECONDS: Final = 5.0


class TurnJournal:
    """The journal of one attempt; this is the engine's `Journal`.

    While PostgreSQL is away, steps are kept and written again: whoever waits for them waits on, within the turn's limit.
    Once the turn is no longer this attempt's, nothing is written any more.
    """

    def __init__(
        self,
        database: Database,
        attempt: Attempt,
        *,
        steps: Sequence[Step],
        own: int,
        on_lost: Callable[[], None],
        fault_point: FaultPoint,
    ) -> None:
        """Prepare to write; nothing is written yet.

        Args:
            steps: What the turn goes on from.
            own: How many of them are in the turn's own journal: the others come from a turn that it carries over.
            on_lost: Told when the turn turns out to be no longer this attempt's.
            fault_point: See `worker.turns.fault_points`.
        """
        self.steps = steps
        self._database = database
        self._attempt = attempt
        self._on_lost = on_lost
        self._fault_point = fault_point
        self._count = own
        self._waiting: list[JsonValue] = []
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def record(self, step: Step) -> None:
        """Take note of a step, and have it written."""
        self._waiting.append(write_step(step))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())
            self._writing.add_done_callback(self._ended)

    async def written(self) -> None:
        """Wait until every step so far is committed.

        Raises:
            LeaseLost: when the turn is no longer this attempt's.
        """
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def flush(self) -> None:
        """Write what is left before the turn is handed on: the next attempt goes by it. Gives up after a while.

        Raises:
            LeaseLost: when the turn is no longer this attempt's.
        """
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_FLUSH_SECONDS)
            error = self._writing.exception() if self._writing.done() else None
            if isinstance(error, LeaseLost):
                raise error

    async def close(self) -> None:
        """Write nothing more: the turn itself is about to hold what came of it. Finishes what is under way."""
        self._waiting.clear()
        self._closing.set()
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def abandon(self) -> None:
        """Stop writing, whatever is left. Call it when the attempt is over."""
        self._closing.set()
        if self._writing is not None:
            self._writing.cancel()

    async def _write(self) -> None:
        pauses = iter(_PAUSES_SECONDS)
        while self._waiting:
            batch = list(self._waiting)
            try:
                await self._commit(batch)
            except DatabaseUnavailable as error:
                log.warning(names.JOURNAL_WRITE_FAILED, error=str(error), count=len(batch))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), next(pauses, _PAUSES_SECONDS[-1]))
            else:
                self._count += len(batch)
                del self._waiting[: len(batch)]

    async def _commit(self, batch: Sequence[JsonValue]) -> None:
        await self._fault_point(BEFORE_JOURNAL_COMMIT)
        async with self._database.statement() as connection:
            await write_steps(connection, self._attempt, after=self._count, steps=batch)
        await self._fault_point(AFTER_JOURNAL_COMMIT)

    def _ended(self, writing: asyncio.Task[None]) -> None:
        error = None if writing.cancelled() else writing.exception()
        if self._closing.is_set():
            return
        if isinstance(error, LeaseLost):
            self._on_lost()
        elif error is not None:  # whoever waits for it is told; a turn that needs no more tools ends without it
            log.error(names.JOURNAL_WRITE_FAILED, error=str(error), exc_info=error)
