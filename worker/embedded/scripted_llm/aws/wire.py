"""Replies and errors in the words of Bedrock's Converse API, streams in AWS's binary framing.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html and
https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zlib import crc32

from worker.embedded.scripted_llm.anthropic.wire import signature
from worker.embedded.scripted_llm.script import Text, Thinking

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError
    from worker.embedded.scripted_llm.script import Block

STOP_REASONS = {"refusal": "content_filtered", "pause_turn": "end_turn"}
"""Bedrock's words for stop reasons of a script; all others are the same."""

EXCEPTIONS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
"""The exception that goes with a status; all others are `InternalServerException`."""

_STRING = 7
"""The type of a header's value."""


def exception(error: ApiError) -> str:
    """Return the name of the exception that an error is."""
    return error.error_type or EXCEPTIONS.get(error.status, "InternalServerException")


def error_body(error: ApiError) -> bytes:
    """Return the body of an error reply; its exception stands in a header."""
    return _json({"message": error.message})


def error_event(error: ApiError) -> bytes:
    """Return an error as an event in mid-stream, where names begin with a small letter."""
    name = exception(error)
    return _event("exception", name[0].lower() + name[1:], {"message": error.message})


def message_body(answer: Answer) -> bytes:
    """Return a reply that is not streamed."""
    return _json(
        {
            "output": {
                "message": {"role": "assistant", "content": [_finished_block(block) for block in answer.blocks]}
            },
            "stopReason": _stop_reason(answer),
            **_metadata(answer),
        }
    )


def message_stream(answer: Answer) -> tuple[list[bytes], bytes]:
    """Return a streamed reply as its chunks and its end (see `Api.stream`)."""
    chunks: list[bytes] = []
    pending = [_event("event", "messageStart", {"role": "assistant"})]
    for index, block in enumerate(answer.blocks):
        if not isinstance(block, (Text, Thinking)):  # nothing else is said to begin
            start = {"toolUse": {"toolUseId": _id(), "name": block.tool}}
            pending.append(_event("event", "contentBlockStart", {"contentBlockIndex": index, "start": start}))
        for delta in _deltas(block, answer.chunk_characters):
            pending.append(_event("event", "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}))
            chunks.append(b"".join(pending))
            pending.clear()
        pending.append(_event("event", "contentBlockStop", {"contentBlockIndex": index}))
    pending += [
        _event("event", "messageStop", {"stopReason": _stop_reason(answer)}),
        _event("event", "metadata", _metadata(answer)),
    ]
    return chunks, b"".join(pending)


def _deltas(block: Block, size: int) -> list[dict[str, Any]]:
    if isinstance(block, Text):
        return [{"text": piece} for piece in _pieces(block.text, size)]
    if isinstance(block, Thinking):
        thoughts = [
            *({"text": piece} for piece in _pieces(block.thinking, size)),
            {"signature": signature(block.thinking)},
        ]
        return [{"reasoningContent": thought} for thought in thoughts]
    arguments = _pieces(json.dumps(block.input), size) if block.input else []
    return [{"toolUse": {"input": piece}} for piece in ["", *arguments]]


def _finished_block(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"text": block.text}
    if isinstance(block, Thinking):
        thought = {"text": block.thinking, "signature": signature(block.thinking)}
        return {"reasoningContent": {"reasoningText": thought}}
    return {"toolUse": {"toolUseId": _id(), "name": block.tool, "input": block.input}}


def _stop_reason(answer: Answer) -> str:
    return STOP_REASONS.get(answer.stop_reason, answer.stop_reason)


def _metadata(answer: Answer) -> dict[str, Any]:
    """Return Bedrock's counts, whose input tokens leave out what the cache held or took."""
    read, written = answer.cache_read_input_tokens, answer.cache_creation_input_tokens
    usage = {
        "inputTokens": answer.input_tokens,
        "outputTokens": answer.output_tokens,
        "totalTokens": answer.input_tokens + answer.output_tokens + read + written,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": written,
    }
    return {"usage": usage, "metrics": {"latencyMs": 1}}


def _event(message_type: str, name: str, content: dict[str, Any]) -> bytes:
    """Frame an event: lengths and their checksum, headers, content, and the checksum of it all."""
    headers = b"".join(
        _header(key, value)
        for key, value in (
            (":message-type", message_type),
            (f":{message_type}-type", name),
            (":content-type", "application/json"),
        )
    )
    payload = _json(content)
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    framed = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return framed + struct.pack(">I", crc32(framed))


def _header(key: str, value: str) -> bytes:
    return struct.pack(f">B{len(key)}sBH{len(value)}s", len(key), key.encode(), _STRING, len(value), value.encode())


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _id() -> str:
    return f"tooluse_{uuid4().hex[:22]}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
