"""The tools of a node in a running turn: pinned or followed, their credentials, and what they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import event

from tests.integration.engine.test_mcp import Crm, running
from tests.integration.turns.test_executor import play
from tests.integration.turns.toolbox import Toolbox, call_once
from tests.web_server import web_server
from tests.world import definition
from worker.storage.credentials import create_credential
from worker.storage.secrets import Vault
from worker.storage.tools import delete_tool
from worker.storage.workflows import put_definition
from worker.workflow.credential import BearerCredential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.integration.turns.conftest import Worker
    from tests.web_server import WebServer
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.settings import Settings

KEY = SecretStr(Fernet.generate_key().decode())
TOKEN = "t0ken-of-the-clinic"
CALCULATOR = {"type": "calculator", "name": "sums"}


@pytest.fixture
def worker_settings(worker_settings: Settings) -> Settings:
    return worker_settings.model_copy(update={"secret_key": KEY})


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as server:
        yield server


@pytest.fixture
def toolbox(world: World) -> Toolbox:
    return Toolbox(world)


async def test_a_node_offers_its_tools_and_a_call_is_answered_within_the_turn(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    await toolbox.carry(await toolbox.create(CALCULATOR), await toolbox.create({"type": "current_time"}))
    play(
        llm,
        {"when": {"after_tool_result": "sums"}, "reply": "It is {tool_result}"},
        {"reply": [{"tool": "sums", "input": {"expression": "6 * 7"}}]},
    )
    turn_id = await toolbox.run(worker, await toolbox.session())
    assert await toolbox.results(turn_id) == [{"status": "success", "result": "42"}]
    assert (await world.row("turns", turn_id)).assistant_text == 'It is {"status": "success", "result": "42"}'
    assert set(llm.requests[0].tools) == {"sums", "current_time"}


async def test_a_running_session_keeps_the_version_that_its_definition_pins(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    tool_id = await toolbox.create(CALCULATOR)
    await toolbox.carry(tool_id)
    running = await toolbox.session()
    await toolbox.run(worker, running)
    await toolbox.change(tool_id, CALCULATOR | {"name": "calculate"})
    await toolbox.run(worker, running)
    await toolbox.carry(tool_id)
    await toolbox.run(worker, running)
    await toolbox.run(worker, await toolbox.session())
    assert [request.tools for request in llm.requests] == [{"sums"}, {"sums"}, {"sums"}, {"calculate"}]


async def test_a_definition_that_follows_its_tools_takes_the_newest_version_at_each_turn(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    tool_id, other = await toolbox.create(CALCULATOR), await toolbox.create({"type": "current_time"})
    await toolbox.carry(tool_id, other, tool_versions="latest")
    running = await toolbox.session()
    await toolbox.run(worker, running)
    await toolbox.change(tool_id, CALCULATOR | {"name": "calculate"})
    await toolbox.run(worker, running)
    await toolbox.change(tool_id, CALCULATOR | {"name": "current_time"})  # the name of the other: the first counts
    await toolbox.run(worker, running)
    assert [request.tools for request in llm.requests] == [
        {"sums", "current_time"},
        {"calculate", "current_time"},
        {"current_time"},
    ]


@pytest.mark.parametrize("tool_versions", ["pinned", "latest"])
async def test_a_deleted_tool_goes_on_in_the_sessions_that_have_it(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox, tool_versions: str
) -> None:
    tool_id = await toolbox.create(CALCULATOR)
    await toolbox.carry(tool_id, tool_versions=tool_versions)
    async with world.database.transaction() as connection:
        await delete_tool(connection, **toolbox.owner, tool_id=tool_id)
    await toolbox.run(worker, await toolbox.session())
    assert llm.requests[0].tools == {"sums"}


async def test_what_this_release_cannot_read_is_left_out_and_the_turn_goes_on(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    await toolbox.carry(await toolbox.create(CALCULATOR), await toolbox.create({"type": "current_time"}))
    await world.execute(
        """UPDATE tool_versions SET definition = '{"type": "telepathy"}' WHERE definition->>'name' = 'sums'"""
    )
    await toolbox.run(worker, await toolbox.session())
    assert llm.requests[0].tools == {"current_time"}


async def test_a_definition_from_before_there_were_tools_runs_without_those_it_mentions(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    document = definition()
    document["graph"]["nodes"][0]["data"]["tool_uuids"] = [str(uuid4()), "calc"]
    async with world.database.transaction() as connection:
        await put_definition(
            connection, organization_id=world.organization_id, workflow_id=world.workflow_id, definition=document
        )
    await toolbox.run(worker, await toolbox.session())
    assert llm.requests[0].tools == set()


async def test_a_turn_asks_the_database_for_nothing_more_because_of_its_pinned_tools(
    world: World, make_worker: Callable[..., AbstractAsyncContextManager[Worker]], toolbox: Toolbox
) -> None:
    plain = [await toolbox.session() for _ in range(2)]
    await toolbox.carry(await toolbox.create(CALCULATOR))
    carrying = [await toolbox.session() for _ in range(2)]
    async with make_worker() as worker:
        plain_turns = [await statements(toolbox, worker, session_id) for session_id in plain]
        carrying_turns = [await statements(toolbox, worker, session_id) for session_id in carrying]
    # The tools are read once in the process's life, with their definition; from then on there is no difference.
    assert [sum("tool_versions" in statement for statement in turn) for turn in carrying_turns] == [1, 0]
    assert sorted(carrying_turns[1]) == sorted(plain_turns[1])


async def statements(toolbox: Toolbox, worker: Worker, session_id: Any) -> list[str]:
    """What a turn asks of the database."""
    seen: list[str] = []
    engine = worker.executor._database._engine.sync_engine

    def note(*call: Any) -> None:
        seen.append(call[2])

    event.listen(engine, "before_cursor_execute", note)
    await toolbox.run(worker, session_id)
    await worker.dispatch.drain()
    event.remove(engine, "before_cursor_execute", note)
    return seen


async def http_tool(toolbox: Toolbox, server: WebServer, **fields: Any) -> UUID:
    """A tool that asks the server, which the organization allows, with a credential."""
    await toolbox.allow(server.host)
    written = {
        "type": "http_request",
        "name": "look_up",
        "description": "Look up.",
        "method": "POST",
        "url": f"{server.url}/look-up",
        "credential": "desk",
        **fields,
    }
    return await toolbox.create(written)


async def test_a_credential_is_looked_up_when_a_tool_is_called_and_shows_nowhere(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox, server: WebServer
) -> None:
    server.answer("/look-up", {"found": True})
    await toolbox.carry(await http_tool(toolbox, server))
    call_once(llm, "look_up")
    async with world.database.transaction() as connection:
        credential = BearerCredential(kind="bearer", token=SecretStr(TOKEN))
        await create_credential(connection, Vault(KEY), **toolbox.owner, name="desk", credential=credential)
    turn_id = await toolbox.run(worker, await toolbox.session())
    assert await toolbox.results(turn_id) == [{"status": "success", "status_code": 200, "data": {"found": True}}]
    assert server.received[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert UUID(server.received[0].headers["Idempotency-Key"]).version == 5
    rows = await world.rows("SELECT * FROM outbox")
    rows += await world.rows("SELECT * FROM messages") + await world.rows("SELECT * FROM turns")
    assert TOKEN not in str(rows)
    assert TOKEN not in str([request.body for request in llm.requests])


async def test_a_credential_that_is_gone_is_an_error_that_the_model_sees(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox, server: WebServer
) -> None:
    await toolbox.carry(await http_tool(toolbox, server))
    call_once(llm, "look_up")
    (result,) = await toolbox.results(await toolbox.run(worker, await toolbox.session()))
    assert (result["status"], "'desk'" in result["message"]) == ("error", True)
    assert server.received == []


async def test_handing_over_ends_the_session_with_an_event_that_another_service_can_act_on(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    written = {"type": "hand_over", "message": "A colleague comes.", "destination": "desk", "reason": "asked_for_human"}
    await toolbox.carry(await toolbox.create(written))
    call_once(llm, "hand_over", summary="Wants a refund.")
    session_id = await toolbox.session()
    turn_id = await toolbox.run(worker, session_id)
    assert (await world.row("turns", turn_id)).assistant_text == "A colleague comes."
    ended = await world.row("sessions", session_id)
    assert (ended.state, ended.end_reason) == ("completed", "asked_for_human")
    context = (await world.row("turns", turn_id)).checkpoint["gathered_context"]
    assert (context["call_disposition"], context["call_tags"]) == ("asked_for_human", ["asked_for_human"])
    (reported,) = await toolbox.payloads(turn_id, "turn.hand_over")
    assert reported == {"reason": "asked_for_human", "destination": "desk", "summary": "Wants a refund."}
    assert len(llm.requests) == 1


async def test_ending_the_conversation_says_its_message_and_ends_the_session_with_its_reason(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    await toolbox.carry(await toolbox.create({"type": "end_conversation", "message": "Goodbye.", "reason": "all_said"}))
    call_once(llm, "end_conversation")
    session_id = await toolbox.session()
    turn_id = await toolbox.run(worker, session_id)
    assert (await world.row("turns", turn_id)).assistant_text == "Goodbye."
    assert (await world.row("sessions", session_id)).end_reason == "all_said"
    assert len(llm.requests) == 1


async def test_a_node_offers_those_tools_of_an_mcp_server_that_its_filter_names(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    with running(Crm("streamable_http")) as crm:
        await toolbox.allow(f"127.0.0.1:{crm.port}")
        tool_id = await toolbox.create({"type": "mcp_server", "name": "crm", "url": crm.definition.url})
        await toolbox.carry(tool_id, filters={str(tool_id).upper(): ["find"]})
        call_once(llm, "crm__find", name="Ada")
        turn_id = await toolbox.run(worker, await toolbox.session())
        assert llm.requests[0].tools == {"crm__find"}
        assert crm.calls == [("find", {"name": "Ada", "limit": 1})]
    (result,) = await toolbox.results(turn_id)
    assert result["status"] == "success"


async def test_an_mcp_server_that_is_down_is_an_event_and_the_turn_goes_on_without_its_tools(
    world: World, worker: Worker, llm: ScriptedLLM, toolbox: Toolbox
) -> None:
    written = {"type": "mcp_server", "name": "crm", "url": "http://127.0.0.1:9/mcp"}
    await toolbox.carry(await toolbox.create(written), await toolbox.create(CALCULATOR))
    turn_id = await toolbox.run(worker, await toolbox.session())
    assert llm.requests[0].tools == {"sums"}
    (reported,) = await toolbox.payloads(turn_id, "turn.tools_unavailable")
    assert reported["server"] == "crm"
