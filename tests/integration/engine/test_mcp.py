"""The tools of real MCP servers, over both transports."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from tests.integration.engine.talk import ANTHROPIC
from tests.integration.engine.tool_calls import NOW, call
from worker.engine.tools.mcp import LISTED_SECONDS, UNREACHABLE_SECONDS, McpServers, tool_name
from worker.engine.web.access import WebAccess
from worker.engine.web.client import WebClient
from worker.workflow.tool_definition import McpServerDefinition
from worker.workflow.web_address import NO_HOSTS, AllowedHosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from tests.integration.engine.talk import Talk
    from worker.conversation.event import TurnEvent
    from worker.engine.tools.mcp import McpTurn
    from worker.engine.tools.tool import Tool

TOKEN = "m3p-s3cret"


class Address(BaseModel):
    """Where a customer lives."""

    city: str


@dataclass
class Crm:
    """An MCP server of a customer register, and what it was asked."""

    transport: str
    port: int = 0
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def definition(self) -> McpServerDefinition:
        return self.defined()

    def defined(self, **fields: Any) -> McpServerDefinition:
        path = "sse" if self.transport == "sse" else "mcp"
        values = {
            "type": "mcp_server",
            "name": "crm",
            "url": f"http://127.0.0.1:{self.port}/{path}",
            "transport": self.transport,
        }
        return McpServerDefinition.model_validate({**values, **fields})

    def app(self) -> Any:
        server = MCPServer("crm")

        @server.tool()
        def find(name: str, limit: int = 1) -> dict[str, Any]:
            """Find a customer."""
            self.calls.append(("find", {"name": name, "limit": limit}))
            return {"name": name, "limit": limit}

        @server.tool(name="notes.read")
        def read_notes(context: Context) -> str:
            """Read the notes."""
            meta: Any = context.request_context.meta
            self.calls.append(("notes.read", {"key": meta["idempotencyKey"]}))
            return "Likes tea."

        @server.tool()
        def move(to: Address) -> str:
            """Note where a customer lives now."""
            return to.city

        @server.tool()
        def refuse() -> str:
            """Never works."""
            raise ToolError("The register is closed.")

        @server.tool()
        async def hang() -> str:
            """Never answers."""
            await asyncio.to_thread(self.held.wait)
            return "late"

        app = server.sse_app() if self.transport == "sse" else server.streamable_http_app()
        return _Recording(app, self.requests)


@dataclass
class _Recording:
    app: Any
    requests: list[dict[str, str]]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.requests.append({key.decode(): value.decode() for key, value in scope["headers"]})
        await self.app(scope, receive, send)


@contextmanager
def running(crm: Crm) -> Iterator[Crm]:
    """Serve from a thread and loop of its own, as a server elsewhere would."""
    config = uvicorn.Config(crm.app(), host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    socket.listen()  # who connects before the server runs waits
    crm.port = socket.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield crm
    finally:
        crm.held.set()
        server.should_exit = True
        thread.join()
        socket.close()


@pytest.fixture(params=["streamable_http", "sse"])
def crm(request: pytest.FixtureRequest) -> Iterator[Crm]:
    with running(Crm(request.param)) as crm:
        yield crm


@pytest.fixture
async def access(crm: Crm) -> AsyncIterator[WebAccess]:
    async def credentials(name: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {TOKEN}"}

    client = WebClient()
    yield WebAccess(client, credentials, AllowedHosts.of([f"127.0.0.1:{crm.port}"]))
    await client.close()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def servers() -> AsyncIterator[McpServers]:
    servers = McpServers()
    yield servers
    await servers.close()


@pytest.fixture
async def turn(servers: McpServers, access: WebAccess) -> AsyncIterator[McpTurn]:
    async with servers.turn(access) as turn:
        yield turn


@dataclass
class Offered:
    tools: dict[str, Tool]
    events: list[TurnEvent]


async def offered(turn: McpTurn, definition: McpServerDefinition, only: Sequence[str] | None = None) -> Offered:
    events: list[TurnEvent] = []
    tools = await turn.tools(definition, only=only, report=events.append, now=NOW)
    return Offered({tool.name: tool for tool in tools}, events)


async def test_a_servers_tools_are_offered_with_their_parameters(turn: McpTurn, crm: Crm) -> None:
    found = await offered(turn, crm.definition)
    assert found.events == []
    assert set(found.tools) == {"crm__find", tool_name("crm", "notes.read"), "crm__move", "crm__refuse", "crm__hang"}
    find = found.tools["crm__find"]
    assert find.description == "Find a customer."
    assert list(find.properties) == ["name", "limit"]
    assert list(find.required) == ["name"]


async def test_a_parameter_with_fields_of_its_own_is_offered_without_references(turn: McpTurn, crm: Crm) -> None:
    move = (await offered(turn, crm.definition)).tools["crm__move"]
    assert "$ref" not in str(move.properties)
    to: Any = move.properties["to"]
    assert to["properties"]["city"]["type"] == "string"


async def test_a_call_reaches_the_server_and_its_result_is_json(turn: McpTurn, crm: Crm) -> None:
    tools = (await offered(turn, crm.definition)).tools
    found = await call(tools["crm__find"], {"name": "Ada"})
    assert found.result == {"status": "success", "data": {"name": "Ada", "limit": 1}}
    notes: Any = (await call(tools[tool_name("crm", "notes.read")], idempotency_key="key-7")).result
    assert notes["status"] == "success"
    assert "Likes tea." in str(notes["data"])
    assert crm.calls == [("find", {"name": "Ada", "limit": 1}), ("notes.read", {"key": "key-7"})]


async def test_a_tool_that_fails_is_an_error_with_what_the_server_says(turn: McpTurn, crm: Crm) -> None:
    tools = (await offered(turn, crm.definition)).tools
    refused: Any = (await call(tools["crm__refuse"])).result
    assert refused["status"] == "error"
    assert "The register is closed." in refused["data"]
    wrong: Any = (await call(tools["crm__find"], {"name": "Ada", "limit": "many"})).result
    assert wrong["status"] == "error"


async def test_a_node_is_offered_what_its_filter_names_and_told_of_what_is_not_there(turn: McpTurn, crm: Crm) -> None:
    found = await offered(turn, crm.definition, only=["find", "gone"])
    assert list(found.tools) == ["crm__find"]
    (event,) = found.events
    assert event.type == "tools_unavailable"
    assert "gone" in str(event.payload["message"])


async def test_the_credential_goes_along_with_every_request(turn: McpTurn, crm: Crm) -> None:
    tools = (await offered(turn, crm.defined(credential="crm"))).tools
    await call(tools["crm__find"], {"name": "Ada"})
    assert {request.get("authorization") for request in crm.requests} == {f"Bearer {TOKEN}"}


async def test_a_server_at_a_private_address_is_not_reached_unless_it_is_allowed(
    servers: McpServers, access: WebAccess, crm: Crm
) -> None:
    forbidden = WebAccess(access.client, access.credentials, NO_HOSTS)
    async with servers.turn(access) as turn:
        assert (await offered(turn, crm.definition)).tools
    asked = len(crm.requests)
    async with servers.turn(forbidden) as turn:
        found = await offered(turn, crm.definition)
    assert found.tools == {}
    assert "allowed hosts" in str(found.events[0].payload["message"])
    assert len(crm.requests) == asked


async def test_a_list_is_read_once_for_many_turns_and_again_when_it_is_old(access: WebAccess, crm: Crm) -> None:
    clock = Clock()
    servers = McpServers(clock=clock)

    async def ask() -> int:
        async with servers.turn(access) as turn:
            await asyncio.gather(*(offered(turn, crm.definition) for _ in range(5)))
        return len(crm.requests)

    first = await ask()
    assert await ask() == first
    clock.now += LISTED_SECONDS
    assert await ask() == 2 * first
    await servers.close()


async def test_a_server_that_is_down_offers_nothing_and_is_asked_again_after_a_while(access: WebAccess) -> None:
    clock = Clock()
    servers = McpServers(clock=clock)
    down = Crm("streamable_http", port=1).definition
    allowing = WebAccess(access.client, access.credentials, AllowedHosts.of(["127.0.0.1"]))
    async with servers.turn(allowing) as turn:
        found = await offered(turn, down)
        assert found.tools == {}
        assert "could not be reached" in str(found.events[0].payload["message"])
        with running(Crm("streamable_http")) as crm:
            moved = crm.definition
            assert len((await offered(turn, moved)).tools) == 5
        clock.now += UNREACHABLE_SECONDS
        assert len((await offered(turn, moved)).tools) == 5  # of a server that listed them not long ago
        assert (await offered(turn, down)).tools == {}
    await servers.close()


async def test_a_server_that_goes_away_between_list_and_call_is_an_error_the_model_sees(
    servers: McpServers, access: WebAccess
) -> None:
    with running(Crm("streamable_http")) as crm:
        allowing = WebAccess(access.client, access.credentials, AllowedHosts.of(["127.0.0.1"]))
        turn_scope = servers.turn(allowing)
        turn = await turn_scope.__aenter__()
        tools = (await offered(turn, crm.definition)).tools
    result: Any = (await call(tools["crm__find"], {"name": "Ada"})).result
    await turn_scope.__aexit__(None, None, None)
    assert result["status"] == "error"
    assert "'crm' cannot be used" in result["message"]


async def test_a_call_that_is_not_answered_is_given_up_in_time_and_nothing_is_left_running(
    servers: McpServers, access: WebAccess, crm: Crm
) -> None:
    before = asyncio.all_tasks()
    async with servers.turn(access) as turn:
        tools = (await offered(turn, crm.defined(timeout_seconds=1))).tools
        result: Any = (await call(tools["crm__hang"])).result
    assert result["status"] == "error"
    crm.held.set()
    assert asyncio.all_tasks() <= before


async def test_what_is_no_mcp_server_offers_nothing_and_says_so(
    servers: McpServers, access: WebAccess, crm: Crm
) -> None:
    wrong = crm.defined(url=f"http://127.0.0.1:{crm.port}/nowhere")
    async with servers.turn(access) as turn:
        found = await offered(turn, wrong)
    assert found.tools == {}
    assert "'crm' cannot be used" in str(found.events[0].payload["message"])


def test_names_stay_within_what_every_provider_takes_and_stay_apart() -> None:
    long = "x" * 80
    names = [tool_name("crm", name) for name in ("find", "a.b", "a_b", "a/b", long, f"{long}y")]
    assert names[0] == "crm__find"
    assert names[2] == "crm__a_b"
    assert len(set(names)) == len(names)
    assert all(len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() for name in names)


@ANTHROPIC
async def test_a_conversation_calls_a_servers_tool_and_its_session_ends_with_the_turn(
    talk: Talk, servers: McpServers, access: WebAccess, crm: Crm
) -> None:
    before = asyncio.all_tasks()
    talk.at("book")
    talk.script(
        {"when": {"after_tool_result": "crm__find"}, "reply": "Found: {tool_result}"},
        {"reply": [{"tool": "crm__find", "input": {"name": "Ada"}}]},
    )
    async with servers.turn(access) as turn:
        talk.tools.by_node["book"] = list((await offered(turn, crm.definition)).tools.values())
        outcome = await talk.turn("Who is Ada?")
    assert "Ada" in str(outcome.assistant_text)
    assert crm.calls == [("find", {"name": "Ada", "limit": 1})]
    assert {task for task in asyncio.all_tasks() - before if "mcp" in repr(task)} == set()
