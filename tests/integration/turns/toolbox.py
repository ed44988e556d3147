"""Stores tools of an organization, lets its agent carry them, and reads what came of their calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.integration.turns.test_executor import play
from tests.world import definition
from worker.storage.pins import pin_tools
from worker.storage.tools import create_tool, put_tool
from worker.storage.workflows import put_definition
from worker.workflow.tool_definition import parse_tool, stored_form
from worker.workflow.validation import load_definition

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM


class Toolbox:
    """The tools of an organization."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.owner: dict[str, Any] = {"organization_id": world.organization_id}

    async def create(self, written: dict[str, Any], **given: Any) -> UUID:
        async with self.world.database.transaction() as connection:
            tool = await create_tool(connection, **self.owner, definition=stored_form(parse_tool(written)), **given)
        return tool.id

    async def change(self, tool_id: UUID, written: dict[str, Any]) -> None:
        async with self.world.database.transaction() as connection:
            await put_tool(connection, **self.owner, tool_id=tool_id, definition=stored_form(parse_tool(written)))

    async def carry(
        self, *tool_ids: UUID | str, filters: dict[str, list[str]] | None = None, **configurations: Any
    ) -> None:
        """Store the agent's next definition, in which its one node carries these tools."""
        document = definition()
        data = document["graph"]["nodes"][0]["data"]
        data["tool_uuids"] = [str(tool_id) for tool_id in tool_ids]
        data["mcp_tool_filters"] = filters or {}
        document["workflow_configurations"] = configurations
        async with self.world.database.transaction() as connection:
            pins = await pin_tools(connection, **self.owner, definition=load_definition(document))
            assert pins.problems == []
            await put_definition(
                connection,
                **self.owner,
                workflow_id=self.world.workflow_id,
                definition=document,
                tool_pins=pins.versions,
            )

    async def allow(self, host: str) -> None:
        """Let the organization's requests reach a private host."""
        await self.world.execute(
            "UPDATE organizations SET settings = :settings WHERE id = :id",
            settings=json.dumps({"allowed_hosts": [host]}),
            id=self.world.organization_id,
        )

    async def session(self) -> UUID:
        created = await self.world.session()
        session_id: UUID = created.session_id
        return session_id

    async def run(self, worker: Worker, session_id: UUID) -> UUID:
        """Run a turn of a session."""
        turn = await self.world.enqueue(session_id)
        assert await worker.execute(turn.turn_id) == "completed"
        return turn.turn_id

    async def payloads(self, turn_id: UUID, type_: str) -> list[dict[str, Any]]:
        """What the events of one type say that a turn left behind."""
        statement = "SELECT payload FROM outbox WHERE turn_id = :id AND type = :type ORDER BY sequence"
        return [row.payload for row in await self.world.rows(statement, id=turn_id, type=type_)]

    async def results(self, turn_id: UUID) -> list[Any]:
        """What the tools of a turn answered."""
        return [payload["result"] for payload in await self.payloads(turn_id, "turn.tool_call_result")]


def call_once(llm: ScriptedLLM, name: str, /, **arguments: Any) -> None:
    """Let the model call a tool, and then be done."""
    play(llm, {"when": {"after_tool_result": name}, "reply": "Done."}, {"reply": [{"tool": name, "input": arguments}]})
