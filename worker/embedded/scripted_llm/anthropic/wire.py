"""Replies and errors in the words of the Anthropic Messages API.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming and .../api/errors.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.embedded.scripted_llm.script import Text, Thinking

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError
    from worker.embedded.scripted_llm.script import Block

SIGNATURE_PREFIX = "scripted"

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def error_body(error: ApiError, request_id: str) -> bytes:
    """Return the body of an error reply."""
    return _json({"type": "error", "error": _error(error), "request_id": request_id})


def error_event(error: ApiError) -> bytes:
    """Return an error as an event in mid-stream."""
    return _event("error", {"type": "error", "error": _error(error)})


def message_body(answer: Answer, model: str) -> bytes:
    """Return a reply that is not streamed."""
    return _json(
        _message(model)
        | {
            "content": [_finished_block(block) for block in answer.blocks],
            "stop_reason": answer.stop_reason,
            "usage": _usage(answer, answer.output_tokens) | {"service_tier": "standard"},
        }
    )


def message_stream(answer: Answer, model: str) -> tuple[list[bytes], bytes]:
    """Return a streamed reply as its chunks and its end (see `Api.stream`)."""
    message = _message(model) | {"usage": _usage(answer, 1) | {"service_tier": "standard"}}
    chunks: list[bytes] = []
    pending = [_event("message_start", {"type": "message_start", "message": message})]
    for index, block in enumerate(answer.blocks):
        started = {"type": "content_block_start", "index": index, "content_block": _started_block(block)}
        pending.append(_event("content_block_start", started))
        if index == 0:
            pending.append(_PING)
        for delta in _deltas(block, answer.chunk_characters):
            pending.append(
                _event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})
            )
            chunks.append(b"".join(pending))
            pending.clear()
        pending.append(_event("content_block_stop", {"type": "content_block_stop", "index": index}))
    stopped = {
        "type": "message_delta",
        "delta": {"stop_reason": answer.stop_reason, "stop_sequence": None},
        "usage": _usage(answer, answer.output_tokens),
    }
    pending += [_event("message_delta", stopped), _STOP]
    return chunks, b"".join(pending)


def signature(thinking: str) -> str:
    """Return the signature of a thinking block: it changes with the text, so a damaged history is noticed."""
    digest = hashlib.sha256(thinking.encode()).digest()
    return SIGNATURE_PREFIX + base64.b64encode(digest).decode()


def _deltas(block: Block, size: int) -> list[dict[str, str]]:
    if isinstance(block, Text):
        return [{"type": "text_delta", "text": piece} for piece in _pieces(block.text, size)]
    if isinstance(block, Thinking):
        thinking = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block.thinking, size)]
        return [*thinking, {"type": "signature_delta", "signature": signature(block.thinking)}]
    # The real API opens the arguments with an empty piece; a call without arguments has nothing but that.
    arguments = _pieces(json.dumps(block.input), size) if block.input else []
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *arguments]]


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _started_block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": ""}
    if isinstance(block, Thinking):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "tool_use", "id": _id("toolu"), "name": block.tool, "input": {}}


def _finished_block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    if isinstance(block, Thinking):
        return {"type": "thinking", "thinking": block.thinking, "signature": signature(block.thinking)}
    return {"type": "tool_use", "id": _id("toolu"), "name": block.tool, "input": block.input}


def _message(model: str) -> dict[str, Any]:
    return {
        "id": _id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(answer: Answer, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": answer.input_tokens,
        "cache_creation_input_tokens": answer.cache_creation_input_tokens,
        "cache_read_input_tokens": answer.cache_read_input_tokens,
        "output_tokens": output_tokens,
    }


def _error(error: ApiError) -> dict[str, str]:
    default = "invalid_request_error" if error.status < 500 else "api_error"
    return {"type": error.error_type or ERROR_TYPES.get(error.status, default), "message": error.message}


def _id(kind: str) -> str:
    return f"{kind}_01{uuid4().hex[:22]}"


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _json(data))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
