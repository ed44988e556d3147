"""A turn's life in PostgreSQL: places, claims, fences, ends."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.world import ERROR, World
from worker.storage.attempts import LeaseLost
from worker.storage.claim import Attempt
from worker.storage.session_lock import RevisionConflict, SessionEnded, SessionNotFound


async def test_an_enqueued_turn_is_pending_at_the_end_of_its_line_and_claimable_only_at_its_head(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    second = await world.enqueue(session.session_id)
    assert (first.position, first.claimable) == (1, True)
    assert (second.position, second.claimable) == (2, False)
    assert (await world.row("turns", second.turn_id)).status == "pending"


async def test_enqueueing_on_an_unknown_session_is_refused(world: World) -> None:
    with pytest.raises(SessionNotFound, match="There is no session"):
        await world.enqueue(uuid4())


async def test_enqueueing_on_an_ended_session_is_refused_with_its_reason(world: World) -> None:
    session = await world.session()
    await world.end(session.session_id, "user_left")
    with pytest.raises(SessionEnded, match="user_left"):
        await world.enqueue(session.session_id)


async def test_an_expected_revision_that_is_not_the_sessions_is_refused_and_changes_nothing(world: World) -> None:
    session = await world.session()
    with pytest.raises(RevisionConflict) as refused:
        await world.enqueue(session.session_id, expected_revision=7)
    assert (refused.value.expected, refused.value.actual) == (7, 0)
    row = await world.row("sessions", session.session_id)
    assert (row.revision, row.last_position, row.last_sequence) == (0, 0, 0)


async def test_only_the_head_of_the_line_can_be_claimed(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    second = await world.enqueue(session.session_id)
    assert await world.try_claim(second.turn_id) is None
    claimed = await world.claim(first.turn_id)
    assert await world.try_claim(second.turn_id) is None, "one turn of a session runs at a time"
    await world.complete(claimed.attempt)
    assert await world.claimable(session.session_id) == second.turn_id
    assert (await world.claim(second.turn_id)).parent_turn_id == first.turn_id


async def test_two_workers_racing_for_one_turn_get_it_once(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    claims = await asyncio.gather(*(world.try_claim(turn.turn_id, f"worker-{n}") for n in range(8)))
    assert sum(claim is not None for claim in claims) == 1


async def test_racing_for_all_turns_of_a_session_runs_them_one_after_another_in_order(world: World) -> None:
    session = await world.session()
    turns = [(await world.enqueue(session.session_id)).turn_id for _ in range(6)]

    async def worker() -> None:
        while True:
            claims = [await world.try_claim(turn_id) for turn_id in turns]
            taken = [claim for claim in claims if claim is not None]
            for claim in taken:
                await world.complete(claim.attempt)
            if await world.rows("SELECT count(*) FROM turns WHERE status <> 'completed'") == [(0,)]:
                return

    await asyncio.gather(*(worker() for _ in range(3)))
    rows = await world.rows("SELECT id, parent_turn_id, attempt FROM turns ORDER BY position")
    assert [row.parent_turn_id for row in rows] == [None, *turns[:-1]]
    assert {row.attempt for row in rows} == {1}


async def test_the_database_itself_refuses_a_second_running_turn_of_a_session(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    second = await world.enqueue(session.session_id)
    await world.claim(first.turn_id)
    with pytest.raises(Exception, match="uq_turns_one_running_per_session"):
        await world.execute(
            "UPDATE turns SET status = 'running', lease_expires_at = now() WHERE id = :id", id=second.turn_id
        )


async def test_a_turn_whose_pause_is_not_over_cannot_be_claimed_and_keeps_its_place(world: World) -> None:
    session = await world.session()
    first = await world.enqueue(session.session_id)
    second = await world.enqueue(session.session_id)
    await world.retry((await world.claim(first.turn_id)).attempt, delay_seconds=60)
    assert await world.try_claim(first.turn_id) is None
    assert await world.try_claim(second.turn_id) is None, "order beats speed"


async def test_an_expired_lease_lets_another_worker_claim_and_fences_off_the_first(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    stale = await world.claim(turn.turn_id)
    assert await world.try_claim(turn.turn_id) is None, "the lease still runs"
    await world.expire_lease(turn.turn_id)
    fresh = await world.claim(turn.turn_id)
    assert (fresh.attempt.attempt, fresh.worker_losses) == (2, 1)
    for write in (world.complete, world.fail, world.retry, world.give_back):
        with pytest.raises(LeaseLost, match="no longer holds it"):
            await write(stale.attempt)
    row = await world.row("turns", turn.turn_id)
    assert (row.status, row.attempt, row.assistant_text) == ("running", 2, None)
    await world.complete(fresh.attempt)


async def test_a_refused_write_leaves_no_trace_at_all(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    stale = await world.claim(turn.turn_id)
    await world.expire_lease(turn.turn_id)
    await world.claim(turn.turn_id)
    before = await world.row("sessions", session.session_id)
    with pytest.raises(LeaseLost):
        await world.complete(stale.attempt, end_reason="user_qualified")
    assert await world.row("sessions", session.session_id) == before
    assert await world.rows("SELECT count(*) FROM messages") == [(0,)]


async def test_an_expiry_proves_nothing_within_one_lease_of_the_databases_own_start(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.claim(turn.turn_id)
    await world.expire_lease(turn.turn_id)
    ((uptime,),) = await world.rows("SELECT extract(epoch FROM now() - pg_postmaster_start_time())")
    world.lease_seconds = float(uptime) + 600
    assert await world.try_claim(turn.turn_id) is None
    world.lease_seconds = float(uptime) / 2
    assert await world.try_claim(turn.turn_id) is not None


async def test_a_completed_turn_becomes_the_head_and_a_failed_one_does_not(world: World) -> None:
    session = await world.session()
    completed = await world.turn(session.session_id)
    failing = await world.enqueue(session.session_id)
    following = await world.enqueue(session.session_id)
    await world.fail((await world.claim(failing.turn_id)).attempt)
    assert await world.claimable(session.session_id) == following.turn_id
    assert (await world.row("sessions", session.session_id)).head_turn_id == completed
    assert (await world.claim(following.turn_id)).parent_turn_id == completed


async def test_terminal_states_never_change(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    claimed = await world.claim(turn.turn_id)
    await world.complete(claimed.attempt)
    assert await world.try_claim(turn.turn_id) is None
    for write in (world.complete, world.fail, world.retry, world.give_back):
        with pytest.raises(LeaseLost):
            await write(claimed.attempt)
    await world.end(session.session_id)
    assert (await world.row("turns", turn.turn_id)).status == "completed"


async def test_a_retry_counts_as_a_failure_of_the_provider_and_giving_back_counts_as_nothing(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    await world.retry((await world.claim(turn.turn_id)).attempt)
    given_back = await world.claim(turn.turn_id)
    assert given_back.error == ERROR
    await world.give_back(given_back.attempt)
    assert await world.claimable(session.session_id) == turn.turn_id
    claimed = await world.claim(turn.turn_id)
    assert (claimed.attempt.attempt, claimed.provider_failures, claimed.worker_losses) == (3, 1, 0)


async def test_the_deadline_runs_from_the_first_claim(world: World) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    claimed = await world.claim(turn.turn_id)
    assert claimed.seconds_to_deadline == pytest.approx(600, abs=1)
    await world.give_back(claimed.attempt)
    await world.execute("UPDATE turns SET first_claimed_at = now() - interval '400 s'")
    assert (await world.claim(turn.turn_id)).seconds_to_deadline == pytest.approx(200, abs=1)


async def test_a_turn_that_ends_the_session_cancels_the_line_behind_it_in_the_same_commit(world: World) -> None:
    session = await world.session()
    last = await world.enqueue(session.session_id)
    waiting = [await world.enqueue(session.session_id) for _ in range(2)]
    events = await world.complete((await world.claim(last.turn_id)).attempt, end_reason="user_qualified")
    assert await world.claimable(session.session_id) is None
    assert [event.type for event in events] == [
        "turn.completed",
        "turn.cancelled",
        "turn.cancelled",
        "session.ended",
    ]
    for turn in waiting:
        row = await world.row("turns", turn.turn_id)
        assert (row.status, row.error["code"]) == ("cancelled", "session_ended")
    row = await world.row("sessions", session.session_id)
    assert (row.state, row.end_reason) == ("completed", "user_qualified")


async def test_ending_a_session_cancels_what_is_pending_and_what_runs_and_is_idempotent(world: World) -> None:
    session = await world.session()
    running = await world.enqueue(session.session_id)
    pending = await world.enqueue(session.session_id)
    claimed = await world.claim(running.turn_id)
    ended = await world.end(session.session_id, "user_left")
    assert ended.cancelled == (running.turn_id, pending.turn_id)
    told = [(event.type, event.turn_id, event.payload["reason"]) for event in ended.events]
    assert told == [
        ("turn.session_cancelled", running.turn_id, "user_left"),
        ("turn.cancelled", running.turn_id, "session_ended"),
        ("turn.cancelled", pending.turn_id, "session_ended"),
        ("session.ended", None, "user_left"),
    ]
    with pytest.raises(LeaseLost):
        await world.complete(claimed.attempt)
    again = await world.end(session.session_id, "another reason")
    assert (again.end_reason, again.events, again.revision) == ("user_left", (), ended.revision)


async def test_events_are_numbered_without_gaps_and_the_revision_rises_only_with_what_changes_a_session(
    world: World,
) -> None:
    session = await world.session(opening=True)
    assert session.opening_turn is not None
    claimed = await world.claim(session.opening_turn.turn_id)
    await world.retry(claimed.attempt)
    claimed = await world.claim(session.opening_turn.turn_id)
    assert (await world.row("sessions", session.session_id)).revision == 1, "never on claim, lease or retry"
    await world.complete(claimed.attempt)
    await world.enqueue(session.session_id)
    await world.end(session.session_id)
    rows = await world.rows("SELECT sequence, type, revision FROM outbox ORDER BY sequence")
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert [(row.type, row.revision) for row in rows] == [
        ("turn.enqueued", 1),
        ("turn.started", None),
        ("turn.retrying", None),
        ("turn.started", None),
        ("turn.completed", 2),
        ("turn.enqueued", 3),
        ("turn.cancelled", 4),
        ("session.ended", 5),
    ]
    row = await world.row("sessions", session.session_id)
    assert (row.revision, row.last_sequence) == (5, len(rows))


async def test_no_organization_can_touch_the_turns_of_another(world: World) -> None:
    stranger = await World.make(world.database, "Stranger")
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    assert await stranger.try_claim(turn.turn_id) is None
    with pytest.raises(SessionNotFound):
        await stranger.enqueue(session.session_id)
    with pytest.raises(SessionNotFound):
        await stranger.end(session.session_id)
    claimed = await world.claim(turn.turn_id)
    forged = Attempt(stranger.organization_id, session.session_id, turn.turn_id, claimed.attempt.attempt)
    with pytest.raises(LeaseLost):
        await stranger.complete(forged)
