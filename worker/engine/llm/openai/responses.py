"""OpenAI's Responses API, and whoever else speaks it, through pipecat's own services."""

from __future__ import annotations

import re
from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from pipecat.services.openai.responses.llm import OpenAIResponsesLLMSettings

from worker.engine.llm.openai.client import ERRORS, open_client
from worker.engine.llm.openai.responses_messages import PROVIDER_ID, ResponsesAdapter
from worker.engine.llm.openai.responses_reader import ResponsesReader
from worker.engine.llm.provider import TextOnly, check_parameters, pipecat_service

if TYPE_CHECKING:
    from collections.abc import Mapping

    import openai
    from pipecat.services.llm_service import LLMService
    from pydantic import JsonValue

    from worker.engine.llm.calls import LLMCalls
    from worker.engine.llm.reply_stream import ReplyStream
    from worker.engine.request import ResolvedModel

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

_COMMON_SETTINGS: Final = frozenset(field.name for field in fields(OpenAIResponsesLLMSettings))


class ResponsesProvider:
    """OpenAI by its Responses API, a provider for which pipecat has a service that speaks it too, or any server that does."""

    message_id = PROVIDER_ID
    errors = ERRORS

    def __init__(self, name: str) -> None:
        pipecats = pipecat_service(name)
        self.processor = pipecats.__name__
        self._service: type[Any] = type(self.processor, (_OnSharedClient, pipecats), {"__doc__": pipecats.__doc__})
        self._own_settings = {field.name for field in fields(pipecats.Settings)} - _COMMON_SETTINGS

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
        own = {name: value for name, value in model.parameters.items() if name in self._own_settings}
        others = {name: value for name, value in model.parameters.items() if name not in own}
        settings = self._service.Settings(
            model=model.model,
            system_instruction=system_prompt or None,
            use_provider_thinking_default=True,  # pipecat's own is as little as there is, for a voice that must not wait
            extra=_extra(model.model, model.effort, others),
            **own,
        )
        if model.temperature is not None:
            settings.temperature = model.temperature
        if model.max_tokens is not None:
            settings.max_completion_tokens = model.max_tokens
        service: LLMService[Any] = self._service(
            reading_along=_reading_along(client, calls), settings=settings, api_key="none", name=self.processor
        )
        return service


def create_provider(name: str) -> ResponsesProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    return ResponsesProvider(name)


class _OnSharedClient(TextOnly):
    """Mixed into pipecat's services for this protocol."""

    adapter_class = ResponsesAdapter

    def __init__(self, *, reading_along: SimpleNamespace, **kwargs: Any) -> None:
        self._reading_along = reading_along
        super().__init__(**kwargs)

    def _create_client(self, **_kwargs: Any) -> SimpleNamespace:
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
        # Nothing is stored at the provider's, so what the model thought comes here, and goes back with its calls.
        extra["include"] = ["reasoning.encrypted_content"]
    return extra
