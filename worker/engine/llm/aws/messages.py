"""Messages in the notation of Bedrock's Converse API, as the SDK sends them.

A conversation keeps a reply that holds more than text and calls in the blocks of Anthropic's Messages API, which say all
that Converse's do and are JSON: `{"role": "assistant", "content": [{"type": "thinking", "thinking", "signature"}, ...]}`.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from pipecat.adapters.llm.services.bedrock_adapter import AWSBedrockLLMAdapter
from pipecat.processors.aggregators.llm_context import LLMSpecificMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER_ID: Final = "aws"
"""What pipecat calls Bedrock's own messages."""


class BedrockAdapter(AWSBedrockLLMAdapter):  # type: ignore[no-untyped-call] # pipecat's base class does without
    """pipecat's adapter, but for what the model says.

    pipecat's drops the text of a message that also calls tools, and pictures that are given by their address.
    """

    def _from_universal_context_message(self, message: Any) -> dict[str, Any]:
        if isinstance(message, LLMSpecificMessage):
            return {"role": "assistant", "content": [_converse_block(block) for block in message.message["content"]]}
        if message["role"] == "assistant":
            return {"role": "assistant", "content": list(_universal_blocks(message))}
        _check_pictures(message.get("content"))
        return super()._from_universal_context_message(message)


def _converse_block(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return {"text": block["text"]}
        case "tool_use":
            return _tool_use(block["id"], block["name"], block["input"])
        case "thinking":
            thought = {"text": block["thinking"], **({"signature": block["signature"]} if "signature" in block else {})}
            return {"reasoningContent": {"reasoningText": thought}}
        case _:
            return {"reasoningContent": {"redactedContent": base64.b64decode(block["data"])}}


def _universal_blocks(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    yield from ({"text": part["text"]} for part in parts if part.get("type") == "text" and part["text"].strip())
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield _tool_use(call["id"], function["name"], json.loads(function["arguments"]))


def _tool_use(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}}


def _check_pictures(content: Any) -> None:
    """Refuse what the model would answer without having seen it.

    Raises:
        ValueError: A picture is given by its address.
    """
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "image_url" and not part["image_url"]["url"].startswith("data:"):
            raise ValueError(
                f"Amazon Bedrock fetches no picture, so {part['image_url']['url'][:200]} cannot be shown to the model. "
                "Send pictures as they are: with `media_type` and `data`."
            )
