"""A conversation with the engine alone: the real SDKs, pipecat and HTTP; no database, no queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from worker.conversation.checkpoint import Checkpoint
from worker.conversation.user_message import UserMessage
from worker.embedded.scripted_llm import Script
from worker.engine.journal import read_step, write_step
from worker.engine.request import LLMCall, ResolvedModel, TurnRequest
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult
from worker.engine.turn import run_turn
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import WorkflowGraph

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.engine.journal import Journal, Step
    from worker.engine.llm.clients import ProviderClients
    from worker.engine.outcome import TurnOutcome
    from worker.errors import TurnWorkerError
    from worker.workflow.definition import ConversationNode

ANTHROPIC = pytest.mark.parametrize("model", ["anthropic"], indirect=True)
OPENAI = pytest.mark.parametrize("model", ["openai"], indirect=True)
RESPONSES = pytest.mark.parametrize("model", ["openai-responses"], indirect=True)
AWS = pytest.mark.parametrize("model", ["aws"], indirect=True)
GOOGLE = pytest.mark.parametrize("model", ["google"], indirect=True)
VERTEX = pytest.mark.parametrize("model", ["google-vertex"], indirect=True)
"""For what is particular to one provider, or does not depend on it and takes its time."""

EVERY_PROTOCOL = pytest.mark.parametrize(
    "model", ["anthropic", "openai", "openai-responses", "google", "aws"], indirect=True
)
"""For what each provider's own code has a part in: its key, its addresses, its connections, its streams."""

KEY = "sk-test-0123456789abcdef"
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

CLINIC: dict[str, Any] = {
    "nodes": [
        {
            "id": "start",
            "type": "startCall",
            "data": {"name": "Reception", "prompt": "Receive {{ name }}.", "greeting": "Hello {{ name }}."},
        },
        {"id": "book", "type": "agentNode", "data": {"name": "Booking", "prompt": "Book.", "allow_interrupt": True}},
        {"id": "end", "type": "endCall", "data": {"name": "Goodbye", "prompt": "Say goodbye."}},
        {"id": "all", "type": "globalNode", "data": {"name": "Persona", "prompt": "Be kind."}},
    ],
    "edges": [
        {
            "id": "start-book",
            "source": "start",
            "target": "book",
            "data": {"label": "Book", "condition": "wants a date", "transition_speech": "One moment, {{ name }}."},
        },
        {"id": "start-end", "source": "start", "target": "end", "data": {"label": "Leave", "condition": "has enough"}},
        {
            "id": "book-start",
            "source": "book",
            "target": "start",
            "data": {"label": "Back", "condition": "changed mind"},
        },
        {"id": "book-end", "source": "book", "target": "end", "data": {"label": "Booked", "condition": "is booked"}},
    ],
}
"""Reception, booking and goodbye under one persona, with a loop between the first two."""

ROUND_BY_ROUND: tuple[dict[str, Any], ...] = (
    {"when": {"user_contains": "And then"}, "reply": "That was it."},
    {"when": {"after_tool_result": "back"}, "reply": "Anything else?"},
    {
        "when": {"tool_result_contains": "Monday"},
        "reply": [{"text": "Or else: "}, {"tool": "look", "input": {"day": "Sunday"}}],
    },
    {"when": {"tool_result_contains": "Sunday"}, "reply": [{"text": "No."}, {"tool": "back"}]},
    {"reply": [{"tool": "look", "input": {"day": "Monday"}}, {"tool": "look", "input": {"day": "Friday"}}]},
)
"""A script for booking with a tool `look`: two calls at once, one with text beside it, and then the way back."""

THERE_AND_BACK: tuple[dict[str, Any], ...] = (
    {"times": 1, "reply": [{"thinking": "Hm."}, {"text": "Sure."}, {"tool": "book"}]},
    {"times": 1, "reply": "When?"},
    {"times": 1, "reply": [{"text": "Back."}, {"tool": "back"}]},
    {"reply": "Here we are."},
)
"""A script from the reception to booking and back, one turn each, and a further turn."""


def tool(name: str, run: Callable[[Mapping[str, JsonValue]], Awaitable[JsonValue]]) -> Tool:
    """A tool that needs to know nothing but its arguments, and does nothing but answer."""

    async def call(invocation: ToolInvocation) -> ToolResult:
        return ToolResult(result=await run(invocation.arguments))

    return Tool(name=name, description=f"Does {name}.", run=call, properties={"day": {"type": "string"}})


