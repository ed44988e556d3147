"""The Gemini API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from worker.embedded.scripted_llm.api import Api
from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.google import wire
from worker.embedded.scripted_llm.google.body import check_body
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult, estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.script import Script

GENERATE = "generateContent"
STREAM = "streamGenerateContent"


class GoogleApi(Api):
    """`POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`.

    Args:
        model: The model in the path.
        stream: Whether the answer is streamed, which the path says too.
    """

    request_id_header: ClassVar[str] = "x-request-id"
    call_ids: ClassVar[bool] = True
    """Whether calls and their results have ids."""

    def __init__(self, model: str, *, stream: bool) -> None:
        self._model = model
        self._stream = stream

    def api_key(self, headers: Mapping[str, str]) -> str:
        """Return the key."""
        return headers.get("x-goog-api-key", "")

    def authenticate(self, headers: Mapping[str, str], api_key: str, script: Script) -> None:
        """Refuse a caller without a key or with one the script rejects."""
        if "x-goog-api-key" not in headers:
            raise ApiError(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
                "or other form of API consumer identity to call this API.",
            )
        if api_key in script.rejected_keys:
            raise ApiError(400, "API key not valid. Please pass a valid API key.", error_code=wire.API_KEY_INVALID)

    def check(self, body: object, script: Script) -> None:  # noqa: ARG002 - part of the protocol `Api`
        """Refuse a body the real API refuses."""
        check_body(body, call_ids=self.call_ids)

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on."""
        contents = body["contents"]
        declarations = [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations") or ()]
        users = (_text(content) for content in contents if content.get("role", "user") == "user")
        return ModelRequest(
            model=self._model,
            system=_text(body.get("systemInstruction") or {"parts": []}),
            user_texts=tuple(text for text in users if text),
            tools=frozenset(declaration["name"] for declaration in declarations),
            tool_results=tuple(
                ToolResult(response["name"], _result(response["response"]))
                for part in contents[-1]["parts"]
                if (response := part.get("functionResponse"))
            ),
            stream=self._stream,
            include_usage=True,
            input_tokens=estimated_tokens(size),
        )

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:
        """Return a reply that is not streamed."""
        return wire.response_body(answer, request.model, call_ids=self.call_ids)

    def stream(self, answer: Answer, request: ModelRequest) -> tuple[list[bytes], bytes]:
        """Return a streamed reply as its chunks and its end."""
        return wire.response_stream(answer, request.model, call_ids=self.call_ids)

    def error(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 - part of the protocol `Api`
        """Return the body of an error reply."""
        return wire.error_body(error)

    def error_event(self, error: ApiError) -> bytes:
        """Return an error as an event in mid-stream."""
        return wire.event(wire.error_body(error))


def _result(response: dict[str, Any]) -> str:
    """Return what a tool answered. What is no object has to be put into one, which is taken off again."""
    answer = response["value"] if response.keys() == {"value"} else response
    return json.dumps(answer, ensure_ascii=False)


def _text(content: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in content["parts"] if part.get("text") and not part.get("thought"))
