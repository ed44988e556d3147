"""OpenAI's Responses API, through pipecat's own service."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from pipecat.services.openai.responses.llm import OpenAIResponsesHttpLLMService, OpenAIResponsesLLMSettings

from worker.engine.llm.openai_client import ERRORS, open_client
from worker.engine.llm.openai_responses_messages import PROVIDER_ID, ResponsesAdapter
from worker.engine.llm.openai_responses_reader import ResponsesReader
from worker.engine.llm.provider import TextOnly, check_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    import openai
    from pipecat.services.llm_service import LLMService
    from pydantic import JsonValue

    from worker.engine.llm.calls import LLMCalls, ReplyStream
    from worker.engine.request import ResolvedModel

PROCESSOR: Final = "OpenAIResponsesHttpLLMService"

_NOT_PARAMETERS: Final = (
    "background",
    "conversation",
    "include",
    "input",
    "instructions",
    "previous_response_id",
    "store",
)
"""What of a request is the engine's to say. A conversation is kept here, and by nobody else."""

_REASONS: Final = re.compile(r"o\d|gpt-(?:[5-9]|\d\d)(?!.*chat)")
"""Models that reason without being asked to. Others refuse to be asked for what they thought."""


class ResponsesProvider:
    """OpenAI by its Responses API, or whoever speaks it at another base URL."""

    message_id = PROVIDER_ID
    processor = PROCESSOR
    errors = ERRORS

    def connect(self, model: ResolvedModel) -> openai.AsyncOpenAI:
        """Create the SDK's client."""
        return open_client(model)

    def service(
        self,
        client: openai.AsyncOpenAI,
        model: ResolvedModel,
        calls: LLMCalls,
        system_prompt: str,
        *,
        cache_prompt: bool = True,  # noqa: ARG002 -- OpenAI decides that itself, at no cost
    ) -> LLMService[Any]:
        """Create pipecat's service for one turn."""
        check_parameters(model.parameters, *_NOT_PARAMETERS)
        settings = OpenAIResponsesLLMSettings(
            model=model.model,
            system_instruction=system_prompt or None,
            use_provider_thinking_default=True,  # pipecat's own is as little as there is, for a voice that must not wait
            extra=_extra(model.model, model.effort, model.parameters),
        )
        if model.temperature is not None:
            settings.temperature = model.temperature
        if model.max_tokens is not None:
            settings.max_completion_tokens = model.max_tokens
        return _Service(reading_along=_reading_along(client, calls), settings=settings)


def create_provider(_name: str) -> ResponsesProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    return ResponsesProvider()


class _Service(TextOnly, OpenAIResponsesHttpLLMService):
    """pipecat's service."""

    adapter_class = ResponsesAdapter

    def __init__(self, *, reading_along: SimpleNamespace, settings: OpenAIResponsesLLMSettings) -> None:
        self._reading_along = reading_along
        super().__init__(api_key="none", settings=settings, name=PROCESSOR)

    def _create_client(self, *_args: Any, **_kwargs: Any) -> Any:
        return self._reading_along


def _reading_along(client: openai.AsyncOpenAI, calls: LLMCalls) -> SimpleNamespace:
    """Stand in for the SDK's client with the one method that pipecat's service calls on it."""
    responses: Any = client.responses

    async def send(*, system: str | None, messages: Any, **request: Any) -> Any:
        instructions = {} if system is None else {"instructions": system}
        return await responses.create(input=messages, **instructions, **request)

    async def create(**request: Any) -> ReplyStream | SimpleNamespace:
        asks_aside = not request["stream"]
        # The names by which `LLMCalls` knows the parts of a request from the other SDKs.
        request |= {"stream": True, "system": request.pop("instructions", None), "messages": request.pop("input")}
        if not asks_aside:
            return await calls.stream(send, request, ResponsesReader())
        # It is streamed all the same, so that silence is noticed and what was used is known.
        reply = await calls.ask(send, request, ResponsesReader())
        return SimpleNamespace(output_text=reply.text)

    return SimpleNamespace(responses=SimpleNamespace(create=create))


def _extra(model: str, effort: str | None, parameters: Mapping[str, JsonValue]) -> dict[str, Any]:
    """What the request has besides what pipecat's service writes."""
    given = parameters.get("reasoning")
    reasoning = {**({} if effort is None else {"effort": effort}), **(given if isinstance(given, dict) else {})}
    extra: dict[str, Any] = {"extra_body": {**parameters, **({"reasoning": reasoning} if reasoning else {})}}
    if reasoning or _REASONS.match(model):
        # Nothing is stored at OpenAI's, so what the model thought comes here, and goes back with its calls.
        extra["include"] = ["reasoning.encrypted_content"]
    return extra
