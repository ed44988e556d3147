"""Runs one turn: claim, load, engine, commit, publish."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import structlog
from structlog.contextvars import bound_contextvars

from worker.engine.failures import TransientFailure, TurnFailed
from worker.engine.turn import run_turn
from worker.errors import TurnWorkerError
from worker.storage.attempts import LeaseLost
from worker.storage.claim import ClaimedTurn, RunningSlotTaken, claim_turn
from worker.storage.database import Database, DatabaseUnavailable
from worker.telemetry import names
from worker.telemetry.telemetry import Telemetry
from worker.telemetry.tracing import TracedTurn
from worker.turns.completed_turn import defect
from worker.turns.endings import Ending, Endings
from worker.turns.fault_points import no_fault
from worker.turns.journal import TurnJournal
from worker.turns.lease import LeaseKeeper, Loss
from worker.turns.loading import LoadedTurn, TurnLoader
from worker.turns.organization_traces import OrganizationTraces
from worker.turns.pre_call_fetch import fetch_before_opening, is_first_opening
from worker.turns.suspects import Suspects
from worker.turns.usage_ledger import UsageLedger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from worker.channel.text_stream import TextStream, TextStreams
    from worker.engine.llm.clients import ProviderClients
    from worker.engine.outcome import TurnOutcome
    from worker.engine.web.client import WebClient
    from worker.settings import Settings
    from worker.storage.claim import Attempt
    from worker.turns.dispatch import Dispatch, TurnReference
    from worker.turns.fault_points import FaultPoint

log = structlog.get_logger(__name__)

_FINAL: Final = frozenset({Ending.COMPLETED, Ending.FAILED, Ending.CANCELLED})


class WorkerLost(TurnWorkerError):
    """The turn lost its worker too often."""

    code = "worker_lost"

    def __init__(self, losses: int) -> None:
        super().__init__(losses)
        self.losses = losses

    def __str__(self) -> str:
        return (
            f"{self.losses} workers died or stopped answering while they ran this turn, so it is not tried again. "
            "Look in the logs of the workers for why, then enqueue the message anew."
        )


class DeadlineExceeded(TurnWorkerError):
    """The turn's total time is over."""

    code = "deadline_exceeded"
    retryable = True

    def __init__(self, last_error: str | None) -> None:
        super().__init__(last_error)
        self.last_error = last_error

    def __str__(self) -> str:
        last = f" Its last attempt failed: {self.last_error}" if self.last_error else ""
        return f"The turn did not finish within its total time (TURN_WORKER_TURN_DEADLINE_SECONDS).{last}"


class _Stop(Enum):
    LEASE_LOST = "lease lost"
    CANCELLED = "cancelled"
    WORKER_STOPPING = "worker stopping"


@dataclass(eq=False, slots=True)
class _RunningAttempt:
    """The engine at work on one attempt, the journal and the text of it, and why it was stopped, if it was."""

    turn_id: UUID
    task: asyncio.Task[tuple[LoadedTurn, TurnOutcome]] | None = None
    journal: TurnJournal | None = None
    text: TextStream | None = None
    stopped: _Stop | None = None

    def begin(self, task: asyncio.Task[tuple[LoadedTurn, TurnOutcome]]) -> None:
        self.task = task
        if self.stopped is not None:
            task.cancel()

    def stop(self, reason: _Stop) -> None:
        # Once only: to be cancelled again would break off the tidying up after the first time.
        if self.stopped is None:
            self.stopped = reason
            if self.task is not None:
                self.task.cancel()

    def let_go(self) -> None:
        """Give up the conversation, which the task came to; until then it would stay until garbage is collected."""
        self.task = self.journal = None

    def lose(self, loss: Loss) -> None:
        self.stop(_Stop.CANCELLED if loss is Loss.CANCELLED else _Stop.LEASE_LOST)


