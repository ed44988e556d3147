"""One reply of a model, read in full, whichever provider it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from pydantic import JsonValue  # noqa: TC002 -- pydantic reads the annotations where calls come back from a journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.conversation.history import Message
    from worker.conversation.usage import LLMUsage

Block: TypeAlias = "dict[str, JsonValue]"
"""One content block of an Anthropic message."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for.

    Attributes:
        id: The provider's name of the call; its result carries it too.
        name: The tool.
        arguments: What to call it with; None when what the model wrote is no JSON object.
    """

    id: str
    name: str
    arguments: dict[str, JsonValue] | None


_ANSWERS: Final = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """Why a reply is shorter than the model would have liked.

    Attributes:
        reason: `max_tokens`, `refusal`, or another reason in the provider's words.
        detail: What the provider adds, such as the category of a refusal.
    """

    reason: str
    detail: str | None = None

    @property
    def is_an_answer(self) -> bool:
        """Whether it says something of the request, so that asking the same again would end the same. Whatever else ends a
        reply before its first word, such as a tool call that the provider could not read, went wrong on the way.
        """
        return self.reason in _ANSWERS


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply.

    Attributes:
        message: What goes into the context; None when the reply holds nothing.
        tool_calls: The calls it asks for, in order.
        early_stop: Why it stopped early, if it did.
    """

    message: Message | None
    tool_calls: tuple[ToolCall, ...]
    early_stop: EarlyStop | None

    @property
    def text(self) -> str:
        """What it says, without thinking and calls."""
        if self.message is None:
            return ""
        own = self.message.get("message")
        content = portable(own if isinstance(own, dict) else self.message).get("content")
        return content if isinstance(content, str) else ""


class ReplyReader(Protocol):
    """Reads the events of one streamed reply as they pass by."""

    @property
    def complete(self) -> bool:
        """Whether the provider said that the reply is over. A stream that ends without has broken off."""
        ...

    @property
    def usage(self) -> LLMUsage:
        """What the reply used, as far as is known."""
        ...

    def read(self, event: Any) -> bool:
        """Take an event in, and tell whether pipecat is to see it too."""
        ...

    def reply(self) -> Reply:
        """The reply, once it is complete."""
        ...


def is_kept(block: Block, *, stopped_early: bool) -> bool:
    """Whether a block of a reply can be sent back with the conversation, so that it goes into the context.

    Blank text is refused on the way back. Of a reply that stopped early only the text is kept: its calls were cut off, and no
    message may end with a thought.
    """
    return bool(str(block["text"]).strip()) if block["type"] == "text" else not stopped_early


def parse_arguments(text: str) -> dict[str, JsonValue] | None:
    """Read a tool call's arguments; None when they are no JSON object. No text at all means no arguments."""
    try:
        arguments = json.loads(text or "{}")
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def _universal_call(call: ToolCall) -> dict[str, JsonValue]:
    """Write a tool call in the universal notation. Arguments that were none are left out: no provider takes them back."""
    arguments = json.dumps(call.arguments or {}, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def universal_message(content: JsonValue, calls: Sequence[ToolCall]) -> Message:
    """Write a reply in the universal notation; None for content where it says nothing."""
    message: Message = {"role": "assistant"}
    if content is not None:
        message["content"] = content
    if calls:
        message["tool_calls"] = [_universal_call(call) for call in calls]
    return message


def portable(message: Message) -> Message:
    """Write a provider's own message in the universal notation: its text and its tool calls.

    Used when a conversation goes on with another provider, to which the rest means nothing.
    """
    content = message.get("content")
    parts = message.get("parts")
    if isinstance(parts, list):  # Gemini's
        content = [block for part in parts if isinstance(part, dict) and (block := _block_of(part))]
    if not isinstance(content, list):
        return message
    blocks = [block for block in content if isinstance(block, dict)]
    texts = [str(block["text"]) for block in blocks if block.get("type") == "text"]
    calls: list[JsonValue] = [_universal_call(tool_call(block)) for block in blocks if block.get("type") == "tool_use"]
    universal: Message = {"role": message.get("role", "assistant")}
    if texts or not calls:
        universal["content"] = "".join(texts)
    if calls:
        universal["tool_calls"] = calls
    return universal


def tool_call(block: Block) -> ToolCall:
    """Read a `tool_use` block."""
    arguments = block.get("input")
    return ToolCall(str(block["id"]), str(block["name"]), arguments if isinstance(arguments, dict) else None)


def _block_of(part: Block) -> Block | None:
    """Write a part of Gemini's as an Anthropic block, if it is text or a call."""
    call = part.get("function_call")
    if isinstance(call, dict):
        return {"type": "tool_use", "id": call.get("id"), "name": call.get("name"), "input": call.get("args")}
    return {"type": "text", "text": part["text"]} if part.get("text") and not part.get("thought") else None
