"""Finds what was lost on the way: the safety net under every message, and the first step of recovery."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from worker.errors import TurnWorkerError
from worker.storage.backlog import forget_rings
from worker.storage.completions import take_overdue_completions
from worker.storage.outbox import lock_unpublished, mark_published
from worker.storage.sweeps import (
    purge_idempotency_keys,
    seconds_to_expiry,
    take_expired_turns,
    take_overdue_turns,
)
from worker.storage.worker_processes import forget_silent, keep_alive, sign_off
from worker.telemetry import names
from worker.turns.dispatch import Dispatch, TurnReference
from worker.turns.retention import erase_expired
from worker.turns.session_keeper import SessionKeeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from worker.settings import Settings
    from worker.storage.database import Database

log = structlog.get_logger(__name__)

_IDEMPOTENCY_KEY_LIFETIME_SECONDS: Final = 24 * 3600.0
_PURGE_INTERVAL_SECONDS: Final = 600.0
_SHORTEST_PAUSE_SECONDS: Final = 0.05


class Sweeper:
    """Looks, in every worker process, for turns that could run and do not, and for events that did not go out.

    It relies on no message and remembers nothing: PostgreSQL says what is overdue.
    """

    def __init__(
        self, settings: Settings, database: Database, dispatch: Dispatch, *, worker_name: str | None = None
    ) -> None:
        """Prepare to sweep.

        Args:
            worker_name: The process whose capacity is announced with each sweep; None for one that takes no turns.
        """
        self._settings = settings
        self._database = database
        self._dispatch = dispatch
        self._worker_name = worker_name
        self._sessions = SessionKeeper(database, dispatch, batch=settings.sweep_batch)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Look for everything until `stop` is called, each by itself: none waits for another, or fails with it."""
        # It may take long, the first time that an organization limits what it keeps.
        purging = asyncio.create_task(self._repeat(self._purge, _PURGE_INTERVAL_SECONDS))
        looks = (self.recover, self.sweep, self._sessions.sweep)
        await asyncio.gather(*(self._repeat(look, self._settings.sweep_interval_seconds) for look in looks))
        purging.cancel()
        await asyncio.wait({purging})
        await self._sign_off()

    def stop(self) -> None:
        """Let `run` return after the sweep under way."""
        self._stopping.set()

    async def recover(self) -> float | None:
        """Ring for every turn whose worker was lost.

        Returns:
            In how many seconds the next lease runs out if nobody renews it; None if no turn runs.

        Raises:
            TurnWorkerError: when PostgreSQL or the broker is not available.
        """
        await self._ring_for_all(self._take_expired_turns)
        async with self._database.statement() as connection:
            return await seconds_to_expiry(
                connection,
                again_seconds=self._settings.ring_again_seconds,
                lease_seconds=self._settings.lease_seconds,
            )

    async def sweep(self) -> None:
        """Ring for overdue pending turns, as far as there is room, and for ends of sessions; publish overdue events.

        Raises:
            TurnWorkerError: when PostgreSQL, the broker or the channel is not available.
        """
        await self._announce()
        await self._ring_for_all(self._take_overdue_turns)
        await self._ring_for_overdue_sessions()
        await self._publish_overdue_events()

    async def _repeat(self, look: Callable[[], Awaitable[float | None]], interval_seconds: float) -> None:
        """Look at the interval, and when a look says that something will be due before."""
        was_well = True
        while not self._stopping.is_set():
            next_due = None
            try:
                next_due = await look()
                was_well = True
            except TurnWorkerError as error:
                log.warning(names.SWEEP_FAILED, error=str(error))
                # A connection that broke is made anew by the next look. If that fails too, the server is away.
                next_due, was_well = (0.0 if was_well else None), False
            except Exception:  # the net stays up, whatever falls into it
                log.exception(names.SWEEP_FAILED)
            await self._pause(interval_seconds, next_due)

    async def _ring_for_all(self, take: Callable[[], Awaitable[Sequence[tuple[UUID, UUID]]]]) -> None:
        is_full = True
        while is_full:
            turns = await take()
            is_full = len(turns) >= self._settings.sweep_batch
            if turns:
                await self._ring(turns)

    async def _ring(self, turns: Sequence[tuple[UUID, UUID]]) -> None:
        log.info(names.SWEEP_RANG, count=len(turns))
        try:
            await self._dispatch.ring([TurnReference(*turn) for turn in turns])
        except TurnWorkerError:
            async with self._database.transaction() as connection:
                await forget_rings(connection, turns)
            raise

    async def _take_expired_turns(self) -> Sequence[tuple[UUID, UUID]]:
        async with self._database.statement() as connection:
            return await take_expired_turns(
                connection,
                again_seconds=self._settings.ring_again_seconds,
                lease_seconds=self._settings.lease_seconds,
                batch=self._settings.sweep_batch,
            )

    async def _take_overdue_turns(self) -> Sequence[tuple[UUID, UUID]]:
        async with self._database.transaction() as connection:
            return await take_overdue_turns(
                connection,
                after_seconds=self._settings.sweep_after_seconds,
                again_seconds=self._settings.ring_again_seconds,
                batch=self._settings.sweep_batch,
            )

    async def _ring_for_overdue_sessions(self) -> None:
        async with self._database.transaction() as connection:
            sessions = await take_overdue_completions(
                connection,
                after_seconds=self._settings.sweep_after_seconds,
                again_seconds=self._settings.ring_again_seconds,
                batch=self._settings.sweep_batch,
            )
        if sessions:
            log.info(names.SWEEP_RANG_SESSIONS, count=len(sessions))
            await self._dispatch.ring_for_sessions(sessions)

    async def _announce(self) -> None:
        if self._worker_name is not None:
            async with self._database.statement() as connection:
                await keep_alive(connection, name=self._worker_name, concurrency=self._settings.concurrency)

    async def _sign_off(self) -> None:
        if self._worker_name is None:
            return
        try:
            async with self._database.statement() as connection:
                await sign_off(connection, name=self._worker_name)
        except TurnWorkerError as error:  # it stops counting by itself soon
            log.warning(names.SWEEP_FAILED, error=str(error))

    async def _publish_overdue_events(self) -> None:
        async with self._database.transaction() as connection:
            events = await lock_unpublished(
                connection,
                older_than_seconds=self._settings.sweep_after_seconds,
                batch=self._settings.sweep_batch,
            )
            if events:
                await self._dispatch.publish(events)
                await mark_published(connection, events)
                log.info(names.SWEEP_PUBLISHED, count=len(events))

    async def _purge(self) -> None:
        async with self._database.transaction() as connection:
            await purge_idempotency_keys(connection, older_than_seconds=_IDEMPOTENCY_KEY_LIFETIME_SECONDS)
            await forget_silent(connection)
        await erase_expired(self._database)

    async def _pause(self, interval_seconds: float, next_due: float | None) -> None:
        # Spread out, so that many processes do not sweep in step.
        interval = interval_seconds * random.uniform(0.8, 1.2)  # noqa: S311 -- no secret
        # A turn that is scheduled, or whose worker was lost, is not kept waiting once its time has come.
        pause = interval if next_due is None else min(interval, max(next_due, _SHORTEST_PAUSE_SECONDS))
        try:
            await asyncio.wait_for(self._stopping.wait(), pause)
        except TimeoutError:
            return
