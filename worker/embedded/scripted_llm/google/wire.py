"""Replies and errors in the words of the Gemini API.

Source: https://ai.google.dev/api/generate-content, .../gemini-api/docs/thought-signatures and .../troubleshooting.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.embedded.scripted_llm.script import Text, Thinking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError

FINISH_REASONS = {
    "max_tokens": "MAX_TOKENS",
    "model_context_window_exceeded": "MAX_TOKENS",
    "refusal": "SAFETY",
    "malformed_tool_use": "MALFORMED_FUNCTION_CALL",
}
"""Gemini's words for the stop reasons of a script; all others are `STOP`."""

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The status in words that goes with a status in figures; all others are `INTERNAL`."""

API_KEY_INVALID = "API_KEY_INVALID"

SIGNATURE_PREFIX = b"scripted:"
"""What the signatures of this server begin with. There are others: a caller may stand in for one it never had."""


def event(body: bytes) -> bytes:
    """Return an event of a stream."""
    return b"data: %s\r\n\r\n" % body


def error_body(error: ApiError) -> bytes:
    """Return the body of an error reply."""
    body: dict[str, Any] = {
        "code": error.status,
        "message": error.message,
        "status": error.error_type or STATUSES.get(error.status, "INTERNAL"),
    }
    details: list[dict[str, Any]] = []
    if error.error_code is not None:
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.error_code,
                "domain": "googleapis.com",
            }
        )
    if error.retry_after is not None:
        delay = f"{error.retry_after:g}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return _json({"error": body | ({"details": details} if details else {})})


def response_body(answer: Answer, model: str, *, call_ids: bool) -> bytes:
    """Return a reply that is not streamed."""
    return _response(answer, model, list(_parts(answer, None, call_ids=call_ids)), last=True)


def response_stream(answer: Answer, model: str, *, call_ids: bool) -> tuple[list[bytes], bytes]:
    """Return a streamed reply as its chunks and its end (see `Api.stream`)."""
    parts = _parts(answer, answer.chunk_characters, call_ids=call_ids)
    chunks = [event(_response(answer, model, [part])) for part in parts]
    return chunks, event(_response(answer, model, [{"text": ""}], last=True))


def signature(signed: str) -> str:
    """Return the signature of a thought, fastened to a part: it changes with the part, so that damage is noticed."""
    return base64.b64encode(SIGNATURE_PREFIX + hashlib.sha256(signed.encode()).digest()).decode()


def signed_content(part: dict[str, Any]) -> str:
    """What of a part a signature is of: the call, or its text."""
    call = part.get("functionCall")
    return json.dumps([call["name"], call.get("args", {})], sort_keys=True) if call else str(part.get("text", ""))


def _parts(answer: Answer, size: int | None, *, call_ids: bool) -> Iterator[dict[str, Any]]:
    """Write the blocks as parts. Thinking signs what follows it: a call, or a text, at whose end comes an empty part."""
    to_sign = False
    for block in answer.blocks:
        if isinstance(block, Thinking):
            yield from ({"text": piece, "thought": True} for piece in _pieces(block.thinking, size))
            to_sign = True
        elif isinstance(block, Text):
            yield from ({"text": piece} for piece in _pieces(block.text, size))
            if to_sign:
                yield {"text": "", "thoughtSignature": signature("")}
            to_sign = False
        else:
            named = {"id": uuid4().hex[:8]} if call_ids else {}
            part: dict[str, Any] = {"functionCall": {**named, "name": block.tool, "args": block.input}}
            if to_sign:
                part["thoughtSignature"] = signature(signed_content(part))
            to_sign = False
            yield part


def _pieces(text: str, size: int | None) -> list[str]:
    return [text] if size is None else [text[start : start + size] for start in range(0, len(text), size)]


def _response(answer: Answer, model: str, parts: list[dict[str, Any]], *, last: bool = False) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = FINISH_REASONS.get(answer.stop_reason, "STOP")
    return _json(
        {
            "candidates": [candidate],
            "usageMetadata": _usage(answer, counts_output=last),
            "modelVersion": model,
            "responseId": uuid4().hex[:22],
        }
    )


def _usage(answer: Answer, *, counts_output: bool) -> dict[str, int]:
    """Return Gemini's counts, whose prompt tokens include those read from the cache and which has thoughts apart."""
    prompt = answer.input_tokens + answer.cache_read_input_tokens + answer.cache_creation_input_tokens
    counts = {"promptTokenCount": prompt, "totalTokenCount": prompt}
    if answer.cache_read_input_tokens:
        counts["cachedContentTokenCount"] = answer.cache_read_input_tokens
    if counts_output:
        thoughts = min(answer.thinking_tokens, answer.output_tokens)
        counts["candidatesTokenCount"] = answer.output_tokens - thoughts
        counts["totalTokenCount"] += answer.output_tokens
        if thoughts:
            counts["thoughtsTokenCount"] = thoughts
    return counts


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
