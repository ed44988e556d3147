"""Thirty turns through everything that a turn can do, twice: what is stored is the same, so nothing hangs on chance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.chaos.harness.effects import Effects
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system import Caller, System

ROUND: Final = (
    "Hello there.",
    "calc 12 * {n}",
    "order {n}",
    "Where may I park?",
    "book a table for {n}",
    "calc 100 / {n}",
    "order {n} for the table",
    "Tell me more. " + "I would like to know everything there is to know. " * 20,
    "back to the desk",
    "Thank you.",
)
"""What the user says in one round, from the desk to the table and back; three rounds are thirty turns."""

PARKING = "# Getting here\n\nParking is free behind the house, at 12 Mill Lane.\n"
RULES: Final[tuple[dict[str, Any], ...]] = (
    {
        "when": {"system_contains": "note down what it says about some variables"},
        "reply": '{"guests": "3", "name": null}',
    },
    {"when": {"system_contains": "summarise the earlier part"}, "reply": "The user ordered and asked about parking."},
    {"when": {"tool_result_contains": "Mill Lane"}, "reply": "Behind the house, at 12 Mill Lane."},
    {"when": {"after_tool_result": "calculator"}, "reply": "That makes {tool_result}."},
    {"when": {"after_tool_result": "place_order"}, "reply": "Ordered."},
    {"when": {"after_tool_result": "enter"}, "reply": "Welcome."},
    {"when": {"after_tool_result": "book"}, "reply": "For when?"},
    {"when": {"after_tool_result": "back"}, "reply": "Back at the desk."},
    {
        "when": {"user_matches": r"^calc (?P<sum>.+)$"},
        "reply": [{"text": "Let me see."}, {"tool": "calculator", "input": {"expression": "{sum}"}}],
    },
    {
        "when": {"user_matches": r"^order (?P<what>.+)$"},
        "reply": [
            {"tool": "place_order", "input": {"order": "{what} first"}},
            {"tool": "place_order", "input": {"order": "{what} second"}},
        ],
    },
    {
        "when": {"user_contains": "park"},
        "reply": [{"tool": "retrieve_from_knowledge_base", "input": {"query": "parking"}}],
    },
    {"when": {"user_contains": "book a table", "tool_offered": "book"}, "reply": [{"tool": "book"}]},
    {"when": {"user_contains": "back to", "tool_offered": "back"}, "reply": [{"tool": "back"}]},
    {"when": {"tool_offered": "enter"}, "reply": [{"tool": "enter"}]},
    {"reply": "You said: {user}"},
)


def tools(host: str) -> tuple[dict[str, Any], ...]:
    return (
        {"type": "calculator", "name": "calculator", "description": "Calculates."},
        {
            "type": "http_request",
            "name": "place_order",
            "description": "Places an order.",
            "method": "POST",
            "url": f"http://{host}/orders",
            "parameters": [{"name": "order", "type": "string", "required": True}],
        },
    )


def definition(tool_ids: list[str], document_id: str) -> dict[str, Any]:
    carried = {
        "tool_uuids": tool_ids,
        "document_uuids": [document_id],
        "extraction_enabled": True,
        "extraction_prompt": "Note who comes.",
        "extraction_variables": [{"name": "guests", "type": "number"}, {"name": "name", "type": "string"}],
    }
    nodes = [
        {"id": "door", "type": "startCall", "data": {"name": "Door", "prompt": "Welcome {{ name }}."}},
        {"id": "desk", "type": "agentNode", "data": {"name": "Desk", "prompt": "Help {{ name }}.", **carried}},
        {
            "id": "table",
            "type": "agentNode",
            "data": {"name": "Table", "prompt": "{{ gathered_context.guests }}.", **carried},
        },
    ]
    edges = [
        {"id": "0", "source": "door", "target": "desk", "data": {"label": "Enter", "condition": "Always."}},
        {
            "id": "1",
            "source": "desk",
            "target": "table",
            "data": {"label": "Book", "condition": "wants a table", "transition_speech": "One moment, {{ name }}."},
        },
        {"id": "2", "source": "table", "target": "desk", "data": {"label": "Back", "condition": "is done"}},
    ]
    return {
        "graph": {"nodes": nodes, "edges": edges},
        "workflow_configurations": {"context_compaction_enabled": True},
    }


@pytest.mark.timeout(300)
async def test_thirty_turns_through_loops_tools_extraction_a_knowledge_base_and_compaction_are_stored_the_same_twice(
    caller: Caller, system: System
) -> None:
    async with Effects() as effects:
        workflow_id = await set_up(caller, system, effects)
        first, second = [await converse(caller, workflow_id) for _ in range(2)]

    assert first == second
    assert len(first["turns"]) == 30
    said = "\n".join(str(turn["assistant_text"]) for turn in first["turns"])
    for part, times in (
        ("That makes", 6),
        ("Ordered.", 6),
        ("12 Mill Lane", 3),
        ("One moment, Ada.", 3),
        ("Back at", 3),
    ):
        assert said.count(part) == times, part
    kinds = {event["type"] for event in first["events"]}
    assert {
        "turn.variables_extracted",
        "turn.context_compacted",
        "turn.tool_call_result",
        "turn.node_transition",
    } <= kinds
    assert first["gathered_context"]["extracted_variables"]["guests"] == 3
    assert [turn["replaces_context"] for turn in first["turns"]].count(True) >= 3
    assert len(effects.orders) == 2 * 12


async def set_up(caller: Caller, system: System, effects: Effects) -> UUID:
    system.play(*RULES)
    async with caller.world.database.transaction() as connection:
        await change_settings(
            connection, organization_id=caller.world.organization_id, changes={"allowed_hosts": [effects.host]}
        )
    tool_ids = [str((await caller.client.create_tool(tool)).id) for tool in tools(effects.host)]
    uploaded = await caller.client.upload_document(PARKING, filename="parking.md")
    document = await caller.client.wait_for_document(uploaded.id, timeout_seconds=60)
    assert document.status == "ready"
    return (await caller.client.create_workflow("House", definition(tool_ids, str(document.id)))).id


async def converse(caller: Caller, workflow_id: UUID) -> dict[str, Any]:
    """Hold the conversation, and read everything that is stored of it but times and random ids."""
    created = await caller.client.create_session(workflow_id, initial_context={"name": "Ada"}, begins_with="user")
    for number in range(1, 4):
        for text in ROUND:
            turn = await caller.ask(created.id, text.format(n=number))
            assert turn.status == "completed", turn.error
    rows = await caller.world.rows(
        "SELECT * FROM turns WHERE session_id = :session_id ORDER BY position", session_id=created.id
    )
    names = Names()
    names.learn(str(created.id), "session")
    for row in rows:
        names.learn(str(row.id), f"turn {row.position}")
    messages = await caller.world.rows(
        "SELECT turns.position, messages.message FROM messages JOIN turns ON turns.id = messages.turn_id"
        " WHERE turns.session_id = :session_id ORDER BY turns.position, messages.ordinal",
        session_id=created.id,
    )
    session = await caller.client.get_session(created.id)
    used = [(await caller.client.get_turn(row.id)).usage["llm"] for row in rows]
    stored: dict[str, Any] = names.replace(
        {
            "turns": [
                {
                    name: getattr(row, name)
                    for name in ("assistant_text", "user_messages", "status", "checkpoint", "replaces_context")
                }
                for row in rows
            ],
            "messages": [[row.position, row.message] for row in messages],
            "events": [
                {"type": event.type, "payload": event.payload, "sequence": event.sequence}
                for event in await caller.log_of(created.id)
            ],
            "gathered_context": session.gathered_context,
            "usage": used,
        }
    )
    return stored


class Names:
    """Puts names in the place of ids that are random, the same id always the same name."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def learn(self, id_: str, name: str) -> None:
        self._names[id_] = name

    def replace(self, value: Any) -> Any:
        """The value with every id that is known, and every id of a tool call, replaced."""
        if isinstance(value, dict):
            return {key: self.replace(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replace(item) for item in value]
        if isinstance(value, str) and (value in self._names or re.fullmatch(r"toolu_\w+", value)):
            return self._names.setdefault(value, f"call {len(self._names)}")
        return value
