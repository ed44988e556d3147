"""Where a conversation stands in its graph, what the model sees from there, and how it moves."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema

from worker.conversation import event
from worker.conversation.greeting_override import greeting_override
from worker.engine.prompts import system_prompt
from worker.workflow.template import render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from pydantic import JsonValue

    from worker.engine.capture import Capture
    from worker.engine.tools.tool import NodeTools, Tool
    from worker.workflow.definition import ConversationNode, StartCallNode
    from worker.workflow.graph import Transition, WorkflowGraph

NODES_VISITED: Final = "nodes_visited"
"""Where the gathered context keeps the names of the nodes the conversation has been to, in first-visit order."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the model sees it.

    Attributes:
        node: The node.
        system_prompt: Its rendered prompt.
        transitions: The ways out, by tool name. A node's own tool of the same name stands back.
        tools: Its other tools, by name.
        schema: All of them, as pipecat wants to be told.
        ends_session: Whether the session is over once the model has replied here.
    """

    node: ConversationNode
    system_prompt: str
    transitions: Mapping[str, Transition]
    tools: Mapping[str, Tool]
    schema: ToolsSchema
    ends_session: bool


class Stage:
    """The node the conversation stands on, and the way from one to the next.

    What goes before the first `enter` is nothing: callers enter a node before they ask for the view.
    """

    view: NodeView

    def __init__(
        self,
        graph: WorkflowGraph,
        tools: NodeTools | None,
        initial_context: dict[str, JsonValue],
        capture: Capture,
        clock: Callable[[], datetime],
    ) -> None:
        self._graph = graph
        self._tools = tools
        self.initial_context = initial_context
        self._capture = capture
        self._clock = clock

    async def begin(self, node_id: str | None) -> bool:
        """Stand where the checkpoint left off, or else on the start node. Tell whether it was entered just now.

        Raises:
            UnknownNode: The graph has no such node.
        """
        if node_id is not None:
            self.view = await self._look(self._graph.node(node_id))
            return False
        view = await self._look(self._graph.start_node)
        self._enter(view, previous=None)
        return True

    async def move(self, transition: Transition) -> None:
        """Follow a transition: its speech is said, then the node changes. If anything fails, nothing has happened."""
        speech = self.render(transition.edge.data.transition_speech)
        if transition.edge.data.transition_speech_type != "text":
            speech = ""
        view = await self._look(transition.target)
        self._capture.say(speech)
        self._enter(view, previous=self.view.node)

    def greeting(self, node: StartCallNode) -> str:
        """What the conversation is greeted with, rendered: the session's own, or the start node's if that is in text."""
        with suppress(ValueError):  # the API refuses it; a context stored before it did so still has a conversation
            if override := greeting_override(self.initial_context):
                return self.render(override.text).strip()
        return self.render(node.data.greeting).strip() if node.data.greeting_type == "text" else ""

    def render(self, template: str) -> str:
        """Fill in a template with what is known now."""
        return render(template, self.initial_context, self._capture.gathered_context, self._clock())

    async def _look(self, node: ConversationNode) -> NodeView:
        prompt = system_prompt(self._graph, node, self.initial_context, self._capture.gathered_context, self._clock())
        transitions = {transition.tool_name: transition for transition in self._graph.transitions(node.id)}
        own = await self._tools.of(node) if self._tools is not None else ()
        tools = {tool.name: tool for tool in own if tool.name not in transitions}
        schema = ToolsSchema(
            [
                *(FunctionSchema(name, way.description, {}, []) for name, way in transitions.items()),
                *(
                    FunctionSchema(name, tool.description, dict(tool.properties), list(tool.required))
                    for name, tool in tools.items()
                ),
            ]
        )
        return NodeView(node, prompt, transitions, tools, schema, ends_session=self._graph.is_end(node.id))

    def _enter(self, view: NodeView, previous: ConversationNode | None) -> None:
        self.view = view
        self._capture.append_once(NODES_VISITED, view.node.name)
        self._capture.events.append(event.node_transition(self._clock(), node=view.node, previous=previous))
