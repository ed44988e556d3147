"""Puts a streamed reply of Bedrock's Converse API together again."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from worker.conversation.usage import LLMUsage
from worker.engine.llm.aws.messages import PROVIDER_ID
from worker.engine.llm.provider import estimated_tokens
from worker.engine.llm.reply import EarlyStop, Reply, is_kept, parse_arguments, tool_call, universal_message

if TYPE_CHECKING:
    from worker.conversation.history import Message
    from worker.engine.llm.reply import Block, ToolCall

_ORDINARY_STOPS: Final = frozenset({"end_turn", "tool_use", "stop_sequence"})
_REFUSALS: Final = frozenset({"content_filtered", "guardrail_intervened"})
"""Bedrock's stop reasons that are refusals in the words of the engine; which one it was becomes the detail."""


class BedrockReader:
    """Reads the events of a reply, block by block, with everything the provider sent.

    Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html.
    """

    def __init__(self) -> None:
        self.complete = False
        self._blocks: dict[int, Block] = {}
        self._arguments: dict[int, str] = {}
        self._redacted: dict[int, bytes] = {}
        self._text_length = 0
        self._stop_reason = ""
        self._counted: dict[str, int] | None = None

    def read(self, event: dict[str, Any]) -> bool:
        """Take an event in. pipecat sees the text; the rest it would lose or misread."""
        ((kind, content),) = event.items()
        match kind:
            case "contentBlockStart":
                if call := content["start"].get("toolUse"):
                    self._blocks[content["contentBlockIndex"]] = {
                        "type": "tool_use",
                        "id": call["toolUseId"],
                        "name": call["name"],
                        "input": {},
                    }
            case "contentBlockDelta":
                self._read_delta(content["contentBlockIndex"], content["delta"])
                return "text" in content["delta"]
            case "messageStop":
                self.complete = True
                self._stop_reason = content["stopReason"]
            case "metadata":  # comes last
                self._counted = content["usage"]
        return False

    @property
    def usage(self) -> LLMUsage:
        """Bedrock counts input without what the cache held or took; the total here is of everything."""
        counted = self._counted or {"outputTokens": estimated_tokens(self._text_length)}
        prompt, completion, cache_read, cache_write = (
            counted.get(name) or 0
            for name in ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
        )
        return LLMUsage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion + cache_read + cache_write,
            cache_read_input_tokens=cache_read,
            cache_creation_input_tokens=cache_write,
        )

    def reply(self) -> Reply:
        """The message, with all of it that can be sent back."""
        early_stop = self._early_stop()
        calls: list[ToolCall] = []
        blocks: list[Block] = []
        for index, block in sorted(self._blocks.items()):
            if not is_kept(block, stopped_early=early_stop is not None):
                continue
            match block["type"]:
                case "tool_use":
                    block["input"] = parse_arguments(self._arguments.get(index, ""))
                    calls.append(tool_call(block))
                    block["input"] = block["input"] or {}
                case "redacted_thinking":
                    block["data"] = base64.b64encode(self._redacted[index]).decode()
            blocks.append(block)
        return Reply(_message(blocks, calls), tuple(calls), early_stop)

    def _read_delta(self, index: int, delta: dict[str, Any]) -> None:
        thought = delta.get("reasoningContent") or {}
        if "text" in delta:
            self._add_text(index, "text", delta["text"])
        elif "toolUse" in delta:
            self._arguments[index] = self._arguments.get(index, "") + delta["toolUse"]["input"]
        elif "text" in thought:
            self._add_text(index, "thinking", thought["text"])
        elif "signature" in thought:
            block = self._blocks.setdefault(index, {"type": "thinking", "thinking": ""})
            block["signature"] = f"{block.get('signature', '')}{thought['signature']}"
        elif "redactedContent" in thought:
            self._blocks.setdefault(index, {"type": "redacted_thinking"})
            self._redacted[index] = self._redacted.get(index, b"") + thought["redactedContent"]

    def _add_text(self, index: int, kind: str, text: str) -> None:
        block = self._blocks.setdefault(index, {"type": kind, kind: ""})
        block[kind] = f"{block[kind]}{text}"
        self._text_length += len(text)

    def _early_stop(self) -> EarlyStop | None:
        if self._stop_reason in _ORDINARY_STOPS:
            return None
        if self._stop_reason in _REFUSALS:
            return EarlyStop("refusal", self._stop_reason)
        return EarlyStop(self._stop_reason)


def _message(blocks: list[Block], calls: list[ToolCall]) -> Message | None:
    """Write the blocks in the universal notation if it can hold all of them, else as they are."""
    if not blocks:
        return None
    texts = blocks[: len(blocks) - len(calls)]
    if len(texts) > 1 or any(block["type"] != "text" for block in texts):
        return {"llm": PROVIDER_ID, "message": {"role": "assistant", "content": list(blocks)}}
    return universal_message(texts[0]["text"] if texts else None, calls)
