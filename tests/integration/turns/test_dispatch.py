"""What follows a commit, when the broker does not play along."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.queue.doorbell import BrokerUnavailable
from worker.turns.dispatch import Dispatch, TurnReference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.storage.completions import SessionReference
    from worker.storage.documents import DocumentReference


class SilentBroker:
    """A doorbell that does not answer before its timeout, which a test brings about."""

    def __init__(self) -> None:
        self.rung: list[int] = []
        self.is_asked = asyncio.Event()
        self.time_is_up = asyncio.Event()

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        self.rung.append(len(turns))
        self.is_asked.set()
        await self.time_is_up.wait()
        raise BrokerUnavailable("no answer")

    async def ring_for_document(self, document: DocumentReference) -> None:
        raise BrokerUnavailable("no answer")

    async def ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        raise BrokerUnavailable("no answer")


async def enqueued(world: World, count: int) -> list[TurnReference]:
    turns = [await world.enqueue((await world.session()).session_id) for _ in range(count)]
    return [TurnReference(world.organization_id, turn.turn_id) for turn in turns]


async def test_while_the_broker_does_not_answer_further_rings_wait_for_one_timeout_and_go_back_into_the_backlog(
    world: World, worker: Worker
) -> None:
    broker = SilentBroker()
    dispatch = Dispatch(world.database, worker.dispatch._publisher, broker)
    first, *others = await enqueued(world, 5)
    dispatch.after_commit((), [first])
    await broker.is_asked.wait()
    for turn in others:
        dispatch.after_commit((), [turn])
    draining = asyncio.create_task(dispatch.drain())
    await asyncio.sleep(0)
    broker.time_is_up.set()
    await draining
    assert broker.rung == [1], "whoever leaves does not try the others one after the other"
    rows = await world.rows("SELECT waiting, rung_at FROM turns")
    assert [(row.waiting, row.rung_at) for row in rows] == [(True, None)] * 5


async def test_rings_that_came_together_are_sent_together(world: World, worker: Worker) -> None:
    broker = SilentBroker()
    dispatch = Dispatch(world.database, worker.dispatch._publisher, broker)
    broker.time_is_up.set()
    for turn in await enqueued(world, 5):
        dispatch.after_commit((), [turn])
    await dispatch.drain()
    assert broker.rung == [5]


async def test_the_end_of_a_turn_rings_for_one_that_waited(world: World, worker: Worker) -> None:
    await world.execute("INSERT INTO worker_processes (name, concurrency, seen_at) VALUES ('w', 1, now())")
    running, waiting = await enqueued(world, 2)
    claimed = await world.claim(running.turn_id)
    worker.dispatch.after_commit(await world.complete(claimed.attempt))
    await worker.dispatch.drain()
    assert worker.doorbell.rung == [waiting]
