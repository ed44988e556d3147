"""Callers: sessions that go on talking whatever happens, and write down what they were promised."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from uuid import uuid4

from api_stub.client.errors import ApiUnavailable, ApiUnreachable, ClientError
from tests.chaos.harness import agent
from tests.chaos.harness.history import Accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random
    from uuid import UUID

    from api_stub.client import AsyncTurnWorkerClient
    from tests.chaos.harness.history import History

P = ParamSpec("P")
T = TypeVar("T")

_FOLLOWED_EVERY: Final = 4
"""Each so-manieth session has a subscriber."""

_CANCELLED: Final = 0.03
_REPEATED: Final = 0.1
_AT_ONCE: Final = 0.2
"""How often a turn is cancelled, a request is repeated, and a message is sent before the one before is answered."""

_OUTAGE = (ApiUnreachable, ApiUnavailable)


class Callers:
    """Holds many conversations at once, each with one organization's client that survives lost answers."""

    def __init__(self, client: AsyncTurnWorkerClient, workflow_id: UUID, history: History, random: Random) -> None:
        self._client = client
        self._workflow_id = workflow_id
        self._history = history
        self._random = random
        self._numbers = count(1)
        self._heard = asyncio.Condition()
        self._subscribers: dict[UUID, asyncio.Task[None]] = {}

    async def run(self, seconds: float, sessions: int) -> list[UUID]:
        """Talk in so many sessions for so long, wait for every answer, and return the sessions."""
        deadline = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            talks = [group.create_task(self._talk(deadline, followed=not n % _FOLLOWED_EVERY)) for n in range(sessions)]
        return [talk.result() for talk in talks]

    async def say_last(self, session_id: UUID) -> str:
        """Say one more thing in a session, and return it once it is answered."""
        accepted = await self._say(session_id, f"{agent.PLAIN} {next(self._numbers)}")
        await self._over(accepted)
        return accepted.message

    async def stop_following(self) -> None:
        """Let every subscriber hear the log to its end so far, and stop."""
        for session_id, subscriber in self._subscribers.items():
            session = await self._client.get_session(session_id)
            followed = self._history.followed[session_id]
            async with asyncio.timeout(60), self._heard:
                await self._heard.wait_for(lambda: len(followed) >= session.last_sequence)  # noqa: B023 -- waited for here
            subscriber.cancel()
            with suppress(asyncio.CancelledError):
                await subscriber

    async def _talk(self, deadline: float, *, followed: bool) -> UUID:
        session_id = (await self._persist(self._client.create_session, self._workflow_id, begins_with="user")).id
        if followed:
            self._history.followed[session_id] = []
            self._subscribers[session_id] = asyncio.create_task(self._follow(session_id))
        while time.monotonic() < deadline:
            said = [await self._say_something(session_id)]
            if self._random.random() < _AT_ONCE:
                said.append(await self._say_something(session_id))
            for accepted in said:
                if self._random.random() < _CANCELLED:
                    await self._cancel(accepted)
                await self._over(accepted)
        return session_id

    async def _say_something(self, session_id: UUID) -> Accepted:
        return await self._say(session_id, f"{self._random.choice(agent.KINDS)} {next(self._numbers)}")

    async def _say(self, session_id: UUID, message: str) -> Accepted:
        key = str(uuid4())
        turn = await self._persist(self._client.enqueue, session_id, message, idempotency_key=key)
        accepted = Accepted(session_id, message, turn.id)
        self._history.accepted.append(accepted)
        if self._random.random() < _REPEATED:
            again = await self._persist(self._client.enqueue, session_id, message, idempotency_key=key)
            accepted.repeated_as.add(again.id)
            self._history.demands["request repeated"] += 1
        return accepted

    async def _cancel(self, accepted: Accepted) -> None:
        turn = await self._persist(self._client.cancel_turn, accepted.turn_id)
        accepted.cancelled = turn.status == "cancelled"
        self._history.demands["turn cancelled"] += 1

    async def _over(self, accepted: Accepted) -> None:
        await self._persist(self._client.wait, accepted.turn_id, timeout_seconds=300)

    async def _follow(self, session_id: UUID) -> None:
        """Follow the session's events, and lose the connection after a few of them, again and again."""
        followed = self._history.followed[session_id]
        while True:
            until = len(followed) + self._random.randint(3, 12)
            with suppress(*_OUTAGE, ClientError):
                after = followed[-1] if followed else 0
                async with self._client.subscribe(session_id=session_id, after=after) as events:
                    async for event in events:
                        followed.append(event.sequence)
                        async with self._heard:
                            self._heard.notify_all()
                        if len(followed) >= until:
                            break

    async def _persist(self, call: Callable[P, Awaitable[T]], *args: P.args, **values: P.kwargs) -> T:
        """Call until there is an answer: an outage is longer than a client is patient by itself."""
        while True:
            try:
                return await call(*args, **values)
            except _OUTAGE:
                await asyncio.sleep(0.2)
