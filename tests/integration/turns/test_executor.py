"""From claim to commit, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text as sql

from worker.embedded.scripted_llm import Script
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.postgres import EmbeddedPostgres
    from worker.embedded.scripted_llm import ScriptedLLM

    MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]


def play(llm: ScriptedLLM, *rules: dict[str, Any]) -> None:
    llm.set_script(Script.model_validate({"rules": list(rules)}))


async def enqueued(world: World, text: str = "Hi.") -> Any:
    session = await world.session()
    return await world.enqueue(session.session_id, text)


async def somebody_waits(world: World) -> None:
    """Return once a connection of this database waits for a lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while not await world.rows(waiting):
            pass


async def test_a_turn_runs_from_claim_to_commit_with_everything_it_leaves_behind(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    play(llm, {"reply": "Good morning."})
    turn = await enqueued(world)
    assert await worker.execute(turn.turn_id) == "completed"
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.assistant_text, row.attempt, row.error) == ("completed", "Good morning.", 1, None)
    assert row.checkpoint["current_node_id"] == "start"
    assert "messages" not in row.checkpoint
    assert len(await world.rows("SELECT 1 FROM messages WHERE turn_id = :id", id=turn.turn_id)) == 2
    (usage,) = await world.rows("SELECT * FROM usage_entries")
    assert (usage.turn_id, usage.attempt, usage.call) == (turn.turn_id, 1, 1)
    assert usage.completion_tokens > 0
    session = await world.row("sessions", turn.session_id)
    assert session.initial_context["runtime_configuration"]["llm_provider"] == "anthropic"


async def test_events_are_published_after_the_commit_and_marked(world: World, worker: Worker) -> None:
    turn = await enqueued(world)
    await worker.execute(turn.turn_id)
    await worker.dispatch.drain()
    rows = await world.rows("SELECT type, published_at FROM outbox WHERE type <> 'turn.enqueued' ORDER BY sequence")
    assert [row.type for row in rows] == ["turn.started", "turn.node_transition", "turn.completed"]
    assert all(row.published_at is not None for row in rows)


