"""One organization's backlog does not stand in another's way, through the real queue and real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system import WORKERS, System, calling

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World
    from worker.embedded.postgres import EmbeddedPostgres

BACKLOG = 10_000
PLACES = 2 * WORKERS


async def large_backlog(world: World) -> None:
    """So many sessions, each with a message that waits for a worker."""
    await world.session()
    await world.execute(
        """
        WITH one AS (SELECT * FROM sessions WHERE organization_id = :organization_id LIMIT 1), added AS (
            INSERT INTO sessions (id, organization_id, workflow_id, definition_id, last_position)
            SELECT gen_random_uuid(), one.organization_id, one.workflow_id, one.definition_id, 1
            FROM one, generate_series(1, :count)
            RETURNING id, organization_id
        )
        INSERT INTO turns (id, organization_id, session_id, position, waiting, user_messages)
        SELECT gen_random_uuid(), organization_id, id, 1, true, '[{"text": "One of many."}]' FROM added
        """,
        organization_id=world.organization_id,
        count=BACKLOG,
    )


async def test_a_single_turn_is_among_the_next_that_run_although_ten_thousand_of_another_organization_came_before(
    tmp_path: Path, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    with System(tmp_path / "redis", postgres_server, database_url, concurrency=PLACES // WORKERS) as system:
        system.play({"times": PLACES, "hold": "first", "reply": "Long."}, {"reply": "Short."})
        async with calling(system) as many, calling(system) as single:
            await large_backlog(many.world)
            await system.llm.wait_for_request(count=PLACES)
            session = await single.session()
            turn = await single.client.enqueue(session, "Just one.")
            rung = "SELECT count(*) FROM turns WHERE status = 'pending' AND rung_at IS NOT NULL"
            assert await many.world.rows(rung) == [(0,)], "no worker has room, so nothing stands in Celery's queue"
            system.llm.release("first")
            assert (await single.client.wait(turn.id, timeout_seconds=60)).status == "completed"
            asked = [request.user_text for request in system.llm.requests]
            # All places may become free before the first of them is given away again.
            assert asked.index("Just one.") < 2 * PLACES
