"""Puts a streamed reply of OpenAI's Responses API together again.

Other servers take liberties: they leave out counts, and show by items of their own what they did by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import openai

from worker.conversation.usage import LLMUsage
from worker.engine.llm.openai.responses_messages import PROVIDER_ID
from worker.engine.llm.provider import estimated_tokens, reported_tokens
from worker.engine.llm.reply import EarlyStop, Reply, parse_arguments, tool_call, universal_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.conversation.history import Message
    from worker.engine.llm.reply import Block, ToolCall

_STOPS: Final = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
"""OpenAI's reasons for an incomplete response in the words of the engine."""


class ResponseFailed(openai.APIError):
    """An error in the middle of a reply, which the SDK hands on as an event like any other."""

    def __init__(self, error: Any) -> None:
        self.message = (error and error.message) or "no reason given"
        self.body = {"code": error and error.code, "message": self.message}
        Exception.__init__(self, self.message)


class ResponsesReader:
    """Reads the events of a reply, item by item, with everything that is to go back.

    Source: https://platform.openai.com/docs/api-reference/responses-streaming.
    """

    def __init__(self) -> None:
        self.complete = False
        self._items: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._early_stop: EarlyStop | None = None
        self._usage: Any = None

    def read(self, event: Any) -> bool:
        """Take an event in. pipecat sees the text; the rest it would lose or misread.

        Raises:
            ResponseFailed: The provider says that it failed.
        """
        match event.type:
            case "response.output_text.delta":
                self._text.append(event.delta)
                return bool(event.delta)
            case "response.output_item.done":
                self._items.append(event.item.to_dict(mode="json"))
            case "response.completed" | "response.incomplete":
                self._end(event.response)
            case "response.failed":
                self._usage = event.response.usage
                raise ResponseFailed(event.response.error)
            case "error":
                raise ResponseFailed(event)
        return False

    @property
    def usage(self) -> LLMUsage:
        """What was reported; of a reply that was cut off, what its text amounts to."""
        if self._usage is None:
            estimated = 0 if self.complete else estimated_tokens(sum(map(len, self._text)))
            return LLMUsage(completion_tokens=estimated, total_tokens=estimated)
        details = self._usage.input_tokens_details
        prompt, completion = _count(self._usage, "input_tokens"), _count(self._usage, "output_tokens")
        return LLMUsage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            cache_read_input_tokens=_count(details, "cached_tokens"),
            # The second is Perplexity's name for it.
            cache_creation_input_tokens=_count(details, "cache_write_tokens", "cache_creation_input_tokens"),
        )

    def reply(self) -> Reply:
        """The message. Of a reply that stopped early only the text is kept: a thought may not go without what it led to."""
        blocks = [block for item in self._items for block in self._blocks(item)]
        if self._early_stop is not None:
            text = "".join(self._text)
            blocks = [{"type": "text", "text": text}] if text.strip() else []
        calls = tuple(tool_call(block) for block in blocks if block["type"] == "tool_use")
        for block in blocks:
            if block["type"] == "tool_use":
                block["input"] = block["input"] or {}
        return Reply(_message(blocks, calls), calls, self._early_stop)

    def _end(self, response: Any) -> None:
        self.complete = True
        self._usage = response.usage
        reason = response.incomplete_details and response.incomplete_details.reason
        if reason is not None:
            self._early_stop = EarlyStop(_STOPS.get(reason, reason))
        refusals = [part["refusal"] for part in self._parts() if part["type"] == "refusal"]
        if refusals:
            self._early_stop = EarlyStop("refusal", "".join(refusals))

    def _parts(self) -> Iterator[dict[str, Any]]:
        for item in self._items:
            if item["type"] == "message":
                yield from item["content"]

    def _blocks(self, item: dict[str, Any]) -> Iterator[Block]:
        """Write an item as blocks of Anthropic's (see `openai_responses_messages`). What the provider did by itself has none."""
        match item["type"]:
            case "message":
                text = "".join(part["text"] for part in item["content"] if part["type"] == "output_text")
                phase = {"phase": item["phase"]} if item.get("phase") else {}
                if text.strip():
                    yield {"type": "text", "text": text, **phase}
            case "function_call":
                arguments = parse_arguments(item["arguments"])
                yield {"type": "tool_use", "id": item["call_id"], "name": item["name"], "input": arguments}
            case "reasoning" if item.get("encrypted_content"):
                kept = ("type", "id", "summary", "encrypted_content")
                yield {name: item[name] for name in kept}


def _count(counted: Any, *names: str) -> int:
    return next((count for name in names if (count := reported_tokens(getattr(counted, name, None)))), 0)


def _message(blocks: list[Block], calls: tuple[ToolCall, ...]) -> Message | None:
    """Write the blocks in the universal notation if it can hold all of them, else in the provider's own."""
    if not blocks:
        return None
    texts = blocks[: len(blocks) - len(calls)]
    if len(texts) > 1 or any(block.keys() != {"type", "text"} for block in texts):
        return {"llm": PROVIDER_ID, "message": {"role": "assistant", "content": list(blocks)}}
    return universal_message(texts[0]["text"] if texts else None, calls)