def model_of(talk: Talk, **changes: Any) -> ResolvedModel:
    """The model of a conversation that has one, or one that differs from it."""
    assert talk.model is not None
    return replace(talk.model, **changes)


class MemoryJournal:
    """A journal that keeps its steps as text, as a database would. `written` are those of the attempts before."""

    def __init__(self, written: Sequence[str] = ()) -> None:
        self.lines = list(written)
        self.steps: Sequence[Step] = [read_step(json.loads(line)) for line in written]

    def record(self, step: Step) -> None:
        self.lines.append(json.dumps(write_step(step)))

    async def written(self) -> None:
        """Everything is at once."""


class Ledger:
    """Keeps what the engine reports."""

    def __init__(self) -> None:
        self.calls: list[LLMCall] = []

    def record(self, call: LLMCall) -> None:
        self.calls.append(call)


@dataclass
class Tools:
    """Tools by node id, and the nodes whose tools cannot be looked up."""

    by_node: dict[str, Sequence[Tool]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    async def of(self, node: ConversationNode, report: Callable[[TurnEvent], None]) -> Sequence[Tool]:
        if node.id in self.broken:
            raise RuntimeError(f"the tools of {node.id} cannot be looked up")
        return self.by_node.get(node.id, ())


@dataclass
class Recorded:
    """Transcripts by recording id, how often it was asked whether there are any, and why they cannot be read, if so."""

    transcripts: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    trouble: TurnWorkerError | None = None

    async def transcript(self, recording_id: str) -> str | None:
        if self.trouble is not None:
            raise self.trouble
        return self.transcripts.get(recording_id)

    async def exist(self) -> bool:
        self.asked += 1
        return bool(self.transcripts)


@dataclass
class Talk:
    """One session's turns, one after another, each from the checkpoint of the one before."""

    llm: ScriptedLLM
    clients: ProviderClients
    graph: WorkflowGraph
    model: ResolvedModel | None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    initial_context: dict[str, JsonValue] = field(default_factory=lambda: {"name": "Ada"})
    tools: Tools = field(default_factory=Tools)
    recorded: Recorded = field(default_factory=Recorded)
    ledger: Ledger = field(default_factory=Ledger)
    session_id: UUID = field(default_factory=uuid4)
    drawn: dict[str, Any] = field(default_factory=dict)

    def request(self, *messages: str | UserMessage, **changes: Any) -> TurnRequest:
        return TurnRequest(
            **{
                "organization_id": uuid4(),
                "session_id": self.session_id,
                "turn_id": uuid4(),
                "attempt": 1,
                "graph": self.graph,
                "checkpoint": self.checkpoint,
                "user_messages": tuple(UserMessage(said) if isinstance(said, str) else said for said in messages),
                "initial_context": self.initial_context,
                "model": self.model,
                **changes,
            }
        )

    async def run(self, request: TurnRequest, journal: Journal | None = None) -> TurnOutcome:
        outcome = await run_turn(
            request,
            clients=self.clients,
            usage_ledger=self.ledger,
            tools=self.tools,
            recordings=self.recorded,
            journal=journal,
            clock=lambda: NOW,
        )
        self.checkpoint = outcome.checkpoint
        return outcome

    async def turn(self, *messages: str | UserMessage, **changes: Any) -> TurnOutcome:
        return await self.run(self.request(*messages, **changes))

    def script(self, *rules: dict[str, Any], **script: Any) -> None:
        self.llm.set_script(Script.model_validate({"rules": rules, **script}))

    def at(self, node_id: str | None, *messages: dict[str, Any]) -> None:
        """Let the conversation stand on a node, with these messages behind it."""
        self.checkpoint = Checkpoint(current_node_id=node_id, messages=list(messages))

    def node(self, node_id: str, **data: Any) -> None:
        """Give one node of the clinic other data."""
        nodes = [
            {**node, "data": {**node["data"], **data}} if node["id"] == node_id else node
            for node in self.drawn["nodes"]
        ]
        self.draw({**self.drawn, "nodes": nodes})

    def edge(self, edge_id: str, **data: Any) -> None:
        """Give one way other data."""
        edges = [
            {**edge, "data": {**edge["data"], **data}} if edge["id"] == edge_id else edge
            for edge in self.drawn["edges"]
        ]
        self.draw({**self.drawn, "edges": edges})

    def draw(self, graph: dict[str, Any]) -> None:
        """Give the agent another graph."""
        self.drawn = graph
        self.graph = WorkflowGraph(WorkflowDefinition.model_validate({"graph": graph}))
