"""Writes down what LLM calls cost as they end, without making a turn wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import structlog

from worker.errors import TurnWorkerError
from worker.storage.usage import UsageEntry, record_usage
from worker.telemetry import names
from worker.turns.completed_turn import storable_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from worker.engine.request import LLMCall
    from worker.storage.claim import Attempt
    from worker.storage.database import Database

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0
_LARGEST_COUNT: Final = 2**31 - 1


class UsageLedger:
    """The ledger of one process. `of` gives the engine the page of one attempt.

    The usage of a call after which the turn goes on is written at once. That of the last one is kept for the statement that ends
    the attempt, which follows within milliseconds, so that a plain turn costs no write of its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[tuple[UUID, int], list[UsageEntry]] = {}
        self._to_write: list[UsageEntry] = []
        self._writing: asyncio.Task[None] | None = None
        self._draining = False

    def of(self, attempt: Attempt) -> AttemptUsage:
        """Where the engine records the calls of this attempt."""
        return AttemptUsage(self, attempt)

    def keep(self, entry: UsageEntry) -> None:
        """Hold an entry for the end of its attempt."""
        self._kept.setdefault((entry.turn_id, entry.attempt), []).append(entry)

    def take(self, attempt: Attempt) -> list[UsageEntry]:
        """The entries kept for the end of this attempt: the caller writes them now."""
        return self._kept.pop((attempt.turn_id, attempt.attempt), [])

    def write(self, entries: Sequence[UsageEntry]) -> None:
        """Have entries written by themselves, fenced by nothing. Returns at once."""
        self._to_write += entries
        if self._to_write and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def drain(self) -> None:
        """Write everything that is left; what PostgreSQL does not take now is lost."""
        self._draining = True
        for entries in self._kept.values():
            self.write(entries)
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        try:
            while self._to_write:
                entries, self._to_write = self._to_write, []
                try:
                    await self._record(entries)
                except TurnWorkerError as error:
                    log.warning(names.USAGE_WRITE_FAILED, error=str(error), count=len(entries))
                    if self._draining:
                        break
                    # The entries' key makes writing one twice harmless.
                    self._to_write += entries
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._writing = None

    async def _record(self, entries: Sequence[UsageEntry]) -> None:
        try:
            async with self._database.statement() as connection:
                await record_usage(connection, entries)
        except TurnWorkerError:
            raise
        except Exception:  # an entry that cannot be stored may not keep those of all others out of the books
            if len(entries) == 1:
                log.exception(names.USAGE_ENTRY_DROPPED, **asdict(entries[0]))
                return
            for entry in entries:
                await self._record([entry])


class AttemptUsage:
    """The page of one attempt; this is the engine's `UsageLedger`."""

    def __init__(self, ledger: UsageLedger, attempt: Attempt) -> None:
        self._ledger = ledger
        self._attempt = attempt

    def record(self, call: LLMCall) -> None:
        """Note that a call ended and what it used."""
        entry = UsageEntry(
            organization_id=self._attempt.organization_id,
            turn_id=self._attempt.turn_id,
            attempt=self._attempt.attempt,
            call=call.number,
            processor=call.processor,
            model=storable_text(call.model),
            prompt_tokens=_storable_count(call.usage.prompt_tokens),
            completion_tokens=_storable_count(call.usage.completion_tokens),
            total_tokens=_storable_count(call.usage.total_tokens),
            cache_read_input_tokens=_storable_count(call.usage.cache_read_input_tokens),
            cache_creation_input_tokens=_storable_count(call.usage.cache_creation_input_tokens),
            purpose=call.purpose,
        )
        if call.turn_goes_on:
            self._ledger.write([entry])
        else:
            self._ledger.keep(entry)


def _storable_count(reported: int) -> int:
    # Whoever runs the server that a tenant named may report anything.
    return max(0, min(reported, _LARGEST_COUNT))
