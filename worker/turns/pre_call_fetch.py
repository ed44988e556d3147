"""Fetches further initial context before a session's very first opening, once, and keeps it before anything is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from worker.conversation.event import PRE_CALL_FETCH
from worker.engine.pre_call_fetch import fetch_initial_context, wants_fetch
from worker.engine.turn import utc_now
from worker.storage.fetches import keep_fetch
from worker.storage.outbox import NewEvent

if TYPE_CHECKING:
    from worker.storage.database import Database
    from worker.turns.dispatch import Dispatch
    from worker.turns.loading import LoadedTurn


def is_first_opening(loaded: LoadedTurn) -> bool:
    """Whether the session is about to be opened for the first time, and wants to fetch something before."""
    request = loaded.request
    return (
        not loaded.claimed.fetched
        and request.checkpoint.current_node_id is None
        and not loaded.earlier.steps
        and wants_fetch(request.graph.start_node.data, request.initial_context)
    )


async def fetch_before_opening(loaded: LoadedTurn, database: Database, dispatch: Dispatch) -> LoadedTurn:
    """Make the fetch, keep what came of it, and return the turn with it. What it took is taken off the turn's time limit.

    Raises:
        LeaseLost: when this attempt no longer holds the turn.
        DatabaseUnavailable: when it could not be kept; the turn is handed back, and the fetch is made again.
    """
    request = loaded.request
    begun = asyncio.get_running_loop().time()
    fetched = await fetch_initial_context(
        request.graph.start_node.data,
        web=loaded.web,
        session_id=request.session_id,
        initial_context=request.initial_context,
        now=utc_now(),
        seconds_left=request.time_limit_seconds,
    )
    initial_context = {**request.initial_context, **fetched.values}
    event = NewEvent(
        f"turn.{PRE_CALL_FETCH}",
        request.turn_id,
        {
            "status": "success" if fetched.problem is None else "error",
            "names": [*sorted(fetched.values)],
            "message": fetched.problem,
        },
    )
    async with database.statement() as connection:
        recorded = await keep_fetch(connection, loaded.claimed.attempt, initial_context=initial_context, event=event)
    dispatch.after_commit(recorded)
    left = request.time_limit_seconds - (asyncio.get_running_loop().time() - begun)
    return replace(loaded, request=replace(request, initial_context=initial_context, time_limit_seconds=max(0.0, left)))
