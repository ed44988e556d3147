"""Writes down what LLM calls cost as they end, without making a turn wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from worker.errors import TurnWorkerError
from worker.storage.usage import UsageEntry, record_usage
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.engine.request import LLMCall
    from worker.storage.claim import Attempt
    from worker.storage.database import Database

log = structlog.get_logger(__name__)

# A turn whose last call has ended commits within a few milliseconds and takes its entry along, so that a plain turn
# costs no write of its own. A call that goes on to tools, or a commit that is late, is written without waiting for more.
_WRITE_DELAY_SECONDS = 0.02
_RETRY_SECONDS = 1.0


class UsageLedger:
    """The ledger of one process. `of` gives the engine the page of one attempt."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unwritten: list[UsageEntry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def of(self, attempt: Attempt) -> AttemptUsage:
        """Where the engine records the calls of this attempt."""
        return AttemptUsage(self, attempt)

    def add(self, entry: UsageEntry) -> None:
        """Take an entry and have it written in a moment."""
        self._unwritten.append(entry)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_DELAY_SECONDS, self._start_writing)

    def take(self, attempt: Attempt) -> list[UsageEntry]:
        """The attempt's entries that nobody has begun to write: the caller writes them in its own transaction."""
        mine = [entry for entry in self._unwritten if _belongs(entry, attempt)]
        self._unwritten = [entry for entry in self._unwritten if not _belongs(entry, attempt)]
        return mine

    def put_back(self, entries: Sequence[UsageEntry]) -> None:
        """Return entries whose transaction did not happen; they are written by themselves, fenced by nothing."""
        for entry in entries:
            self.add(entry)

    async def drain(self) -> None:
        """Write everything that is left."""
        self._start_writing()
        while self._writing:
            await asyncio.wait(self._writing)
        if self._timer is not None:
            self._timer.cancel()

    def _start_writing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._unwritten = self._unwritten, []
        if entries:
            task = asyncio.get_running_loop().create_task(self._write(entries))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write(self, entries: list[UsageEntry]) -> None:
        try:
            async with self._database.transaction() as connection:
                await record_usage(connection, entries)
        except TurnWorkerError as error:
            # Kept in memory until PostgreSQL is back; the entry's key makes writing it twice harmless.
            log.warning(names.USAGE_WRITE_FAILED, error=str(error), count=len(entries))
            self._unwritten.extend(entries)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._start_writing)


class AttemptUsage:
    """The page of one attempt; this is the engine's `UsageLedger`."""

    def __init__(self, ledger: UsageLedger, attempt: Attempt) -> None:
        self._ledger = ledger
        self._attempt = attempt

    def record(self, call: LLMCall) -> None:
        """Note that a call ended and what it used."""
        self._ledger.add(
            UsageEntry(
                organization_id=self._attempt.organization_id,
                turn_id=self._attempt.turn_id,
                attempt=self._attempt.attempt,
                call=call.number,
                processor=call.processor,
                model=call.model,
                prompt_tokens=call.usage.prompt_tokens,
                completion_tokens=call.usage.completion_tokens,
                total_tokens=call.usage.total_tokens,
                cache_read_input_tokens=call.usage.cache_read_input_tokens,
                cache_creation_input_tokens=call.usage.cache_creation_input_tokens,
            )
        )


def _belongs(entry: UsageEntry, attempt: Attempt) -> bool:
    return entry.turn_id == attempt.turn_id and entry.attempt == attempt.attempt
