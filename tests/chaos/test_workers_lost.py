"""Workers that die, stand still or run against each other: every turn is answered once."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from tests.system import System, calling
from worker.queue.doorbell import CeleryDoorbell
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system import Caller
    from worker.embedded.postgres import EmbeddedPostgres

RACES = 30

ENDS_AT_ONCE: dict[str, Any] = {
    "nodes": [
        {
            "id": "start",
            "type": "startCall",
            "position": {"x": 0, "y": 0},
            "data": {"name": "Start", "prompt": "Go on."},
        },
        {
            "id": "end",
            "type": "endCall",
            "position": {"x": 0, "y": 1},
            "data": {"name": "End", "prompt": "Say goodbye."},
        },
    ],
    "edges": [{"id": "bye", "source": "start", "target": "end", "data": {"label": "Bye", "condition": "Always."}}],
}
SOMEONE_WAITS = "SELECT FROM pg_locks WHERE NOT granted"


@pytest.fixture
def default_system(tmp_path: Path, postgres_server: EmbeddedPostgres, database_url: str) -> Iterator[System]:
    """A system with nothing configured but its servers."""
    with System(tmp_path / "redis", postgres_server, database_url) as system:
        yield system


async def test_with_default_settings_a_turn_whose_worker_is_killed_is_completed_once_by_another_within_15_seconds(
    default_system: System,
) -> None:
    default_system.play({"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "You said {user}"})
    async with calling(default_system) as caller:
        session = await caller.session()
        turn = await caller.running(session, "Hello.")
        killed = await caller.holder(turn.id)
        killed.kill()
        killed_at = time.monotonic()
        answered = await caller.client.wait(turn.id, timeout_seconds=30)
        assert time.monotonic() - killed_at < 15
        assert (answered.status, answered.assistant_text, answered.attempt) == ("completed", "You said Hello.", 2)
        assert await caller.holder(turn.id) in default_system.others(killed)
        types = [event.type for event in await caller.log_of(session)]
        assert types == ["turn.enqueued", "turn.started", "turn.started", "turn.node_transition", "turn.completed"]
        assert (await caller.ask(session, "And now?")).assistant_text == "You said And now?"
        assert default_system.last_conversation() == ["Hello.", "You said Hello.", "And now?"]


async def test_a_worker_paused_past_its_lease_changes_nothing_when_it_goes_on(caller: Caller, system: System) -> None:
    system.play({"times": 1, "hold": "stale", "reply": "Said by the stale one."}, {"reply": "Said by the fresh one."})
    session = await caller.session()
    turn = await caller.running(session, "Hello.")
    stale = await caller.holder(turn.id)
    stale.pause()
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text, answered.attempt) == ("completed", "Said by the fresh one.", 2)
    log = await caller.log_of(session)
    system.llm.release("stale")
    stale.resume()
    await stale.line("lease.lost|turn.write_refused", turn_id=str(turn.id))
    assert (await caller.ask(session, "Still there?")).status == "completed"
    assert (await caller.client.get_turn(turn.id)).model_dump(exclude={"revision", "usage"}) == answered.model_dump(
        exclude={"revision", "usage"}
    )
    assert (await caller.log_of(session))[: len(log)] == log
    assert stale.is_running


async def test_a_worker_paused_in_the_middle_of_its_commit_blocks_its_session_for_a_while_and_is_then_refused(
    caller: Caller, system: System
) -> None:
    system.play(
        {"when": {"tool_offered": "bye"}, "reply": [{"tool": "bye"}]},
        {"times": 1, "hold": "stale", "reply": "Said by the stale one."},
        {"reply": "Said by the fresh one."},
    )
    workflow = await caller.client.create_workflow("Short", ENDS_AT_ONCE)
    session = (await caller.client.create_session(workflow.id, begins_with="user")).id
    turn = await caller.client.enqueue(session, "Hello.")
    await system.llm.wait_for_request(count=2)
    stale = await caller.holder(turn.id)
    async with caller.world.database.transaction() as connection:
        await connection.execute(text("SELECT FROM sessions WHERE id = :id FOR UPDATE"), {"id": session})
        system.llm.release("stale")
        while not await caller.world.rows(SOMEONE_WAITS):
            pass
        stale.pause()
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text) == ("completed", "Said by the fresh one.")
    stale.resume()
    await stale.line("turn.write_refused", turn_id=str(turn.id))
    types = [event.type for event in await caller.log_of(session)]
    assert (types.count("turn.completed"), types.count("session.ended")) == (1, 1)


async def test_workers_that_race_for_turns_rung_several_times_complete_each_once(
    caller: Caller, system: System
) -> None:
    sessions = [await caller.session() for _ in range(RACES)]
    turns = [(await caller.world.enqueue(session, "Once.")).turn_id for session in sessions]
    rings = [TurnReference(caller.world.organization_id, turn_id) for turn_id in turns]
    for worker in system.workers:
        worker.pause()
    with closing(CeleryDoorbell(system.redis.url)) as doorbell:
        for _ in range(4):
            await doorbell.ring(rings)
    for worker in system.workers:
        worker.resume()
    answered = await asyncio.gather(*(caller.client.wait(turn_id, timeout_seconds=30) for turn_id in turns))
    assert {(turn.status, turn.assistant_text, turn.attempt) for turn in answered} == {
        ("completed", "You said: Once.", 1)
    }
    # Rings are taken in their order: when a later one is answered, the others have been.
    await caller.ask(sessions[0], "Last.")
    await caller.expect_each_completed_once()
    assert len(system.llm.requests) == RACES + 1
    assert {(await caller.holder(turn_id)).pid for turn_id in turns} == {worker.pid for worker in system.workers}
