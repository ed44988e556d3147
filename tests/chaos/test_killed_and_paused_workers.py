"""Workers that die or stand still in the middle of a turn."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.system import System, calling
from worker.embedded.postgres import EmbeddedPostgres
from worker.queue.doorbell import CeleryDoorbell
from worker.storage.migrate import migrate
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system import Caller


async def test_with_default_settings_a_turn_whose_worker_was_killed_is_completed_by_another_within_15_seconds_once(
    tmp_path: Path,
) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        migrate(postgres.url)
        with System(tmp_path / "redis", postgres, postgres.url) as system:
            async with calling(system) as caller:
                system.play({"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "Said by another."})
                session = await caller.session()
                # PostgreSQL itself is younger than a lease: an expiry proves nothing yet, so let the lease be renewed until then.
                turn = await caller.running(session, "Hello.")
                await _until_older_than_a_lease(caller)
                killed = await caller.holder(turn.id)
                killed.kill()
                killed_at = time.monotonic()
                completed = await caller.client.wait(turn.id, timeout_seconds=30)
                recovery_seconds = time.monotonic() - killed_at
                assert (completed.status, completed.attempt) == ("completed", 2)
                assert completed.assistant_text == "Said by another."
                assert await caller.holder(turn.id) is not killed
                types = [event.type for event in await caller.log_of(session)]
                assert types.count("turn.completed") == 1
                assert types.count("turn.started") == 2
    assert recovery_seconds < 15


async def _until_older_than_a_lease(caller: Caller) -> None:
    while True:
        rows = await caller.world.rows(
            "SELECT pg_sleep(greatest(0, 10.5 - extract(epoch FROM now() - pg_postmaster_start_time()))), "
            "now() > pg_postmaster_start_time() + interval '10 s' AS older"
        )
        if rows[0].older:
            return


async def test_what_a_paused_worker_writes_after_its_lease_ran_out_is_refused_and_the_answer_of_the_other_stays(
    caller: Caller, system: System
) -> None:
    system.play({"times": 1, "hold": "stale", "reply": "From the stale one."}, {"reply": "From the fresh one."})
    session = await caller.session()
    turn = await caller.running(session, "Hello.")
    paused = await caller.holder(turn.id)
    paused.pause()
    completed = await caller.client.wait(turn.id, timeout_seconds=60)
    assert (completed.assistant_text, completed.attempt) == ("From the fresh one.", 2)
    # Its answer is there as soon as it goes on, together with the news that its lease is lost.
    system.llm.release("stale")
    paused.resume()
    await paused.line("lease.lost|turn.write_refused", turn_id=str(turn.id))
    again = await caller.client.get_turn(turn.id)
    assert (again.assistant_text, again.attempt, again.status) == ("From the fresh one.", 2, "completed")
    types = [event.type for event in await caller.log_of(session)]
    assert types.count("turn.completed") == 1
    assert (await caller.ask(session, "Are you there?")).status == "completed", (
        "the paused worker and the session go on"
    )


async def test_turns_rung_many_times_for_two_workers_are_each_run_once(caller: Caller, system: System) -> None:
    turns = [await caller.client.enqueue(await caller.session(), f"Number {n}.") for n in range(30)]
    doorbell = CeleryDoorbell(system.redis.url)
    for _ in range(3):
        await doorbell.ring([TurnReference(caller.world.organization_id, turn.id) for turn in turns])
    await asyncio.to_thread(doorbell.close)
    for n, turn in enumerate(turns):
        completed = await caller.client.wait(turn.id, timeout_seconds=60)
        assert (completed.status, completed.attempt, completed.assistant_text) == (
            "completed",
            1,
            f"You said: Number {n}.",
        )
    requests = [request.user_text for request in system.llm.requests]
    assert sorted(requests) == sorted(f"Number {n}." for n in range(30))
