"""What the model is told besides the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.workflow.template import render

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import JsonValue

    from worker.workflow.definition import ConversationNode
    from worker.workflow.graph import WorkflowGraph

NEUTRAL_USER_MESSAGE: Final = "(The user is waiting for you to speak.)"
"""Stands in a request where the user would have neither the first nor the last word, as after a greeting: providers
refuse an empty list and one that begins with the assistant, and the newer models one that ends with it. It is neither
stored nor shown."""


def system_prompt(
    graph: WorkflowGraph,
    node: ConversationNode,
    initial_context: dict[str, JsonValue],
    gathered_context: dict[str, JsonValue],
    now: datetime,
) -> str:
    """Put together a node's system prompt: the global node's prompt where the node wants it, a blank line, its own."""
    prompts = [node.data.prompt]
    if node.data.add_global_prompt and graph.global_node is not None:
        prompts.insert(0, graph.global_node.data.prompt)
    rendered = (render(prompt, initial_context, gathered_context, now).strip() for prompt in prompts)
    return "\n\n".join(prompt for prompt in rendered if prompt)
