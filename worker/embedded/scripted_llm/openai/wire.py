"""Replies and errors in the words of the OpenAI Chat Completions API.

Source: https://platform.openai.com/docs/api-reference/chat and .../guides/error-codes.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.embedded.scripted_llm.script import Text, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError
    from worker.embedded.scripted_llm.request import ModelRequest

FINISH_REASONS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""OpenAI's words for the stop reasons of a script; all others are `stop`."""

ERROR_TYPES = {
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
"""The type and code that go with a status; all others are an `invalid_request_error` or a `server_error` without code."""

_DONE = b"data: [DONE]\n\n"


def error_body(error: ApiError) -> bytes:
    """Return the body of an error reply."""
    return _json({"error": _error(error)})


def error_event(error: ApiError) -> bytes:
    """Return an error as an event in mid-stream."""
    return b"data: %s\n\n" % _json({"error": _error(error)})


def completion_body(answer: Answer, model: str) -> bytes:
    """Return a reply that is not streamed."""
    text = "".join(block.text for block in answer.blocks if isinstance(block, Text))
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None, "annotations": []}
    calls = [_call(block) for block in answer.blocks if isinstance(block, ToolCall)]
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}
    return _json(_envelope("chat.completion", model) | {"choices": [choice], "usage": _usage(answer)})


def completion_stream(answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:
    """Return a streamed reply as its chunks and its end (see `Api.stream`)."""
    envelope = _envelope("chat.completion.chunk", request.model)
    if request.include_usage:
        envelope["usage"] = None

    def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: %s\n\n" % _json(envelope | {"choices": [choice]})

    chunks = [event(delta) for delta in _deltas(answer)]
    opening = event({"role": "assistant", "content": "", "refusal": None})
    end = event({}, _finish_reason(answer))
    if request.include_usage:
        end += b"data: %s\n\n" % _json(envelope | {"choices": [], "usage": _usage(answer)})
    if not chunks:
        return [], opening + end + _DONE
    chunks[0] = opening + chunks[0]
    return chunks, end + _DONE


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    size, calls = answer.chunk_characters, 0
    for block in answer.blocks:
        if isinstance(block, Text):
            for start in range(0, len(block.text), size):
                yield {"content": block.text[start : start + size]}
        elif isinstance(block, ToolCall):
            call = _call(block)
            arguments = call["function"]["arguments"]
            opened = call | {"function": {"name": block.tool, "arguments": ""}}
            yield {"tool_calls": [{"index": calls, **opened}]}
            for start in range(0, len(arguments), size):
                yield {"tool_calls": [{"index": calls, "function": {"arguments": arguments[start : start + size]}}]}
            calls += 1


def _call(block: ToolCall) -> dict[str, Any]:
    return {
        "id": f"call_{uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": block.tool, "arguments": json.dumps(block.input)},
    }


def _finish_reason(answer: Answer) -> str:
    return FINISH_REASONS.get(answer.stop_reason, "stop")


def _envelope(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid4().hex[:29]}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _usage(answer: Answer) -> dict[str, Any]:
    """Return OpenAI's counts, whose prompt tokens include those read from and written to the cache."""
    prompt = answer.input_tokens + answer.cache_read_input_tokens + answer.cache_creation_input_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.output_tokens,
        "total_tokens": prompt + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cache_read_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.thinking_tokens, "audio_tokens": 0},
    }


def _error(error: ApiError) -> dict[str, str | None]:
    kind, code = ERROR_TYPES.get(
        error.status, ("invalid_request_error" if error.status < 500 else "server_error", None)
    )
    if error.error_type is not None:
        kind, code = error.error_type, error.error_type if error.error_type == "insufficient_quota" else None
    return {"message": error.message, "type": kind, "param": error.param, "code": error.error_code or code}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
