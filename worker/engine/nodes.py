"""Where a conversation stands in its graph, what the model sees from there, and how it moves."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema

from worker.conversation import event
from worker.conversation.greeting_override import RecordedGreeting, greeting_override
from worker.engine.prompts import RECORDING_INSTRUCTIONS, system_prompt
from worker.workflow.template import render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from pydantic import JsonValue

    from worker.engine.capture import Capture
    from worker.engine.recordings import RecordedSpeech
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
        answers_with_recordings: Whether the model may answer with recordings.
    """

    node: ConversationNode
    system_prompt: str
    transitions: Mapping[str, Transition]
    tools: Mapping[str, Tool]
    schema: ToolsSchema
    ends_session: bool
    answers_with_recordings: bool


class Stage:
    """The node the conversation stands on, and the way from one to the next.

    What goes before the first `enter` is nothing: callers enter a node before they ask for the view.
    """

    view: NodeView

    def __init__(
        self,
        *,
        graph: WorkflowGraph,
        tools: NodeTools | None,
        recorded: RecordedSpeech,
        initial_context: dict[str, JsonValue],
        capture: Capture,
        clock: Callable[[], datetime],
    ) -> None:
        self._graph = graph
        self._tools = tools
        self._recorded = recorded
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
        way = transition.edge.data
        if way.transition_speech_type == "text":
            speech = self.render(way.transition_speech)
        else:
            speech = await self._recorded.transcript(way.transition_speech_recording_id)
        view = await self._look(transition.target)
        self._capture.say(speech)
        self._enter(view, previous=self.view.node)

    async def greeting(self, node: StartCallNode) -> str:
        """What the conversation is greeted with: the session's own greeting, or else the start node's.

        Nothing when it is a recording that is not there: the opening is then left to the model.
        """
        with suppress(ValueError):  # the API refuses it; a context stored before it did so still has a conversation
            override = greeting_override(self.initial_context)
            if isinstance(override, RecordedGreeting):
                return await self._recorded.transcript(override.recording_id)
            if override is not None:
                return self.render(override.text).strip()
        if node.data.greeting_type == "text":
            return self.render(node.data.greeting).strip()
        return await self._recorded.transcript(node.data.greeting_recording_id)

    async def shown(self, reply: str) -> str:
        """What the user reads of a reply that the model gave on this node."""
        return await self._recorded.shown(reply, answers=self.view.answers_with_recordings)

    def render(self, template: str) -> str:
        """Fill in a template with what is known now."""
        return render(template, self.initial_context, self._capture.gathered_context, self._clock())

    async def _look(self, node: ConversationNode) -> NodeView:
        prompt = system_prompt(self._graph, node, self.initial_context, self._capture.gathered_context, self._clock())
        if answers_with_recordings := await self._recorded.answers(prompt):
            prompt = f"{prompt}\n\n{RECORDING_INSTRUCTIONS}"
        transitions = {transition.tool_name: transition for transition in self._graph.transitions(node.id)}
        own = await self._tools.of(node, self._capture.events.append) if self._tools is not None else ()
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
        return NodeView(
            node,
            prompt,
            transitions,
            tools,
            schema,
            ends_session=self._graph.is_end(node.id),
            answers_with_recordings=answers_with_recordings,
        )

    def _enter(self, view: NodeView, previous: ConversationNode | None) -> None:
        self.view = view
        self._capture.append_once(NODES_VISITED, view.node.name)
        self._capture.events.append(event.node_transition(self._clock(), node=view.node, previous=previous))