class TurnExecutor:
    """Takes turns from claim to commit, many at once on one event loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        dispatch: Dispatch,
        leases: LeaseKeeper,
        clients: ProviderClients,
        web: WebClient,
        worker_name: str,
        texts: TextStreams | None = None,
        fault_point: FaultPoint = no_fault,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Wire it up.

        Args:
            clients: The SDK clients of the LLM providers.
            web: The client for what tenants configure, such as HTTP tools.
            worker_name: Which process this is; stored with each turn it claims, for people to read.
            texts: Where text goes while it is generated; None for nowhere.
            fault_point: Where tests interfere; see `worker.turns.fault_points`.
            telemetry: Where spans and metrics go; None for nowhere.
        """
        self._telemetry = telemetry or Telemetry()
        self._traces = OrganizationTraces(settings, database, self._telemetry)
        self._settings = settings
        self._database = database
        self._dispatch = dispatch
        self._leases = leases
        self._clients = clients
        self._worker_name = worker_name
        self._texts = texts
        self._fault_point = fault_point
        self._loader = TurnLoader(settings, database, web)
        self._usage = UsageLedger(database)
        self._endings = Endings(settings, database, dispatch, self._usage, lambda: self._stopping)
        self._suspects = Suspects(settings.max_worker_losses)
        self._running: set[_RunningAttempt] = set()
        self._stopping = False

    async def execute(self, turn: TurnReference) -> Ending:
        """Run the turn if it can be claimed. What goes wrong with the turn is its result, not an exception.

        Raises:
            DatabaseUnavailable: when the claim, or while this worker stops the commit, could not be made. The turn stays as
                it is in PostgreSQL; a sweep rings for it, once its lease has expired if it has one.
        """
        started_ns = time.time_ns()
        claimed = None if self._stopping else await self._claim(turn)
        if claimed is None:
            return Ending.NOT_CLAIMABLE
        with self._holding(claimed.attempt) as running:
            return await self._observed(claimed, running, turn, started_ns)

    async def _observed(
        self, claimed: ClaimedTurn, running: _RunningAttempt, turn: TurnReference, started_ns: int
    ) -> Ending:
        attempt = claimed.attempt
        traces = await self._traces.of(attempt.organization_id, claimed.organization_settings)
        with (
            bound_contextvars(
                organization_id=str(attempt.organization_id),
                session_id=str(attempt.session_id),
                turn_id=str(attempt.turn_id),
                attempt=attempt.attempt,
            ),
            self._telemetry.turn(
                _traced(claimed),
                traces=traces,
                started_ns=started_ns,
                waited_seconds=claimed.waited_seconds,
                callers={"caller": claimed.trace_context, "ring": turn.trace_context},
            ) as observing,
        ):
            log.info(names.TURN_CLAIMED)
            self._dispatch.after_commit(claimed.events)
            with self._suspects.watching(claimed.worker_losses) as may_run:
                ending = await self._run(claimed, running) if may_run else await self._leave_to_others(claimed)
            observing.ended(ending.name.lower())
            return ending

    def give_back(self) -> None:
        """Stop what runs and hand each turn back, to be run by another worker; claim nothing more."""
        self._stopping = True
        for running in self._running:
            running.stop(_Stop.WORKER_STOPPING)

    def stop(self, turn_id: UUID) -> None:
        """Stop a turn that was cancelled, if it runs here. Nothing it might still write would be accepted."""
        for running in self._running:
            if running.turn_id == turn_id:
                running.stop(_Stop.CANCELLED)

    async def drain(self) -> None:
        """Write what is still in memory. Call it when nothing runs any more."""
        await self._usage.drain()
        await self._loader.close()
        await self._traces.close()

    @property
    def running(self) -> int:
        """How many turns are running in this process."""
        return len(self._running)

    async def _claim(self, turn: TurnReference) -> ClaimedTurn | None:
        while True:
            try:
                async with self._database.statement() as connection:
                    return await claim_turn(
                        connection,
                        organization_id=turn.organization_id,
                        turn_id=turn.turn_id,
                        claimed_by=self._worker_name,
                        lease_seconds=self._settings.lease_seconds,
                        deadline_seconds=self._settings.turn_deadline_seconds,
                        refuse_losses=self._suspects.refused_losses,
                    )
            except RunningSlotTaken:  # another claim succeeded, so there is one free slot less, and an end to this
                continue

    @contextmanager
    def _holding(self, attempt: Attempt) -> Iterator[_RunningAttempt]:
        """Keep the lease of an attempt, and let the attempt be stopped, while the block runs."""
        running = _RunningAttempt(attempt.turn_id)
        self._running.add(running)
        if self._stopping:  # since the claim was made
            running.stop(_Stop.WORKER_STOPPING)
        try:
            with self._leases.hold(attempt, running.lose):
                yield running
        finally:
            self._running.discard(running)

    async def _leave_to_others(self, claimed: ClaimedTurn) -> Ending:
        try:
            return await self._endings.give_back(claimed)
        except LeaseLost:
            return Ending.LEASE_LOST

    async def _run(self, claimed: ClaimedTurn, running: _RunningAttempt) -> Ending:
        claimed_at = time.monotonic()
        if self._texts is not None:
            running.text = self._texts.of(
                claimed.attempt.organization_id, claimed.attempt.turn_id, claimed.attempt.attempt
            )
        ending = None
        task = asyncio.get_running_loop().create_task(self._load_and_run(claimed, running))
        running.begin(task)
        try:
            (result,) = await asyncio.gather(task, return_exceptions=True)
            await self._end_journal(running, completed=isinstance(result, tuple))
            ending = await self._end(claimed, result, running.stopped, time.monotonic() - claimed_at)
        except LeaseLost:
            if running.stopped is _Stop.CANCELLED:
                log.info(names.TURN_CANCELLED)
                return Ending.CANCELLED
            log.warning(names.TURN_WRITE_REFUSED)
            return Ending.LEASE_LOST
        else:
            return ending
        finally:
            if running.journal is not None:
                running.journal.abandon()
            if running.text is not None:
                running.text.end(final=ending in _FINAL)
            running.let_go()
            self._usage.write(self._usage.take(claimed.attempt))

    async def _end_journal(self, running: _RunningAttempt, *, completed: bool) -> None:
        if running.journal is None or running.stopped in {_Stop.LEASE_LOST, _Stop.CANCELLED}:
            return
        if completed:
            await running.journal.close()
        else:
            await running.journal.flush()

    async def _end(
        self,
        claimed: ClaimedTurn,
        result: tuple[LoadedTurn, TurnOutcome] | BaseException,
        stopped: _Stop | None,
        elapsed_seconds: float,
    ) -> Ending:
        match result:
            case (loaded, outcome):
                ending = await self._endings.complete(loaded, outcome)
            case asyncio.CancelledError() if stopped is _Stop.LEASE_LOST:
                ending = Ending.LEASE_LOST
            case asyncio.CancelledError() if stopped is _Stop.CANCELLED:
                log.info(names.TURN_CANCELLED)
                ending = Ending.CANCELLED
            case asyncio.CancelledError():
                ending = await self._endings.give_back(claimed)
            case LeaseLost() as lost:
                raise lost
            case TransientFailure() as failure:
                ending = await self._endings.retry(claimed, failure, elapsed_seconds)
            case TurnFailed() as failure:
                ending = await self._endings.fail(claimed, failure, failure.events)
            case DatabaseUnavailable() as error:
                log.warning(names.TURN_NOT_LOADED, error=str(error))
                ending = await self._endings.give_back(claimed)
            case TurnWorkerError() as error:
                ending = await self._endings.fail(claimed, error)
            case error:  # a defect of ours must end the turn, not take it through every worker
                log.error(names.TURN_DEFECT, exc_info=error)
                ending = await self._endings.fail(claimed, defect(error))
        return ending

    async def _load_and_run(self, claimed: ClaimedTurn, running: _RunningAttempt) -> tuple[LoadedTurn, TurnOutcome]:
        if claimed.worker_losses >= self._settings.max_worker_losses:
            raise WorkerLost(claimed.worker_losses)
        if claimed.seconds_to_deadline <= 0:
            raise DeadlineExceeded(claimed.error["message"] if claimed.error else None)
        loaded = await self._loader.load(claimed)
        if is_first_opening(loaded):
            loaded = await fetch_before_opening(loaded, self._database, self._dispatch)
        if loaded.earlier.steps:
            log.info(names.TURN_RESUMED, count=len(loaded.earlier.steps))
        running.journal = TurnJournal(
            self._database,
            claimed.attempt,
            steps=loaded.earlier.steps,
            own=loaded.earlier.own,
            on_lost=lambda: running.stop(_Stop.LEASE_LOST),
            fault_point=self._fault_point,
        )
        try:
            outcome = await run_turn(
                loaded.request,
                clients=self._clients,
                usage_ledger=self._usage.of(claimed.attempt),
                recordings=loaded.recordings,
                journal=running.journal,
                text_sink=running.text,
                tools=loaded.tools,
            )
        finally:
            if loaded.tools is not None:
                await loaded.tools.close()
        return loaded, outcome


def _traced(claimed: ClaimedTurn) -> TracedTurn:
    attempt = claimed.attempt
    return TracedTurn(
        organization_id=attempt.organization_id,
        session_id=attempt.session_id,
        session_name=claimed.session_external_id,
        turn_id=attempt.turn_id,
        attempt=attempt.attempt,
    )
