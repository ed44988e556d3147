"""Compaction and extraction through the real storage: what later turns start from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.integration.engine.talk import CLINIC
from worker.embedded.scripted_llm import Script
from worker.engine.prompts import SUMMARY_HEADING
from worker.storage.workflows import create_workflow

if TYPE_CHECKING:
    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM

LONG = "My knee hurts, and this is the whole story of it. " * 100
RULES: list[dict[str, Any]] = [
    {"when": {"system_contains": "summarise the earlier part"}, "reply": "Ada's knee hurts."},
    {"when": {"system_contains": "note down"}, "reply": '{"complaint": "knee", "since": "2 weeks"}'},
    {"when": {"user_contains": "date", "tool_offered": "book"}, "reply": [{"tool": "book"}]},
]


async def clinic(world: World, *, compaction: bool) -> World:
    """The same organization with the clinic in place of its workflow."""
    start, *others = CLINIC["nodes"]
    variables = [{"name": "complaint"}, {"name": "since", "type": "number"}]
    extracting = {**start["data"], "extraction_enabled": True, "extraction_variables": variables}
    definition = {
        "graph": {**CLINIC, "nodes": [{**start, "data": extracting}, *others]},
        "workflow_configurations": {"context_compaction_enabled": compaction},
    }
    async with world.database.transaction() as connection:
        workflow_id = await create_workflow(
            connection, organization_id=world.organization_id, name="Clinic", definition=definition
        )
    return replace(world, workflow_id=workflow_id)


async def talked(world: World, worker: Worker, llm: ScriptedLLM, *, compaction: bool) -> list[Any]:
    """Three turns, the second of which moves on; their ids."""
    llm.set_script(Script.model_validate({"rules": RULES}))
    agent = await clinic(world, compaction=compaction)
    session = await agent.session()
    turns = []
    for text in (LONG, "I want a date", "On Monday"):
        turn = await agent.enqueue(session.session_id, text)
        assert await worker.execute(turn.turn_id) == "completed"
        turns.append(turn.turn_id)
    return turns


async def events(world: World, turn_id: Any) -> list[str]:
    rows = await world.rows("SELECT type FROM outbox WHERE turn_id = :id ORDER BY sequence", id=turn_id)
    return [row.type for row in rows]


async def messages(world: World, turn_id: Any) -> list[Any]:
    rows = await world.rows("SELECT message FROM messages WHERE turn_id = :id ORDER BY ordinal", id=turn_id)
    return [row.message for row in rows]


async def test_the_turn_that_compacts_stores_the_whole_context_and_rebuilding_starts_there(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    first, second, third = await talked(world, worker, llm, compaction=True)

    stored = await messages(world, second)
    assert stored[0] == {"role": "user", "content": f"{SUMMARY_HEADING}\n\nAda's knee hurts."}
    assert [message["role"] for message in stored] == ["user", "user", "assistant", "tool", "assistant"]
    assert (await world.row("turns", second)).replaces_context
    sent = str(llm.requests[-1].body["messages"])
    assert "Ada's knee hurts." in sent
    assert "whole story" not in sent
    assert len(await messages(world, third)) == 2
    assert not (await world.row("turns", third)).replaces_context
    assert "whole story" in str(await messages(world, first))
    assert "turn.context_compacted" in await events(world, second)


async def test_without_compaction_the_turn_stores_only_what_it_added(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    _, second, _ = await talked(world, worker, llm, compaction=False)

    assert not (await world.row("turns", second)).replaces_context
    assert [message["role"] for message in await messages(world, second)] == ["user", "assistant", "tool", "assistant"]
    assert "whole story" in str(llm.requests[-1].body["messages"])


async def test_what_was_extracted_is_stored_with_its_event_and_its_tokens(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    _, second, third = await talked(world, worker, llm, compaction=True)

    learned = (await world.row("turns", third)).checkpoint["gathered_context"]
    assert learned["complaint"] == "knee"
    assert learned["extracted_variables"] == {"complaint": "knee"}
    assert "turn.variables_extracted" in await events(world, second)
    await worker.executor.drain()
    used = await world.rows("SELECT call FROM usage_entries WHERE turn_id = :id ORDER BY call", id=second)
    assert [row.call for row in used] == [1, 2, 3, 4]
