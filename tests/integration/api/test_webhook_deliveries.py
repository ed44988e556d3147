"""How the webhooks fare that are told of a session's end, over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.world import definition
from worker.storage.completions import Delivery, SessionReference, claim_completion, end_attempt
from worker.storage.workflows import put_definition

if TYPE_CHECKING:
    from uuid import UUID

    from tests.api import Tenant
    from tests.world import World

BUSY = Delivery(node_id="crm", status="retrying", attempts=2, status_code=503, error="It is busy.", due_in_seconds=600)
TOLD = Delivery(node_id="desk", status="delivered", attempts=1, status_code=204)


async def ended(world: World) -> UUID:
    """A session that ended on an agent with webhooks."""
    wanted = definition()
    wanted["graph"]["nodes"] += [{"id": id_, "type": "webhook", "data": {"name": id_}} for id_ in ("crm", "desk")]
    async with world.database.transaction() as connection:
        await put_definition(
            connection, organization_id=world.organization_id, workflow_id=world.workflow_id, definition=wanted
        )
    session = await world.session()
    await world.end(session.session_id)
    return session.session_id


async def attempted(world: World, session_id: UUID, *deliveries: Delivery) -> None:
    """A worker has tried these deliveries and will try again."""
    reference = SessionReference(world.organization_id, session_id)
    async with world.database.transaction() as connection:
        claimed = await claim_completion(connection, reference, claimed_by="worker", lease_seconds=60)
        assert claimed is not None
        await end_attempt(connection, claimed, deliveries=deliveries, events=[], again_in_seconds=600)


async def read(api: Tenant, session_id: UUID) -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/sessions/{session_id}/webhook-deliveries")
    assert answer["session_id"] == str(session_id)
    data: list[dict[str, Any]] = answer["data"]
    return data


async def test_the_deliveries_of_a_session_say_how_they_fared_and_when_they_are_tried_again(api: Tenant) -> None:
    session_id = await ended(api.world)
    assert await read(api, session_id) == []
    await attempted(api.world, session_id, TOLD, BUSY)
    busy, told = await read(api, session_id)
    pause = datetime.fromisoformat(busy.pop("next_attempt_at")) - datetime.fromisoformat(busy.pop("attempted_at"))
    assert pause.total_seconds() == 600
    assert busy == {
        "node_id": "crm",
        "status": "retrying",
        "attempts": 2,
        "status_code": 503,
        "error": "It is busy.",
    }
    assert (told["status"], told["attempts"], told["error"], told["next_attempt_at"]) == ("delivered", 1, None, None)


async def test_the_deliveries_of_another_organizations_session_are_not_to_be_had(api: Tenant, other: Tenant) -> None:
    theirs = await ended(other.world)
    await attempted(other.world, theirs, TOLD)
    for session_id in (theirs, uuid4()):
        missing = await api.http.get(f"/v1/sessions/{session_id}/webhook-deliveries")
        assert (missing.status_code, missing.json()["code"]) == (404, "session_not_found")
