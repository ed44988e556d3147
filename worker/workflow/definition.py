"""The wire format of a workflow definition: React Flow JSON, read into typed, frozen models.

The models say what each field is and what it means when it is absent; every field has a default and `null` means
absent, because editors write both. What a definition must contain to be accepted is `worker.workflow.validation`'s
to say. Keys that only an editor needs (`position`, `measured`, `viewport` ...) are ignored here and kept by whoever
stores the JSON: see `definition_document`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from worker.workflow.model_configuration import ModelOverrides
from worker.workflow.written import Written

PASSIVE_NODE_TYPES = frozenset({"trigger", "webhook", "qa"})
"""Node types that are accepted and kept but do not run inside a turn."""

RESERVED_VARIABLES = frozenset({"nodes_visited", "call_tags", "mapped_call_disposition", "extracted_variables"})
"""Names in the gathered context that are the engine's own: no variable to extract may be called so."""


def _empty_means_text(value: object) -> object:
    return value or "text"


SpeechType = Annotated[Literal["text", "audio"], BeforeValidator(_empty_means_text)]


class ExtractionVariable(Written):
    """One value to learn from the conversation: its name, JSON type, and a hint for the model."""

    name: str = ""
    type: Literal["string", "number", "boolean"] = "string"
    prompt: str = ""


class NodeData(Written):
    """What every node has: a name people recognise it by."""

    name: str = ""


class PromptNodeData(NodeData):
    """A node whose prompt, a template, becomes part of the system prompt."""

    prompt: str = ""


class ConversationNodeData(PromptNodeData):
    """A node the conversation can stand on.

    Attributes:
        allow_interrupt: Whether speech may interrupt the assistant; reported in events.
        add_global_prompt: Whether the global node's prompt precedes this node's own.
        extraction_enabled: Whether variables are extracted when the node is left.
        extraction_prompt: Instructions for that extraction.
        extraction_variables: What to extract.
    """

    allow_interrupt: bool = False
    add_global_prompt: bool = True
    extraction_enabled: bool = False
    extraction_prompt: str = ""
    extraction_variables: tuple[ExtractionVariable, ...] = ()