async def test_the_next_turn_goes_on_from_the_stored_conversation_and_stores_only_its_own_messages(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    session = await world.session()
    for text in ("One.", "Two.", "Three."):
        turn = await world.enqueue(session.session_id, text)
        await worker.execute(turn.turn_id)
    sent = [message["role"] for message in llm.requests[-1].body["messages"]]
    assert sent == ["user", "assistant", "user", "assistant", "user"]
    counts = await world.rows("SELECT count(*) AS n FROM messages GROUP BY turn_id")
    assert [row.n for row in counts] == [2, 2, 2]


async def test_a_conversation_is_out_of_memory_as_soon_as_its_turn_is_over(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    """And not when garbage is next collected: until then, every turn of a long conversation would hold all of it."""

    def is_first(message: object) -> bool:
        return type(message) is dict and message == {"role": "user", "content": "One."}

    turn = await enqueued(world, "One.")
    await worker.execute(turn.turn_id)
    gc.collect()
    gc.disable()
    try:
        following = await world.enqueue(turn.session_id, "Two.")
        await worker.execute(following.turn_id)
        await worker.dispatch.drain()
        llm.clear()
        assert [held for held in gc.get_objects() if type(held) is list and any(map(is_first, held))] == []
    finally:
        gc.enable()


async def test_a_committed_turn_rings_for_the_next_in_line(world: World, worker: Worker) -> None:
    turn = await enqueued(world)
    following = await world.enqueue(turn.session_id)
    await worker.execute(turn.turn_id)
    await worker.doorbell.wait_for(worker.reference(following.turn_id))


async def test_a_ring_for_a_turn_that_cannot_be_claimed_is_dropped(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    turn = await enqueued(world)
    following = await world.enqueue(turn.session_id)
    assert await worker.execute(following.turn_id) == "not claimable"
    assert llm.requests == []


@pytest.mark.parametrize(
    ("status", "type_", "code"),
    [
        (401, "authentication_error", "llm_authentication_failed"),
        (403, "permission_error", "llm_permission_denied"),
        (404, "not_found_error", "llm_not_found"),
        (400, "invalid_request_error", "llm_invalid_request"),
    ],
)
async def test_a_permanent_error_of_the_provider_fails_the_turn_at_once_with_its_code(
    world: World, worker: Worker, llm: ScriptedLLM, status: int, type_: str, code: str
) -> None:
    play(llm, {"error": {"status": status, "type": type_, "message": "No."}})
    turn = await enqueued(world)
    assert await worker.execute(turn.turn_id) == "failed"
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.error["code"], row.error["retryable"], row.attempt) == ("failed", code, False, 1)
    assert "sk-ant-test" not in str(row.error)
    assert (await world.row("sessions", turn.session_id)).head_turn_id is None


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ({"error": {"status": 429, "type": "rate_limit_error", "message": "Slow down."}}, "llm_rate_limited"),
        ({"error": {"status": 529, "type": "overloaded_error", "message": "Busy."}}, "llm_overloaded"),
        ({"error": {"status": 500, "type": "api_error", "message": "Oops."}}, "llm_unavailable"),
        ({"reply": "Half a", "break_after": 1}, "llm_stream_broken"),
        ({"reply": []}, "llm_empty_reply"),
    ],
)
async def test_a_transient_error_of_the_provider_is_tried_again_and_leaves_no_trace_in_the_answer(
    world: World, worker: Worker, llm: ScriptedLLM, failure: dict[str, Any], code: str
) -> None:
    play(llm, {"times": 1, **failure}, {"reply": "At last."})
    turn = await enqueued(world)
    assert await worker.execute(turn.turn_id) == "retrying"
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.error["code"], row.provider_failures) == ("pending", code, 1)
    await worker.doorbell.wait_for(worker.reference(turn.turn_id))
    assert await worker.execute(turn.turn_id) == "completed"
    row = await world.row("turns", turn.turn_id)
    assert (row.assistant_text, row.attempt, row.error) == ("At last.", 2, None)


async def test_the_last_allowed_transient_failure_fails_the_turn(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM
) -> None:
    play(llm, {"error": {"status": 529, "type": "overloaded_error", "message": "Busy."}})
    turn = await enqueued(world)
    async with make_worker(max_provider_failures=2) as worker:
        assert await worker.execute(turn.turn_id) == "retrying"
        await worker.doorbell.wait_for(worker.reference(turn.turn_id))
        assert await worker.execute(turn.turn_id) == "failed"
    row = await world.row("turns", turn.turn_id)
    assert (row.error["code"], row.error["retryable"]) == ("llm_overloaded", True)


async def test_a_retry_after_beyond_the_deadline_fails_now(world: World, worker: Worker, llm: ScriptedLLM) -> None:
    error = {"status": 429, "type": "rate_limit_error", "message": "Tomorrow.", "retry_after": 86_400}
    play(llm, {"error": error})
    turn = await enqueued(world)
    assert await worker.execute(turn.turn_id) == "failed"
    assert (await world.row("turns", turn.turn_id)).error["code"] == "llm_rate_limited"


async def test_a_turn_past_its_time_limit_fails_and_names_what_it_waited_for(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM
) -> None:
    play(llm, {"hold": "never", "reply": "Too late."})
    turn = await enqueued(world)
    async with make_worker(turn_time_limit_seconds=0.3) as worker:
        assert await worker.execute(turn.turn_id) == "failed"
    error = (await world.row("turns", turn.turn_id)).error
    assert error["code"] == "turn_timeout"
    assert "waiting for" in error["message"]


