"""How an attempt ends: exactly one guarded write, made until PostgreSQL takes it, and what follows from it."""

from __future__ import annotations

import asyncio
import random
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from worker.storage.attempts import LeaseLost, complete_turn, fail_turn, give_back_turn, retry_turn
from worker.storage.backlog import Line
from worker.storage.database import DatabaseUnavailable
from worker.telemetry import names, observed, signals
from worker.telemetry.tracing import span
from worker.turns.completed_turn import completion_of, defect, described, new_events, reference
from worker.turns.lifecycle import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.conversation.event import TurnEvent
    from worker.engine.failures import TransientFailure
    from worker.engine.outcome import TurnOutcome
    from worker.errors import TurnWorkerError
    from worker.settings import Settings
    from worker.storage.claim import Attempt, ClaimedTurn
    from worker.storage.database import Database
    from worker.storage.outbox import RecordedEvent
    from worker.storage.usage import UsageEntry
    from worker.turns.dispatch import Dispatch, TurnReference
    from worker.turns.loading import LoadedTurn
    from worker.turns.usage_ledger import UsageLedger

    class _Write(Protocol):
        """One of the guarded writes of `worker.storage.attempts`, its particulars filled in."""

        async def __call__(
            self, connection: AsyncConnection, attempt: Attempt, *, usage: Sequence[UsageEntry]
        ) -> Sequence[RecordedEvent]: ...


log = structlog.get_logger(__name__)

_COMMIT_PAUSES_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)


class Ending(Enum):
    """How an execution ended; the value is what Celery's log and monitors show for the task."""

    NOT_CLAIMABLE = "not claimable"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    GIVEN_BACK = "given back"
    LEASE_LOST = "lease lost"
    CANCELLED = "cancelled"


class Endings:
    """Ends attempts. Each method makes the one write of its kind, then publishes and rings what follows from it.

    Args:
        is_stopping: Whether this worker is to end, so that it no longer waits for PostgreSQL to come back.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        dispatch: Dispatch,
        usage: UsageLedger,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._dispatch = dispatch
        self._usage = usage
        self._is_stopping = is_stopping
        self._retries = RetryPolicy(
            max_provider_failures=settings.max_provider_failures,
            base_seconds=settings.retry_base_seconds,
            max_seconds=settings.retry_max_seconds,
        )
        self._random = random.Random()  # noqa: S311 -- spreads retries out, protects nothing

    async def complete(self, loaded: LoadedTurn, outcome: TurnOutcome) -> Ending:
        """Commit what the turn came to. What cannot be stored fails it, since no other worker could store it either."""
        attempt = loaded.claimed.attempt
        completion = completion_of(loaded, outcome)
        # Only a turn that ends its session writes more than one statement.
        connect = self._database.transaction if completion.end_reason is not None else self._database.statement
        try:
            await self._commit(attempt, partial(complete_turn, completion=completion), connect=connect)
        except (LeaseLost, DatabaseUnavailable):
            raise
        except Exception as error:
            log.exception(names.TURN_DEFECT)
            return await self.fail(loaded.claimed, defect(error))
        log.info(names.TURN_COMPLETED, duration_seconds=round(outcome.usage.call_duration_seconds, 4))
        return Ending.COMPLETED

    async def fail(self, claimed: ClaimedTurn, error: TurnWorkerError, events: Iterable[TurnEvent] = ()) -> Ending:
        """Fail the turn for good, with the error's code and message and what happened before."""
        shown = described(error)
        before = new_events(claimed.attempt, events)
        observed.turn_failed(error.code, str(error))
        await self._commit(claimed.attempt, partial(fail_turn, error=shown, events=before))
        log.error(names.TURN_FAILED, code=shown["code"], error=shown["message"])
        return Ending.FAILED

    async def retry(self, claimed: ClaimedTurn, failure: TransientFailure, elapsed_seconds: float) -> Ending:
        """Let the turn wait for another attempt, or fail it when a budget is used up."""
        pause = self._retries.pause(
            failures=claimed.provider_failures + 1,
            retry_after_seconds=failure.retry_after_seconds,
            seconds_to_deadline=claimed.seconds_to_deadline - elapsed_seconds,
            random=self._random,
        )
        if pause is None:
            return await self.fail(claimed, failure, failure.events)
        shown = described(failure)
        observed.turn_failed(failure.code, str(failure))
        await self._commit(claimed.attempt, partial(retry_turn, error=shown, delay_seconds=pause))
        self._dispatch.look_later(Line(claimed.attempt.organization_id, claimed.attempt.session_id), pause)
        log.warning(names.TURN_RETRYING, code=shown["code"], error=shown["message"], delay_seconds=round(pause, 2))
        return Ending.RETRYING

    async def give_back(self, claimed: ClaimedTurn) -> Ending:
        """Hand the turn back, to be claimed by another worker at once; that counts against no budget."""
        await self._commit(claimed.attempt, give_back_turn, ring=[reference(claimed.attempt)])
        log.info(names.TURN_HANDED_BACK)
        return Ending.GIVEN_BACK

    async def _commit(
        self,
        attempt: Attempt,
        write: _Write,
        *,
        connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]] | None = None,
        ring: Sequence[TurnReference] = (),
    ) -> None:
        """Make the one guarded write that ends this attempt, then publish and ring what follows from it.

        While PostgreSQL is away the result is kept and tried again: the fence makes that safe. If a commit landed but its
        answer was lost, the next try finds the attempt over and ends as if the lease were lost; a sweep publishes and rings.
        """
        pauses = iter(_COMMIT_PAUSES_SECONDS)
        usage = self._usage.take(attempt)
        try:
            events = None
            with span(signals.SPAN_COMMIT, kind="client"):
                while events is None:
                    try:
                        async with (connect or self._database.statement)() as connection:
                            events = await write(connection, attempt, usage=usage)
                    except DatabaseUnavailable as error:
                        if self._is_stopping():
                            raise
                        log.warning(names.COMMIT_FAILED, error=str(error))
                        await asyncio.sleep(next(pauses, _COMMIT_PAUSES_SECONDS[-1]))
        except BaseException:
            # What was paid for is written in any case, fenced by nothing.
            self._usage.write(usage)
            raise
        self._dispatch.after_commit(events, ring)
