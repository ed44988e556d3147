"""Replies and errors in the words of the OpenAI Responses API.

Source: https://platform.openai.com/docs/api-reference/responses and .../responses-streaming.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.embedded.scripted_llm.openai.wire import error_body
from worker.embedded.scripted_llm.script import Text, Thinking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError
    from worker.embedded.scripted_llm.script import Block

INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}
"""OpenAI's reasons for an incomplete response, by the stop reasons of a script; with all others it is complete."""


def encrypted_content(item_id: str) -> str:
    """Return what a thought looks like encrypted: it belongs to one item, so that damage is noticed."""
    return base64.b64encode(b"scripted:" + hashlib.sha256(item_id.encode()).digest()).decode()


def error_event(error: ApiError) -> bytes:
    """Return an error as an event in mid-stream."""
    told = json.loads(error_body(error))["error"]
    return _event(
        "error", 0, {"code": told["code"] or told["type"], "message": told["message"], "param": told["param"]}
    )


def response_body(answer: Answer, model: str) -> bytes:
    """Return a reply that is not streamed."""
    return json.dumps(_response(answer, model, [_item(block) for block in answer.blocks])).encode()


def response_stream(answer: Answer, model: str) -> tuple[list[bytes], bytes]:
    """Return a streamed reply as its chunks and its end (see `Api.stream`)."""
    numbers = count()
    items = [_item(block) for block in answer.blocks]
    response = _response(answer, model, items)
    begun = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    before = b"".join(
        _event(kind, next(numbers), {"response": begun}) for kind in ("response.created", "response.in_progress")
    )
    chunks: list[bytes] = []
    for place, (block, item) in enumerate(zip(answer.blocks, items, strict=True)):
        for kind, fields in _item_events(block, item, answer.chunk_characters):
            event = _event(kind, next(numbers), {"output_index": place, **fields})
            if kind.endswith(".delta") or (kind == "response.output_item.done" and isinstance(block, Thinking)):
                chunks.append(before + event)
                before = b""
            else:
                before += event
    return chunks, before + _event(f"response.{response['status']}", next(numbers), {"response": response})


def _item_events(block: Block, item: dict[str, Any], size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events that announce an item, fill it and finish it. A thought comes as a whole."""
    item_id = {"item_id": item["id"]}
    if isinstance(block, Thinking):
        yield "response.output_item.added", {"item": {**item, "encrypted_content": None}}
    elif isinstance(block, Text):
        part = {"content_index": 0, **item_id}
        yield "response.output_item.added", {"item": {**item, "content": [], "status": "in_progress"}}
        yield "response.content_part.added", {**part, "part": {**item["content"][0], "text": ""}}
        for piece in _pieces(block.text, size):
            yield "response.output_text.delta", {**part, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**part, "text": block.text, "logprobs": []}
        yield "response.content_part.done", {**part, "part": item["content"][0]}
    else:
        yield "response.output_item.added", {"item": {**item, "arguments": "", "status": "in_progress"}}
        for piece in _pieces(item["arguments"], size):
            yield "response.function_call_arguments.delta", {**item_id, "delta": piece}
        yield "response.function_call_arguments.done", {**item_id, "arguments": item["arguments"], "name": item["name"]}
    yield "response.output_item.done", {"item": item}


def _item(block: Block) -> dict[str, Any]:
    if isinstance(block, Thinking):
        item_id = f"rs_{uuid4().hex}"
        return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": encrypted_content(item_id)}
    if isinstance(block, Text):
        content = {"type": "output_text", "text": block.text, "annotations": [], "logprobs": []}
        return {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [content],
        }
    return {
        "id": f"fc_{uuid4().hex}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{uuid4().hex[:24]}",
        "name": block.tool,
        "arguments": json.dumps(block.input),
    }


def _response(answer: Answer, model: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    reason = INCOMPLETE.get(answer.stop_reason)
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if reason else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "store": False,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": _usage(answer),
    }


def _usage(answer: Answer) -> dict[str, Any]:
    """Return OpenAI's counts, whose input tokens include those read from and written to the cache."""
    prompt = answer.input_tokens + answer.cache_read_input_tokens + answer.cache_creation_input_tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": answer.cache_read_input_tokens},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.thinking_tokens},
        "total_tokens": prompt + answer.output_tokens,
    }


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _event(kind: str, number: int, fields: dict[str, Any]) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": number, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()
