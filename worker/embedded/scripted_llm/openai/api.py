"""The OpenAI Chat Completions API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from worker.embedded.scripted_llm.api import Api
from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.openai import wire
from worker.embedded.scripted_llm.openai.body import check_body
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult, estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.script import Script


class OpenAIApi(Api):
    """`POST /v1/chat/completions`, streaming and not."""

    request_id_header: ClassVar[str] = "x-request-id"

    def api_key(self, headers: Mapping[str, str]) -> str:
        """Return the bearer token."""
        return headers.get("authorization", "").removeprefix("Bearer ")

    def authenticate(self, headers: Mapping[str, str], api_key: str, script: Script) -> None:
        """Refuse a caller without a key or with one the script rejects."""
        if not headers.get("authorization", "").startswith("Bearer "):
            raise ApiError(
                401,
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )
        if api_key in script.rejected_keys:
            masked = "*" * len(api_key[:-4]) + api_key[-4:]
            raise ApiError(401, f"Incorrect API key provided: {masked}.", error_code="invalid_api_key")

    def check(self, body: object, script: Script) -> None:  # noqa: ARG002 - part of the protocol `Api`
        """Refuse a body the real API refuses."""
        check_body(body)

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on."""
        messages = body["messages"]
        return ModelRequest(
            model=body["model"],
            system="\n".join(_text(message) for message in messages if message["role"] in ("system", "developer")),
            user_texts=tuple(text for message in messages if message["role"] == "user" and (text := _text(message))),
            tools=frozenset(tool["function"]["name"] for tool in body.get("tools") or ()),
            tool_results=_final_tool_results(messages),
            stream=bool(body.get("stream")),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            input_tokens=estimated_tokens(size),
        )

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:
        """Return a reply that is not streamed."""
        return wire.completion_body(answer, request.model)

    def stream(self, answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:
        """Return a streamed reply as its chunks and its end."""
        return wire.completion_stream(answer, request)

    def error(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - part of the protocol `Api`
        """Return the body of an error reply."""
        return wire.error_body(error)

    def error_event(self, error: ApiError) -> bytes:
        """Return an error as an event in mid-stream."""
        return wire.error_event(error)


def _text(message: dict[str, Any]) -> str:
    """Return the text of a message, whose content parts are separate lines."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _final_tool_results(messages: list[dict[str, Any]]) -> tuple[ToolResult, ...]:
    """Return the results that the request ends with, in their order."""
    results: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.insert(0, message)
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()}
    return tuple(ToolResult(names[result["tool_call_id"]], _text(result)) for result in results)
