"""Whether every tool call in a context has its result: a provider refuses a context in which one has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import JsonValue

    from worker.conversation.history import Message

_UNFINISHED = "IN_PROGRESS"
"""What pipecat writes in place of a result while the tool runs (`LLMAssistantAggregator`). A real result is JSON."""


def unpaired_tool_calls(messages: Iterable[Message]) -> tuple[str, ...]:
    """Name the calls without a result and the results without a call, by the call's id, in order.

    A context may be stored only when this is empty. Each notation is read: Anthropic's content blocks (`tool_use`,
    `tool_result`), OpenAI's (`tool_calls`, role `tool`) and Gemini's parts (`function_call`), also inside pipecat's
    `{"llm", "message"}` wrapper. As the providers demand, the results of a message's calls stand before anything else
    is said.
    """
    unpaired: dict[str, None] = {}
    waiting: dict[str, None] = {}
    for message in messages:
        parts = _parts(message)
        for call_id in parts.results:
            if call_id in waiting:
                del waiting[call_id]
            else:
                unpaired[call_id] = None
        if parts.speaks:
            unpaired.update(waiting)
            waiting.clear()
        for call_id in parts.calls:
            if call_id in waiting:
                unpaired[call_id] = None
            waiting[call_id] = None
    return tuple({**unpaired, **waiting})


class _Parts(NamedTuple):
    results: list[str]
    calls: list[str]
    speaks: bool


def _parts(message: Message) -> _Parts:
    wrapped = message.get("message")
    if "role" not in message and isinstance(wrapped, dict):
        message = wrapped
    content = message.get("content")
    if message.get("role") == "tool":
        finished = content != _UNFINISHED
        return _Parts(results=[str(message.get("tool_call_id"))] if finished else [], calls=[], speaks=False)
    blocks = _objects(content)
    results = [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
    calls = [str(block.get("id")) for block in blocks if block.get("type") == "tool_use"]
    calls += [str(call.get("id")) for call in _objects(message.get("tool_calls"))]
    parts = _objects(message.get("parts"))
    calls += [str(call.get("id")) for part in parts if isinstance(call := part.get("function_call"), dict)]
    speaks = (isinstance(content, str) and content != "") or len(blocks) + len(parts) > len(results) + len(calls)
    return _Parts(results, calls, speaks)


def _objects(value: JsonValue) -> Sequence[dict[str, JsonValue]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