async def test_a_turn_past_its_deadline_fails_with_the_reason_of_its_last_attempt(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    turn = await enqueued(world)
    await world.retry((await world.claim(turn.turn_id)).attempt)
    await world.execute("UPDATE turns SET first_claimed_at = now() - interval '1 day'")
    assert await worker.execute(turn.turn_id) == "failed"
    error = (await world.row("turns", turn.turn_id)).error
    assert error["code"] == "deadline_exceeded"
    assert "Try later." in error["message"]
    assert llm.requests == []


async def test_a_turn_that_lost_too_many_workers_is_parked_as_failed(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    turn = await enqueued(world)
    await world.execute("UPDATE turns SET worker_losses = 3")
    assert await worker.execute(turn.turn_id) == "failed"
    assert (await world.row("turns", turn.turn_id)).error["code"] == "worker_lost"
    assert llm.requests == []


async def test_a_stopping_worker_gives_its_turns_back_and_another_completes_them(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM
) -> None:
    play(llm, {"times": 1, "hold": "never", "reply": "Never said."}, {"reply": "Said by another."})
    turn = await enqueued(world)
    async with make_worker() as stopping, make_worker() as other:
        running = stopping.start(turn.turn_id)
        await llm.wait_for_request(lambda _: True)
        stopping.executor.give_back()
        assert await running == "given back"
        row = await world.row("turns", turn.turn_id)
        assert (row.status, row.provider_failures, row.worker_losses) == ("pending", 0, 0)
        await stopping.doorbell.wait_for(stopping.reference(turn.turn_id))
        assert await stopping.execute(turn.turn_id) == "not claimable", "a stopping worker takes nothing"
        assert await other.execute(turn.turn_id) == "completed"
    assert (await world.row("turns", turn.turn_id)).assistant_text == "Said by another."


async def test_a_turn_whose_claim_was_under_way_when_the_worker_stopped_is_given_back_too(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    turn = await enqueued(world)
    async with world.database.transaction() as connection:
        await connection.execute(sql("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": turn.session_id})
        running = worker.start(turn.turn_id)
        await somebody_waits(world)
        worker.executor.give_back()
    assert await asyncio.wait_for(running, 10) == "given back"
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.attempt, row.worker_losses) == ("pending", 1, 0)
    assert llm.requests == []


async def test_a_lease_is_kept_from_the_claim_on_whatever_the_turn_waits_for_before_it_runs(
    world: World, worker: Worker
) -> None:
    turn = await enqueued(world)
    async with world.database.transaction() as connection:
        settings = {"traces.endpoint": "https://traces.example", "traces.headers_secret": "collector"}
        await change_settings(connection, organization_id=world.organization_id, changes=settings)
    async with world.database.transaction() as connection:
        await connection.execute(sql("LOCK TABLE secrets IN ACCESS EXCLUSIVE MODE"))
        running = worker.start(turn.turn_id)
        await somebody_waits(world)
        claimed = await world.row("turns", turn.turn_id)
        async with asyncio.timeout(10):
            while (await world.row("turns", turn.turn_id)).lease_expires_at == claimed.lease_expires_at:
                pass
        worker.executor.give_back()
    assert await asyncio.wait_for(running, 10) == "given back"


async def test_a_stale_worker_is_stopped_and_writes_nothing_while_another_completes_the_turn(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM
) -> None:
    play(llm, {"times": 1, "hold": "stale", "reply": "From the stale one."}, {"reply": "From the fresh one."})
    turn = await enqueued(world)
    async with make_worker() as stale, make_worker(lease_seconds=0.2) as fresh:
        running = stale.start(turn.turn_id)
        await llm.wait_for_request(lambda _: True)
        await world.expire_lease(turn.turn_id)
        ending = await fresh.execute(turn.turn_id)
        while ending == "not claimable":  # the stale one renewed just before
            await world.expire_lease(turn.turn_id)
            ending = await fresh.execute(turn.turn_id)
        assert ending == "completed"
        assert await asyncio.wait_for(running, 10) == "lease lost", "the lease keeper stopped it"
        llm.release("stale")
    row = await world.row("turns", turn.turn_id)
    assert (row.assistant_text, row.attempt) == ("From the fresh one.", 2)
    assert len(await world.rows("SELECT 1 FROM outbox WHERE type = 'turn.completed'")) == 1


async def test_a_turn_whose_session_is_ended_under_it_is_stopped(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    play(llm, {"hold": "never", "reply": "Never said."})
    turn = await enqueued(world)
    running = worker.start(turn.turn_id)
    await llm.wait_for_request(lambda _: True)
    await world.end(turn.session_id)
    assert await asyncio.wait_for(running, 10) == "cancelled"
    assert (await world.row("turns", turn.turn_id)).status == "cancelled"


async def test_what_a_failed_attempt_used_is_kept(world: World, worker: Worker, llm: ScriptedLLM) -> None:
    play(llm, {"times": 1, "reply": "Half a reply", "break_after": 1}, {"reply": "Whole."})
    turn = await enqueued(world)
    await worker.execute(turn.turn_id)
    await worker.doorbell.wait_for(worker.reference(turn.turn_id))
    await worker.execute(turn.turn_id)
    rows = await world.rows("SELECT attempt, prompt_tokens FROM usage_entries ORDER BY attempt")
    assert [row.attempt for row in rows] == [1, 2]
    assert all(row.prompt_tokens > 0 for row in rows)


async def test_an_answer_that_was_ready_when_postgresql_went_away_is_committed_when_it_is_back(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, postgres_server: EmbeddedPostgres
) -> None:
    play(llm, {"hold": "answer", "reply": "Worth waiting for."})
    turn = await enqueued(world)
    async with make_worker(lease_renewal_seconds=5.0) as worker:
        running = worker.start(turn.turn_id)
        await llm.wait_for_request(lambda _: True)
        await asyncio.to_thread(postgres_server.stop)
        llm.release("answer")
        await asyncio.to_thread(postgres_server.start)
        assert await asyncio.wait_for(running, 30) == "completed"
    row = await world.row("turns", turn.turn_id)
    assert (row.assistant_text, row.attempt) == ("Worth waiting for.", 1)
    assert len(llm.requests) == 1


async def test_without_an_llm_the_turn_fails_as_not_configured(world: World, make_worker: MakeWorker) -> None:
    turn = await enqueued(world)
    async with make_worker(anthropic_api_key=None, anthropic_base_url=None) as worker:
        assert await worker.execute(turn.turn_id) == "failed"
    assert (await world.row("turns", turn.turn_id)).error["code"] == "llm_not_configured"


async def test_a_checkpoint_that_cannot_be_used_fails_the_turn_with_its_own_code(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    turn = await enqueued(world)
    await world.execute("""UPDATE sessions SET checkpoint = '{"version": 9}'""")
    assert await worker.execute(turn.turn_id) == "failed"
    assert (await world.row("turns", turn.turn_id)).error["code"] == "unknown_checkpoint_version"
    assert llm.requests == []


async def test_a_defect_of_ours_ends_the_turn_and_says_where_to_look(world: World, worker: Worker) -> None:
    turn = await enqueued(world)
    await world.execute("UPDATE turns SET user_messages = '[7]'")
    assert await worker.execute(turn.turn_id) == "failed"
    error = (await world.row("turns", turn.turn_id)).error
    assert (error["code"], error["retryable"]) == ("internal_error", False)
    assert "The worker's log has the traceback" in error["message"]


async def test_text_that_postgresql_cannot_hold_is_stored_without_it(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    play(llm, {"reply": "a\u0000b"})
    turn = await enqueued(world)
    assert await worker.execute(turn.turn_id) == "completed"
    assert (await world.row("turns", turn.turn_id)).assistant_text == "ab"


async def test_many_turns_at_once_in_one_process_do_not_mix(world: World, worker: Worker, llm: ScriptedLLM) -> None:
    play(llm, {"reply": "You said {user}"})
    turns = [await enqueued(world, f"number {n}") for n in range(50)]
    endings = await asyncio.gather(*(worker.execute(turn.turn_id) for turn in turns))
    assert set(endings) == {"completed"}
    for n, turn in enumerate(turns):
        assert (await world.row("turns", turn.turn_id)).assistant_text == f"You said number {n}"
