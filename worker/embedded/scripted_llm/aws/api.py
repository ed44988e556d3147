"""Bedrock's Converse API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from worker.embedded.scripted_llm.api import Api
from worker.embedded.scripted_llm.aws import wire
from worker.embedded.scripted_llm.aws.body import check_body
from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult, estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.script import Script


class BedrockApi(Api):
    """`POST /model/{model}/converse` and `/converse-stream`, by an API key.

    Args:
        model: The model in the path.
        stream: Whether the answer is streamed, which the path says too.
    """

    request_id_header: ClassVar[str] = "x-amzn-requestid"
    stream_type: ClassVar[str] = "application/vnd.amazon.eventstream"

    def __init__(self, model: str, *, stream: bool) -> None:
        self._model = model
        self._stream = stream

    def api_key(self, headers: Mapping[str, str]) -> str:
        """Return the bearer token."""
        return headers.get("authorization", "").removeprefix("Bearer ")

    def authenticate(self, headers: Mapping[str, str], api_key: str, script: Script) -> None:
        """Refuse a caller without a key or with one the script rejects."""
        if not headers.get("authorization", "").startswith("Bearer "):
            raise ApiError(403, "Missing Authentication Token", error_type="MissingAuthenticationTokenException")
        if api_key in script.rejected_keys:
            raise ApiError(403, "Authentication failed: Please make sure your API Key is valid.")

    def check(self, body: object, script: Script) -> None:
        """Refuse a body the real API refuses."""
        check_body(body, allow_prefill=script.allow_prefill)

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on."""
        messages = body["messages"]
        users = (_text(message["content"]) for message in messages if message["role"] == "user")
        tools = (body.get("toolConfig") or {}).get("tools") or ()
        return ModelRequest(
            model=self._model,
            system=_text(body.get("system") or []),
            user_texts=tuple(text for text in users if text),
            tools=frozenset(tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool),
            tool_results=_final_tool_results(messages),
            stream=self._stream,
            include_usage=True,
            input_tokens=estimated_tokens(size),
        )

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:  # noqa: ARG002 - part of the protocol `Api`
        """Return a reply that is not streamed."""
        return wire.message_body(answer)

    def stream(self, answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:  # noqa: ARG002 - likewise
        """Return a streamed reply as its chunks and its end."""
        return wire.message_stream(answer)

    def error(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - part of the protocol `Api`
        """Return the body of an error reply."""
        return wire.error_body(error)

    def error_headers(self, error: ApiError) -> dict[str, str]:
        """Return the header that names the exception."""
        return {"x-amzn-errortype": wire.exception(error)}

    def error_event(self, error: ApiError) -> bytes:
        """Return an error as an event in mid-stream."""
        return wire.error_event(error)


def _final_tool_results(messages: list[dict[str, Any]]) -> tuple[ToolResult, ...]:
    """Return the results that the request ends with; after them nobody has said anything."""
    blocks = messages[-1]["content"]
    if "toolResult" not in blocks[-1]:
        return ()
    names = {
        block["toolUse"]["toolUseId"]: block["toolUse"]["name"]
        for message in messages
        for block in message["content"]
        if "toolUse" in block
    }
    return tuple(
        ToolResult(names[result["toolUseId"]], _result(result["content"]))
        for block in blocks
        if (result := block.get("toolResult"))
    )


def _result(content: list[dict[str, Any]]) -> str:
    return "\n".join(
        json.dumps(part["json"], ensure_ascii=False) if "json" in part else part["text"] for part in content
    )


def _text(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if "text" in block)
