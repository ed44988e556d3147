"""The work at a session's end: planned with the end, claimed once, fenced, tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.world import definition
from worker.storage import event_log
from worker.storage.completions import (
    ClaimedCompletion,
    Delivery,
    SessionReference,
    claim_completion,
    end_attempt,
    keep_gathered_context,
    read_deliveries,
    take_overdue_completions,
)
from worker.storage.outbox import NewEvent
from worker.storage.workflows import put_definition

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

WEBHOOK = {"id": "hook", "type": "webhook", "data": {"name": "CRM", "endpoint_url": "https://crm.example/ended"}}
DONE = [NewEvent("session.finalized", None, {})]


async def with_nodes(world: World, *nodes: dict[str, Any], **start: Any) -> None:
    """Give the workflow further nodes, and its start node further data."""
    wanted = definition()
    wanted["graph"]["nodes"][0]["data"] |= start
    wanted["graph"]["nodes"] += nodes
    async with world.database.transaction() as connection:
        await put_definition(
            connection, organization_id=world.organization_id, workflow_id=world.workflow_id, definition=wanted
        )


async def ended(world: World) -> SessionReference:
    session = await world.session()
    await world.end(session.session_id)
    return SessionReference(world.organization_id, session.session_id)


async def claim(world: World, session: SessionReference, lease_seconds: float = 60.0) -> ClaimedCompletion | None:
    async with world.database.transaction() as connection:
        return await claim_completion(connection, session, claimed_by="worker", lease_seconds=lease_seconds)


async def finish(world: World, claimed: ClaimedCompletion, **values: Any) -> int:
    async with world.database.transaction() as connection:
        return len(await end_attempt(connection, claimed, **{"deliveries": [], "events": DONE, **values}))


async def planned(world: World, session_id: UUID) -> list[Any]:
    return await world.rows("SELECT * FROM session_completions WHERE session_id = :id", id=session_id)


async def test_a_session_with_a_webhook_leaves_work_behind_whoever_ends_it(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    from_outside = await ended(world)
    by_itself = await world.session()
    turn_id = await world.turn(by_itself.session_id, end_reason="user_qualified")
    ((outside,), (inside,)) = (
        await planned(world, from_outside.session_id),
        await planned(world, by_itself.session_id),
    )
    assert (outside.status, outside.turn_id) == ("pending", None)
    assert (inside.status, inside.turn_id) == ("pending", turn_id)


async def test_a_session_that_goes_on_leaves_none_and_ending_it_twice_leaves_it_once(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    session = await world.session()
    await world.turn(session.session_id)
    assert await planned(world, session.session_id) == []
    await world.end(session.session_id)
    await world.end(session.session_id)
    assert len(await planned(world, session.session_id)) == 1


async def test_where_there_is_nothing_to_do_nothing_is_planned(world: World) -> None:
    await with_nodes(world, prompt='A "webhook" \u0000 of text', extraction_enabled=False)
    assert await planned(world, (await ended(world)).session_id) == []


async def test_a_session_ended_from_outside_has_its_extraction_still_to_do_and_one_that_ended_itself_has_not(
    world: World,
) -> None:
    await with_nodes(world, extraction_enabled=True)
    assert len(await planned(world, (await ended(world)).session_id)) == 1
    session = await world.session()
    await world.turn(session.session_id, end_reason="user_qualified")
    assert await planned(world, session.session_id) == []


async def test_of_many_claims_at_once_one_succeeds(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    session = await ended(world)
    claims = await asyncio.gather(*(claim(world, session) for _ in range(4)))
    assert sum(claimed is not None for claimed in claims) == 1


async def test_an_attempt_whose_lease_ran_out_is_taken_over_and_can_write_nothing(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    session = await ended(world)
    lost = await claim(world, session, lease_seconds=0.0)
    again = await claim(world, session)
    assert lost is not None
    assert again is not None
    assert (again.id, again.attempt) == (lost.id, lost.attempt + 1)
    assert await finish(world, lost) == 0
    async with world.database.transaction() as connection:
        assert await keep_gathered_context(connection, lost, {"late": True}) is None
        assert await keep_gathered_context(connection, again, {"kept": True}) == ()
    assert await finish(world, again) == 1
    (row,) = await planned(world, session.session_id)
    assert (row.status, row.gathered_context) == ("completed", {"kept": True})


async def test_work_that_is_to_be_tried_again_waits_and_remembers_what_was_delivered(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    session = await ended(world)
    first = await claim(world, session)
    assert first is not None
    tried = Delivery(node_id="hook", status="retrying", attempts=1, status_code=503, error="It is busy.")
    await finish(world, first, deliveries=[tried], again_in_seconds=3600, events=[])
    assert await claim(world, session) is None
    await world.execute("UPDATE session_completions SET available_at = now()")
    second = await claim(world, session)
    assert second is not None
    async with world.database.statement() as connection:
        assert await read_deliveries(connection, second) == {"hook": tried}
    done = Delivery(node_id="hook", status="delivered", attempts=2, status_code=204)
    await finish(world, second, deliveries=[done])
    async with world.database.statement() as connection:
        assert await read_deliveries(connection, second) == {"hook": done}


async def test_a_sweep_takes_what_waits_too_long_once_and_others_take_others(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    sessions = {await ended(world) for _ in range(3)}

    async def sweep(after_seconds: float) -> set[SessionReference]:
        async with world.database.transaction() as connection:
            return set(
                await take_overdue_completions(connection, after_seconds=after_seconds, again_seconds=60, batch=2)
            )

    assert await sweep(3600) == set()
    first, second, third = await sweep(0), await sweep(0), await sweep(0)
    assert first | second == sessions
    assert len(first) == 2
    assert third == set()


async def test_a_log_is_finished_only_when_the_work_at_the_end_is_reported_in_it(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    session = await ended(world)

    async def finished() -> bool:
        async with world.database.statement() as connection:
            log = await event_log.session_events(
                connection,
                organization_id=world.organization_id,
                session_id=session.session_id,
                after=0,
                limit=10,
            )
        assert log is not None
        return log.finished

    assert not await finished()
    claimed = await claim(world, session)
    assert claimed is not None
    await finish(world, claimed)
    assert await finished()


async def test_nobody_claims_for_another_organization(world: World) -> None:
    await with_nodes(world, WEBHOOK)
    session = await ended(world)
    assert await claim(world, SessionReference(uuid4(), session.session_id)) is None