class ToolNodeData(ConversationNodeData):
    """A conversation node that can carry tools.

    Attributes:
        tool_uuids: Tools the model may call here.
        document_uuids: Documents of the knowledge base it may search here.
        mcp_tool_filters: Per MCP server tool, the names of the server's tools that are offered.
    """

    tool_uuids: tuple[str, ...] = ()
    document_uuids: tuple[str, ...] = ()
    mcp_tool_filters: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class StartCallData(ToolNodeData):
    """Data of the start node.

    Attributes:
        greeting: Template of what the assistant says first, without the model; empty for none.
        greeting_type: Whether `greeting` (text) or `greeting_recording_id` (audio) is said.
        delayed_start_duration: Seconds a voice call waits before the greeting; a text turn does not wait.
        pre_call_fetch_mode: When to fetch further initial context before the opening: `disabled`, `always`, `inbound` or
            `outbound`. Older exports say `pre_call_fetch_enabled` instead, which is `always`.
        pre_call_fetch_url: Template of the URL it is fetched from.
        pre_call_fetch_credential_uuid: The name of a stored credential to send.
    """

    greeting: str = ""
    greeting_type: SpeechType = "text"
    greeting_recording_id: str = ""
    delayed_start: bool = False
    delayed_start_duration: float = Field(default=0.0, allow_inf_nan=False)
    pre_call_fetch_mode: str = "disabled"
    pre_call_fetch_url: str = ""
    pre_call_fetch_credential_uuid: str = ""

    @model_validator(mode="before")
    @classmethod
    def _enabled_means_always(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("pre_call_fetch_enabled") is True:
            return {**value, "pre_call_fetch_mode": value.get("pre_call_fetch_mode") or "always"}
        return value


class EndCallData(ConversationNodeData):
    """Data of an end node."""

    add_global_prompt: bool = False


class PassiveNodeData(NodeData):
    """Data of a node that does not run inside a turn: kept whole, whatever it holds."""

    model_config = ConfigDict(extra="allow")


class _Node(Written):
    id: str = ""
    data: NodeData = NodeData()

    @property
    def name(self) -> str:
        """The name people know the node by; its id when it was given none."""
        return self.data.name.strip() or self.id


class StartCallNode(_Node):
    """Where a conversation begins."""

    type: Literal["startCall"] = "startCall"
    data: StartCallData = StartCallData()


class AgentNode(_Node):
    """A step of the conversation."""

    type: Literal["agentNode"] = "agentNode"
    data: ToolNodeData = ToolNodeData()


class EndCallNode(_Node):
    """Says one closing reply and ends the session."""

    type: Literal["endCall"] = "endCall"
    data: EndCallData = EndCallData()


class GlobalNode(_Node):
    """Holds the prompt that other nodes share. Conversations never stand on it."""

    type: Literal["globalNode"] = "globalNode"
    data: PromptNodeData = PromptNodeData()


class PassiveNode(_Node):
    """A node that does not run inside a turn: one of `PASSIVE_NODE_TYPES`, or a type this release does not know."""

    type: str = ""
    data: PassiveNodeData = PassiveNodeData()


ConversationNode = StartCallNode | AgentNode | EndCallNode

_ACTIVE_NODE_TYPES = frozenset({"startCall", "agentNode", "endCall", "globalNode"})


def _node_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in _ACTIVE_NODE_TYPES else "passive"


Node = Annotated[
    Annotated[StartCallNode, Tag("startCall")]
    | Annotated[AgentNode, Tag("agentNode")]
    | Annotated[EndCallNode, Tag("endCall")]
    | Annotated[GlobalNode, Tag("globalNode")]
    | Annotated[PassiveNode, Tag("passive")],
    Discriminator(_node_tag),
]


class EdgeData(Written):
    """What a transition is called, when the model should take it, and what is said on the way.

    Attributes:
        label: Name of the transition; the name of its tool derives from it.
        condition: When to take it; becomes the tool's description.
        transition_speech: Template of what is shown while the node changes; not put into the context.
        transition_speech_type: Whether `transition_speech` (text) or `transition_speech_recording_id` (audio) is said.
    """

    label: str = ""
    condition: str = ""
    transition_speech: str = ""
    transition_speech_type: SpeechType = "text"
    transition_speech_recording_id: str = ""


class Edge(Written):
    """A way from one node to another."""

    id: str = ""
    source: str = ""
    target: str = ""
    data: EdgeData = EdgeData()


class Graph(Written):
    """Nodes and edges as drawn. Cycles are legal."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()


_Limit = Annotated[float, Field(gt=0, le=366 * 24 * 3600, allow_inf_nan=False)]


class SessionLimits(Written):
    """How long a conversation may go on before it is ended for its user.

    Attributes:
        user_idle_max_duration_seconds: Without a word of the user; None for no limit.
        session_max_duration_seconds: From its beginning; None for no limit.
    """

    user_idle_max_duration_seconds: _Limit | None = None
    session_max_duration_seconds: _Limit | None = None


class WorkflowConfigurations(SessionLimits):
    """How the agent runs, beside what it does.

    Attributes:
        model_overrides: What to change in the organization's model configuration; None for nothing.
        context_compaction_enabled: Whether older context is summarised after a transition.
        tool_versions: Whether conversations keep the versions of tools that the definition was stored with, or follow
            each tool to its newest one.
    """

    model_overrides: ModelOverrides | None = None
    context_compaction_enabled: bool = False
    tool_versions: Literal["pinned", "latest"] = "pinned"


class WorkflowDefinition(Written):
    """One immutable version of an agent."""

    graph: Graph = Graph()
    workflow_configurations: WorkflowConfigurations = WorkflowConfigurations()
