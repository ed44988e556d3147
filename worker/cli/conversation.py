"""A conversation through the whole system: enqueued over HTTP, followed over Redis, timed from the outside."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from api_stub.schemas import TERMINAL_STATUSES
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from uuid import UUID

    from api_stub.client import AsyncTurnWorkerClient, Event, Turn


class ConversationCutShort(TurnWorkerError):
    """The session was ended by somebody else in the middle of a turn."""

    code = "conversation_cut_short"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one turn.

    Attributes:
        steps: The nodes the agent went to, by name, in order.
        heard: What was heard of the turn over Redis, each event with the seconds since the request was sent.
    """

    turn: Turn
    steps: tuple[str, ...]
    heard: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        """From sending the request to hearing over Redis that the turn is over."""
        return self.heard[-1][1]

    @property
    def ends_session(self) -> bool:
        """Whether the conversation is over with it."""
        return self.turn.session_state == "completed"


class Conversation:
    """One session, followed over Redis from its beginning."""

    def __init__(
        self,
        client: AsyncTurnWorkerClient,
        session_id: UUID,
        events: AsyncIterator[Event],
        on_retry: Callable[[Turn], None],
    ) -> None:
        self._client = client
        self._events = events
        self._on_retry = on_retry
        self._answering: UUID | None = None
        self.session_id = session_id

    @classmethod
    @asynccontextmanager
    async def begin(
        cls,
        client: AsyncTurnWorkerClient,
        redis_url: str,
        *,
        workflow_id: UUID,
        initial_context: Mapping[str, Any],
        on_retry: Callable[[Turn], None],
    ) -> AsyncIterator[tuple[Self, Reply]]:
        """Create a session and let the agent open it.

        Args:
            client: talks to the API.
            redis_url: where to hear what happens.
            workflow_id: the agent.
            initial_context: values for its templates.
            on_retry: told when an attempt at a turn failed and there will be another.

        Yields:
            The conversation and the agent's opening.
        """
        began = time.monotonic()
        session = await client.create_session(workflow_id, initial_context=initial_context)
        if session.opening_turn is None:
            raise AssertionError("a session that the agent begins has an opening turn")
        async with client.subscribe(session_id=session.id, redis_url=redis_url) as events:
            conversation = cls(client, session.id, events, on_retry)
            yield conversation, await conversation._follow(session.opening_turn.id, began)

    async def say(self, text: str) -> Reply:
        """Say something and wait for what comes of it."""
        began = time.monotonic()
        turn = await self._client.enqueue(self.session_id, text)
        self._answering = turn.id
        try:
            return await self._follow(turn.id, began)
        finally:
            self._answering = None

    async def interrupt(self) -> None:
        """Call off the turn that is being answered, if there is one; `say` then returns it as cancelled."""
        if self._answering is not None:
            await self._client.cancel_turn(self._answering)

    async def hang_up(self) -> None:
        """End the session before the agent does."""
        await self._client.end_session(self.session_id)

    async def _follow(self, turn_id: UUID, began: float) -> Reply:
        heard: list[tuple[str, float]] = []
        async for event in self._events:
            if event.turn_id != turn_id:
                continue
            heard.append((event.type, time.monotonic() - began))
            if event.status in TERMINAL_STATUSES:
                # News over Redis carries no particulars: those are in the log.
                turn = await self._client.get_turn(turn_id)
                log = await self._client.list_events(turn_id=turn_id)
                return Reply(turn, _steps(log.data), tuple(heard))
            if event.type == "turn.retrying":
                self._on_retry(await self._client.get_turn(turn_id))
        raise ConversationCutShort("The session was ended from elsewhere before this turn was over.")


def _steps(events: Sequence[Event]) -> tuple[str, ...]:
    return tuple(
        str(event.payload["node_name"])
        for event in events
        if event.type == "turn.node_transition" and event.payload is not None
    )
