"""Puts a streamed reply of Gemini together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import uuid4

from google.genai.types import Part
from pydantic import JsonValue

from worker.conversation.usage import LLMUsage
from worker.engine.llm.google.messages import PROVIDER_ID
from worker.engine.llm.provider import estimated_tokens
from worker.engine.llm.reply import EarlyStop, Reply, ToolCall, universal_message

if TYPE_CHECKING:
    from worker.conversation.history import Message

_Part: TypeAlias = dict[str, JsonValue]

_ORDINARY_STOP: Final = "STOP"
_STOPS: Final = {"MAX_TOKENS": "max_tokens"}
_REFUSALS: Final = frozenset(
    {
        "BLOCKLIST",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_SAFETY",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
"""Gemini's finish reasons that are refusals in the words of the engine; which one it was becomes the detail."""

_JOINED: Final = frozenset({"text", "thought"})
"""All that parts hold which are pieces of one text. A signed piece stays as it came: a signature is of its part."""


class GoogleReader:
    """Reads the chunks of a reply, part by part, with everything the provider sent.

    Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
    """

    def __init__(self) -> None:
        self.complete = False
        self._parts: list[_Part] = []
        self._early_stop: EarlyStop | None = None
        self._usage: Any = None

    def read(self, event: Any) -> bool:
        """Take a chunk in. pipecat sees the text; the rest it would lose or misread."""
        self._usage = event.usage_metadata or self._usage
        if event.prompt_feedback and (blocked := event.prompt_feedback.block_reason):
            self.complete = True
            self._early_stop = EarlyStop("refusal", event.prompt_feedback.block_reason_message or blocked.value.lower())
        if not event.candidates:
            return False
        candidate = event.candidates[0]
        parts = (candidate.content and candidate.content.parts) or []
        for part in parts:
            self._read_part(part.model_dump(mode="json", exclude_none=True))
        if candidate.finish_reason:
            self._stop(candidate.finish_reason.value, candidate.finish_message)
        text = "".join(part.text for part in parts if part.text and not part.thought)
        if text:
            candidate.content.parts = [Part(text=text)]
        return bool(text)

    @property
    def usage(self) -> LLMUsage:
        """Gemini counts thinking apart from the reply, and what the cache held as part of the prompt."""
        counted = self._usage
        prompt = _sum(counted, "prompt_token_count", "tool_use_prompt_token_count")
        completion = _sum(counted, "candidates_token_count", "thoughts_token_count")
        if not self.complete:
            completion = max(completion, estimated_tokens(sum(len(str(part.get("text", ""))) for part in self._parts)))
        return LLMUsage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            cache_read_input_tokens=_sum(counted, "cached_content_token_count"),
        )

    def reply(self) -> Reply:
        """The message. Of a reply that stopped early only the text is kept; a text of nothing but blanks never is."""
        parts: list[_Part] = []
        calls: list[ToolCall] = []
        for part in self._parts:
            call = part.get("function_call")
            if self._early_stop is not None and ("text" not in part or _thinks(part)):
                continue
            if isinstance(call, dict):
                calls.append(_named(call))
                parts.append(part)
            elif part.keys() != {"text"} or str(part["text"]).strip():
                parts.append(part)
        return Reply(_message(parts, calls), tuple(calls), self._early_stop)

    def _read_part(self, part: _Part) -> None:
        last = self._parts[-1] if self._parts else {}
        if (
            "text" in part
            and "text" in last
            and part.keys() | last.keys() <= _JOINED
            and _thinks(part) == _thinks(last)
        ):
            last["text"] = f"{last['text']}{part['text']}"
        else:
            self._parts.append(part)

    def _stop(self, reason: str, message: str | None) -> None:
        self.complete = True
        if reason in _REFUSALS:
            self._early_stop = EarlyStop("refusal", message or reason.lower())
        elif reason != _ORDINARY_STOP:
            self._early_stop = EarlyStop(_STOPS.get(reason, reason.lower()), message)


def _thinks(part: _Part) -> bool:
    return bool(part.get("thought"))


def _sum(counted: Any, *names: str) -> int:
    return sum(getattr(counted, name, None) or 0 for name in names)


def _named(call: _Part) -> ToolCall:
    """Read a call, and name it if the model did not: its result has to carry a name."""
    arguments = call.setdefault("args", {})
    call_id = call.setdefault("id", f"call_{uuid4().hex}")
    return ToolCall(str(call_id), str(call["name"]), arguments if isinstance(arguments, dict) else None)


def _message(parts: list[_Part], calls: list[ToolCall]) -> Message | None:
    """Write the parts in the universal notation if it can hold all of them, else in Gemini's own."""
    if not parts:
        return None
    texts = parts[: len(parts) - len(calls)]
    if len(texts) > 1 or any(part.keys() != {"text"} for part in texts) or not all(map(_is_plain, parts[len(texts) :])):
        return {"llm": PROVIDER_ID, "message": {"role": "assistant", "parts": list(parts)}}
    return universal_message(texts[0]["text"] if texts else None, calls)


def _is_plain(part: _Part) -> bool:
    call = part.get("function_call")
    return part.keys() == {"function_call"} and isinstance(call, dict) and call.keys() <= {"id", "name", "args"}
