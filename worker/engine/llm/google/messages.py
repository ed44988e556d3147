"""Messages in Gemini's own notation: as a conversation keeps them, and as the SDK sends them.

Kept are the parts of a reply, as JSON with the names of the SDK, bytes in base64:
`{"role": "assistant", "parts": [{"text": ...}, {"function_call": {"id", "name", "args"}, "thought_signature": ...}]}`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from google.genai.types import Content, FunctionCall, FunctionResponse, Part
from pipecat.adapters.llm.services.gemini_adapter import GeminiLLMAdapter
from pipecat.processors.aggregators.llm_context import LLMSpecificMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema

PROVIDER_ID: Final = "google"
"""What pipecat calls Google's own messages."""


class GoogleAdapter(GeminiLLMAdapter):  # type: ignore[no-untyped-call] # pipecat's base class does without
    """pipecat's adapter, which converts what the user says; the tools, and what they and the model say, are converted here.

    pipecat's drops the text of a message that also calls tools, puts each of several results in a message of its own,
    and expects signatures beside the messages they belong to.
    """

    def to_provider_tools_format(self, tools_schema: ToolsSchema) -> list[dict[str, Any]]:
        """Declare the tools by JSON Schema, which is what their schemas are.

        pipecat declares them by Gemini's own schema, which has no word for much of that: one tool that needs such a word
        would make every request an invalid one.
        """
        declarations = [_declaration(tool.to_default_dict()) for tool in tools_schema.standard_tools]
        return [{"function_declarations": declarations}] if declarations else []

    def _from_universal_context_messages(
        self,
        universal_context_messages: list[Any],
        *,
        system_instruction: str | None = None,  # noqa: ARG002 -- stays one: pipecat would repeat it as the user's
    ) -> GeminiLLMAdapter.ConvertedMessages:
        return super()._from_universal_context_messages(list(_as_contents(universal_context_messages)))


class VertexAdapter(GoogleAdapter):  # type: ignore[no-untyped-call] # as above
    """The same for Vertex AI, which tells calls and their results apart by their order and refuses ids."""

    def _from_universal_context_messages(self, *args: Any, **kwargs: Any) -> GeminiLLMAdapter.ConvertedMessages:
        converted = super()._from_universal_context_messages(*args, **kwargs)
        for content in converted.messages:
            for part in content.parts or ():
                if exchanged := part.function_call or part.function_response:
                    exchanged.id = None
        return converted


def _declaration(tool: dict[str, Any]) -> dict[str, Any]:
    """Declare one tool. Some models refuse an object without properties, so where there are none nothing is said."""
    parameters = tool.pop("parameters")
    return {**tool, "parameters_json_schema": parameters} if parameters.get("properties") else tool


def _as_contents(messages: Iterable[Any]) -> Iterator[Any]:
    """Put what the model and the tools said into the SDK's words. Results of one reply go back together."""
    names: dict[str, str] = {}
    results: list[Part] = []
    for message in messages:
        own = isinstance(message, LLMSpecificMessage)
        role = "assistant" if own else message["role"]
        if role == "tool":
            results.append(_result(message, names))
            continue
        if results:
            yield _content("user", results)
            results = []
        if role == "assistant":
            parts = _own_parts(message.message) if own else _universal_parts(message)
            names.update((str(call.id), str(call.name)) for part in parts if (call := part.function_call))
            yield _content("model", parts)
        else:
            yield message
    if results:
        yield _content("user", results)


def _content(role: str, parts: list[Part]) -> LLMSpecificMessage:
    return LLMSpecificMessage(llm=PROVIDER_ID, message=Content(role=role, parts=parts))


def _own_parts(message: dict[str, Any]) -> list[Part]:
    return [Part.model_validate_json(json.dumps(part)) for part in message["parts"]]


def _universal_parts(message: dict[str, Any]) -> list[Part]:
    text = message.get("content")
    parts = [Part(text=text)] if isinstance(text, str) and text else []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = json.loads(function["arguments"])
        parts.append(Part(function_call=FunctionCall(id=call["id"], name=function["name"], args=arguments)))
    return parts


def _result(message: dict[str, Any], names: dict[str, str]) -> Part:
    call_id = message["tool_call_id"]
    return Part(
        function_response=FunctionResponse(
            id=call_id,
            name=names[call_id],
            response=GoogleAdapter.to_function_response_dict(message["content"]),
        )
    )
