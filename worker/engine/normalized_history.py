"""A conversation as one text, for a model that is asked about it: who said what, and what the tools answered.

Provider's notations, calls, thinking and the results of transitions, which say nothing about the matter, are left out.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from worker.engine.llm.reply import portable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic import JsonValue

    from worker.conversation.history import Message

MAX_TOOL_RESULT_CHARS: Final = 2_000
"""How much of one tool's answer is kept. What a conversation turns on stands at the beginning of most answers."""

_TRANSITION_DONE: Final = {"status": "done"}
_SHOWN: Final = frozenset({"image", "image_url", "document", "file"})
_MARKERS: Final = "●▸"
_LINE_BREAK: Final = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INDENTED: Final = "\n    "


def normalized_history(messages: Iterable[Message]) -> str:
    """Write a conversation down, an entry for each thing said or answered, blank lines between them.

    Further lines of an entry are indented, so that nothing a user or a tool writes can pass for another entry.

    Args:
        messages: The model's context, in the universal notation or a provider's own.
    """
    tools: dict[str, str] = {}
    return "\n\n".join(entry for message in messages for entry in _entries(_universal(message), tools))


def _universal(message: Message) -> Message:
    own = message.get("message")
    return own if isinstance(own, dict) and "role" not in message else message


def _entries(message: Message, tools: dict[str, str]) -> Iterator[str]:
    """Read a message; `tools` remembers what each call was of, for its result."""
    role = message.get("role")
    if role == "tool":
        yield from _result(str(message.get("tool_call_id")), message.get("content"), tools)
    elif role == "user":
        for block in _blocks(message.get("content")):  # Anthropic's own notation has results among what the user says
            if block.get("type") == "tool_result":
                yield from _result(str(block.get("tool_use_id")), block.get("content"), tools)
        yield from _said("User", _text(message.get("content")))
    elif role == "assistant":
        message = portable(message)
        yield from _said("Assistant", _text(message.get("content")).strip().lstrip(_MARKERS))
        for call in _blocks(message.get("tool_calls")):
            function = call.get("function")
            if isinstance(function, dict):
                tools[str(call.get("id"))] = str(function.get("name"))


def _said(speaker: str, text: str) -> Iterator[str]:
    if text.strip():
        yield _entry(speaker, text)


def _result(call_id: str, content: JsonValue, tools: dict[str, str]) -> Iterator[str]:
    text = _text(content)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if value == _TRANSITION_DONE:
        return
    if len(text) > MAX_TOOL_RESULT_CHARS:
        text = f"{text[:MAX_TOOL_RESULT_CHARS]} ... ({len(text) - MAX_TOOL_RESULT_CHARS} more characters)"
    yield _entry(f"Tool result ({tools.get(call_id, 'unknown tool')})", text)


def _entry(label: str, text: str) -> str:
    return f"{label}: {_LINE_BREAK.sub(_INDENTED, text.strip())}"


def _text(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    parts = (_part(block) for block in _blocks(content))
    return "\n".join(part for part in parts if part)


def _part(block: dict[str, JsonValue]) -> str:
    kind = str(block.get("type"))
    if kind == "text":
        return str(block.get("text"))
    return f"[{kind.removesuffix('_url')}]" if kind in _SHOWN else ""


def _blocks(value: JsonValue) -> Sequence[dict[str, JsonValue]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
