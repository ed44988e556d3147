"""The Anthropic Messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from worker.embedded.scripted_llm.anthropic import wire
from worker.embedded.scripted_llm.anthropic.body import check_body
from worker.embedded.scripted_llm.api import Api
from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult, estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.script import Script


class AnthropicApi(Api):
    """`POST /v1/messages`, streaming and not."""

    request_id_header: ClassVar[str] = "request-id"

    def api_key(self, headers: Mapping[str, str]) -> str:
        """Return the value of `x-api-key`, or the bearer token."""
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def authenticate(self, headers: Mapping[str, str], api_key: str, script: Script) -> None:
        """Refuse a caller without a key or with one the script rejects."""
        if not api_key:
            raise ApiError(401, "x-api-key header is required")
        if api_key in script.rejected_keys:
            raise ApiError(401, "invalid x-api-key")
        if "anthropic-version" not in headers:
            raise ApiError(400, "anthropic-version: header is required")

    def check(self, body: object, script: Script) -> None:
        """Refuse a body the real API refuses."""
        check_body(body, allow_prefill=script.allow_prefill)

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on."""
        messages = body["messages"]
        return ModelRequest(
            model=body["model"],
            system=_text(body.get("system") or ""),
            user_texts=tuple(
                text for message in messages if message["role"] == "user" and (text := _text(message["content"]))
            ),
            tools=frozenset(tool["name"] for tool in body.get("tools") or ()),
            tool_results=_final_tool_results(messages),
            stream=bool(body.get("stream")),
            include_usage=True,
            input_tokens=estimated_tokens(size),
        )

    def count_tokens(self, raw: bytes, body: object, script: Script) -> bytes:
        """Return the answer to `POST /v1/messages/count_tokens`."""
        check_body(body, allow_prefill=script.allow_prefill, counting=True)
        return b'{"input_tokens":%d}' % estimated_tokens(len(raw))

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:
        """Return a reply that is not streamed."""
        return wire.message_body(answer, request.model)

    def stream(self, answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:
        """Return a streamed reply as its chunks and its end."""
        return wire.message_stream(answer, request.model)

    def error(self, error: ApiError, request_id: str) -> bytes:
        """Return the body of an error reply."""
        return wire.error_body(error, request_id)

    def error_event(self, error: ApiError) -> bytes:
        """Return an error as an event in mid-stream."""
        return wire.error_event(error)


def _text(content: str | list[Any]) -> str:
    """Return the text of a content value, whose blocks are separate lines."""
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block["type"] == "text")


def _final_tool_results(messages: list[dict[str, Any]]) -> tuple[ToolResult, ...]:
    """Return the results that the request ends with; after them nobody has said anything."""
    blocks: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message["role"] != "user":
            break
        content = message["content"]
        blocks[:0] = [{"type": "text"}] if isinstance(content, str) else content
    if not blocks or blocks[-1]["type"] != "tool_result":
        return ()
    names = {
        block["id"]: block["name"]
        for message in messages
        if message["role"] == "assistant" and not isinstance(message["content"], str)
        for block in message["content"]
        if block["type"] == "tool_use"
    }
    return tuple(
        ToolResult(names[block["tool_use_id"]], _text(block.get("content") or ""))
        for block in blocks
        if block["type"] == "tool_result"
    )
