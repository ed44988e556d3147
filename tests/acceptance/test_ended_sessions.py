"""The end of a session reaches a webhook through the real stack: API, Celery, worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.web_server import web_server
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from tests.system import Caller, System


async def test_a_webhook_is_told_of_a_session_that_the_caller_ends(caller: Caller, system: System) -> None:
    async with web_server() as crm:
        crm.answer("/ended", {})
        graph: dict[str, Any] = {
            "nodes": [
                {
                    "id": "start",
                    "type": "startCall",
                    "data": {"name": "Start", "prompt": "Be brief.", "greeting": "Hello."},
                },
                {"id": "hook", "type": "webhook", "data": {"name": "CRM", "endpoint_url": f"{crm.url}/ended"}},
            ],
            "edges": [],
        }
        workflow = await caller.client.create_workflow("Desk", graph)
        async with caller.world.database.transaction() as connection:
            await change_settings(
                connection, organization_id=workflow.organization_id, changes={"allowed_hosts": [crm.host]}
            )
        session = await caller.client.create_session(workflow.id)
        assert session.opening_turn is not None
        await caller.client.wait(session.opening_turn.id)
        await caller.client.end_session(session.id, reason="done")
        async with caller.client.subscribe(session_id=session.id) as events:
            types = [event.type async for event in events]
        assert types[-3:] == ["session.ended", "session.webhook_delivered", "session.finalized"]
        (received,) = crm.received
        told = json.loads(received.body)
        assert [item["text"] for item in told["transcript"]] == ["Hello."]
        (delivery,) = (await caller.client.list_webhook_deliveries(session.id)).data
        assert (delivery.node_id, delivery.status, delivery.status_code) == ("hook", "delivered", 200)
        transcript = await caller.client.get_transcript(session.id)
        assert [item.text for item in transcript.data] == ["Hello."]
