"""Tools through the real system: created, carried, called, changed, deleted, while conversations go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import worker.embedded
from worker.embedded.scripted_llm import Script

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system import Caller, System

_EXAMPLES = Path(worker.embedded.__file__).parent / "examples"


def agent(tool_id: UUID) -> dict[str, Any]:
    """One node, in which the agent can call the tool."""
    data = {"name": "Desk", "prompt": "Help.", "tool_uuids": [str(tool_id)]}
    return {"nodes": [{"id": "desk", "type": "startCall", "data": data}], "edges": []}


def greets_in(zone: str) -> dict[str, Any]:
    return {"type": "current_time", "name": "clock", "description": "Tell the time.", "zone": zone}


async def zone_told(caller: Caller, session_id: UUID) -> str:
    """Which zone the agent's clock is set to in a session."""
    turn = await caller.ask(session_id, "What time is it?")
    assert turn.status == "completed"
    told = [event for event in await caller.log_of(session_id) if event.type == "turn.tool_call_result"]
    assert told[-1].payload is not None
    zone: str = told[-1].payload["result"]["zone"]
    return zone


async def test_a_running_session_keeps_its_version_of_a_tool_until_a_new_definition_takes_the_new_one(
    caller: Caller, system: System
) -> None:
    system.play(
        {"when": {"after_tool_result": "clock"}, "reply": "{tool_result}"},
        {"when": {"tool_offered": "clock"}, "reply": [{"tool": "clock"}]},
    )
    client = caller.client
    tool = await client.create_tool(greets_in("Asia/Tokyo"))
    workflow = await client.create_workflow("Desk", agent(tool.id))
    assert workflow.tool_pins == {str(tool.id): 1}
    running = (await client.create_session(workflow.id, begins_with="user")).id
    assert await zone_told(caller, running) == "Asia/Tokyo"

    await client.put_tool(tool.id, greets_in("Europe/Berlin"))
    assert await zone_told(caller, running) == "Asia/Tokyo"
    begun_since = (await client.create_session(workflow.id, begins_with="user")).id
    assert await zone_told(caller, begun_since) == "Asia/Tokyo"

    changed = await client.put_workflow(workflow.id, agent(tool.id))
    assert (changed.number, changed.tool_pins) == (2, {str(tool.id): 2})
    newest = (await client.create_session(workflow.id, begins_with="user")).id
    assert await zone_told(caller, newest) == "Europe/Berlin"

    await client.delete_tool(tool.id)
    assert await zone_told(caller, running) == "Asia/Tokyo"
    assert await zone_told(caller, newest) == "Europe/Berlin"


async def test_the_example_with_tools_works_out_a_bill_and_hands_over(caller: Caller, system: System) -> None:
    system.llm.set_script(Script.from_file(_EXAMPLES / "billing_script.json"))
    for tool in json.loads((_EXAMPLES / "billing_tools.json").read_text()):
        await caller.client.create_tool(tool["definition"], tool_id=tool["id"])
    workflow = await caller.client.create_workflow("Billing", json.loads((_EXAMPLES / "billing.json").read_text()))
    session = await caller.client.create_session(workflow.id)
    assert session.opening_turn is not None
    await caller.client.wait(session.opening_turn.id)
    bill = await caller.ask(session.id, "What do three visits at 48.90 cost with 19 % VAT?")
    assert bill.assistant_text == "Three visits come to 174.573 with VAT, so 174.57."
    over = await caller.ask(session.id, "That is too much. I want to speak to someone.")
    assert over.assistant_text == "I am passing you on to a colleague, who will read what we wrote."
    ended = await caller.client.get_session(session.id)
    assert (ended.state, ended.end_reason) == ("completed", "handed_over")
    (handed,) = [event for event in await caller.log_of(session.id) if event.type == "turn.hand_over"]
    assert handed.payload == {
        "reason": "handed_over",
        "destination": "billing-desk",
        "summary": "Finds three visits at 174.57 too expensive.",
    }
