"""The OpenAI Responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.embedded.scripted_llm.openai.api import OpenAIApi
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult, estimated_tokens
from worker.embedded.scripted_llm.responses import wire
from worker.embedded.scripted_llm.responses.body import check_body

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.errors import ApiError
    from worker.embedded.scripted_llm.script import Script


class ResponsesApi(OpenAIApi):
    """`POST /v1/responses`, streaming and not. Keys and plain errors are those of Chat Completions."""

    def check(self, body: object, script: Script) -> None:  # noqa: ARG002 - part of the protocol `Api`
        """Refuse a body the real API refuses."""
        check_body(body)

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on."""
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        said = [item["content"] for item in items if item.get("role") in ("system", "developer")]
        users = (_text(item["content"]) for item in items if item.get("role") == "user")
        return ModelRequest(
            model=body["model"],
            system="\n".join([body.get("instructions") or "", *map(_text, said)]).strip(),
            user_texts=tuple(text for text in users if text),
            tools=frozenset(tool["name"] for tool in body.get("tools") or () if tool["type"] == "function"),
            tool_results=_final_tool_results(items),
            stream=bool(body.get("stream")),
            include_usage=True,
            input_tokens=estimated_tokens(size),
        )

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:
        """Return a reply that is not streamed."""
        return wire.response_body(answer, request.model)

    def stream(self, answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:
        """Return a streamed reply as its chunks and its end."""
        return wire.response_stream(answer, request.model)

    def error_event(self, error: ApiError) -> bytes:
        """Return an error as an event in mid-stream."""
        return wire.error_event(error)


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "input_text")


def _final_tool_results(items: list[dict[str, Any]]) -> tuple[ToolResult, ...]:
    """Return the results that the request ends with, in their order."""
    results: list[dict[str, Any]] = []
    for item in reversed(items):
        if item.get("type") != "function_call_output":
            break
        results.insert(0, item)
    names = {item["call_id"]: item["name"] for item in items if item.get("type") == "function_call"}
    return tuple(ToolResult(names[result["call_id"]], result["output"]) for result in results)
