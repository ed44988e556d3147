"""Messages in the notation of OpenAI's Responses API, as the SDK sends them.

A conversation keeps a reply that holds more than text and calls in the blocks of Anthropic's Messages API, in their order, with
the items of the reasoning among them: `{"role": "assistant", "content": [{"type": "reasoning", "id", "summary",
"encrypted_content"}, {"type": "tool_use", ...}]}`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pipecat.adapters.llm.services.open_ai_responses_adapter import OpenAIResponsesLLMAdapter
from pipecat.processors.aggregators.llm_context import LLMSpecificMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER_ID: Final = "openai_responses"
"""What pipecat calls this API's own messages."""


class ResponsesAdapter(OpenAIResponsesLLMAdapter):  # type: ignore[no-untyped-call] # pipecat's base class does without
    """pipecat's adapter, but for what the model says: it drops the text of a message that also calls tools."""

    def _convert_messages_to_input(self, messages: list[Any]) -> list[Any]:
        return [item for message in messages for item in self._items(message)]

    def _items(self, message: Any) -> Iterator[Any]:
        if isinstance(message, LLMSpecificMessage):
            yield from map(_item, message.message["content"])
        elif message["role"] == "assistant" and message.get("tool_calls"):
            parts: list[Any] = [{"role": "assistant", "content": message["content"]}] if message.get("content") else []
            parts.append({"role": "assistant", "tool_calls": message["tool_calls"]})
            yield from super()._convert_messages_to_input(parts)
        else:
            yield from super()._convert_messages_to_input([message])


def _item(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            phase = {"phase": block["phase"]} if "phase" in block else {}
            return {"role": "assistant", "content": block["text"], **phase}
        case "tool_use":
            arguments = json.dumps(block["input"], ensure_ascii=False)
            return {"type": "function_call", "call_id": block["id"], "name": block["name"], "arguments": arguments}
        case _:
            return block
