"""What happens in sessions because time has passed: scheduled turns take their place, sessions end by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from worker.storage.schedule import release_due_turns, seconds_to_next
from worker.storage.session_limits import end_exceeded_sessions
from worker.storage.sessions import finish_ending, sessions_to_finish
from worker.telemetry import names

if TYPE_CHECKING:
    from worker.storage.database import Database
    from worker.turns.dispatch import Dispatch

log = structlog.get_logger(__name__)


class SessionKeeper:
    """Looks for sessions and scheduled turns whose time has come, in every worker process and over all organizations.

    PostgreSQL says what is due, so it matters to nobody which process looks, or how many at once.
    """

    def __init__(self, database: Database, dispatch: Dispatch, *, batch: int) -> None:
        """Prepare to look.

        Args:
            batch: How many sessions one transaction takes on at most.
        """
        self._database = database
        self._dispatch = dispatch
        self._batch = batch

    async def sweep(self) -> float | None:
        """Do what is due, and return in how many seconds the next scheduled turn is; None if there is none.

        Raises:
            DatabaseUnavailable: when PostgreSQL is away.
        """
        await self._release_due_turns()
        await self._finish_endings()
        await self._end_exceeded_sessions()
        async with self._database.statement() as connection:
            return await seconds_to_next(connection)

    async def _release_due_turns(self) -> None:
        async with self._database.transaction() as connection:
            events = await release_due_turns(connection, batch=self._batch)
        if events:
            log.info(names.SCHEDULE_DUE, count=len(events))
            self._dispatch.after_commit(events)

    async def _finish_endings(self) -> None:
        async with self._database.statement() as connection:
            waiting = await sessions_to_finish(connection, batch=self._batch)
        for organization_id, session_id in waiting:
            async with self._database.transaction() as connection:
                events = await finish_ending(connection, organization_id=organization_id, session_id=session_id)
            self._dispatch.after_commit(events)

    async def _end_exceeded_sessions(self) -> None:
        async with self._database.transaction() as connection:
            ended = await end_exceeded_sessions(connection, batch=self._batch)
        for session in ended:
            log.info(names.SESSION_ENDED, session_id=str(session.session_id), reason=session.end_reason)
            self._dispatch.after_commit(session.events)
