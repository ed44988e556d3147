"""Google's Gemini API, through pipecat's own service."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import httpx2
from google.genai.types import GenerateContentConfig
from pipecat.services.google.llm import GoogleLLMService, GoogleLLMSettings, GoogleThinkingConfig
from pydantic import ValidationError

from worker.engine.failures import InvalidModelParameters, LLMNotConfigured
from worker.engine.llm.errors import SDKErrors
from worker.engine.llm.google.client import open_client
from worker.engine.llm.google.messages import PROVIDER_ID, GoogleAdapter
from worker.engine.llm.google.reader import GoogleReader
from worker.engine.llm.google.stream import GoogleError, GoogleStatusError, open_stream
from worker.engine.llm.provider import TextOnly, address, check_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipecat.services.llm_service import LLMService
    from pydantic import JsonValue

    from worker.engine.llm.calls import LLMCalls
    from worker.engine.llm.google.client import GoogleClient
    from worker.engine.llm.google.stream import GoogleStream
    from worker.engine.llm.reply_stream import ReplyStream
    from worker.engine.request import ResolvedModel

_NOT_PARAMETERS: Final = frozenset(
    {
        "automatic_continuation",
        "automatic_function_calling",
        "candidate_count",
        "continuation_token",
        "http_options",  # an address, and headers beside the key
        "response_modalities",
        "should_return_http_response",
        "speech_config",
        "system_instruction",
        "tool_config",
        "tools",
    }
)
"""What the SDK's configuration of a request holds that is the engine's to say, or that a text turn has no use for."""

_MODEL_NAME: Final = re.compile(r"(?:[\w-]+/)*[\w-]+(?:\.[\w-]+)*")
"""What can be a model's name. It becomes a part of the address, so the SDK refuses others, as if their answer broke off."""

_TAKES_A_BUDGET: Final = re.compile(r"(?:.*/)?gemini-2\.")
_BUDGETS: Final[Mapping[str, int]] = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "max": 24576}
"""How many tokens an effort is for models before Gemini 3. They are Google's own numbers, for those who come with
OpenAI's SDK: https://ai.google.dev/gemini-api/docs/openai#thinking."""

_HIGHEST_LEVEL: Final = "high"


class GoogleService(TextOnly, GoogleLLMService):
    """pipecat's service."""

    adapter_class: type[GoogleAdapter] = GoogleAdapter

    def __init__(self, *, reading_along: SimpleNamespace, settings: GoogleLLMSettings, name: str) -> None:
        self._reading_along = reading_along
        super().__init__(
            api_key="",
            settings=settings,
            stream_idle_timeout_secs=None,  # silence is bounded by LLMCalls
            name=name,
        )

    def create_client(self) -> None:
        """Use the stand-in."""
        self._client: Any = self._reading_along


class GoogleProvider:
    """Gemini by the Gemini API, or whoever speaks its protocol at another base URL."""

    message_id = PROVIDER_ID
    processor = "GoogleLLMService"
    errors = SDKErrors(status=GoogleStatusError, connection=httpx2.TransportError, api=GoogleError)
    service_class = GoogleService

    def connect(self, model: ResolvedModel) -> GoogleClient:
        """Create the SDK's client. Key, address and API are always given, so that it looks for none in the environment."""
        if model.api_key is None and model.base_url is None:
            raise LLMNotConfigured(
                "The model configuration has no API key for google. Store one: turn-worker config set."
            )
        return open_client(
            model,
            base_url=address(model),
            vertexai=False,
            api_key=model.api_key.get_secret_value() if model.api_key else "none",
        )

    def service(
        self,
        client: GoogleClient,
        model: ResolvedModel,
        calls: LLMCalls,
        system_prompt: str,
        *,
        cache_prompt: bool = True,  # noqa: ARG002 -- Gemini decides that itself, at no cost
    ) -> LLMService[Any]:
        """Create pipecat's service for one turn."""
        check_parameters(model.parameters)
        if not _MODEL_NAME.fullmatch(model.model):
            raise InvalidModelParameters(
                f"The model configuration's model {model.model!r} cannot be the name of a Gemini model, such as "
                "gemini-2.5-flash. Correct it: turn-worker config set --model."
            )
        settings = GoogleLLMSettings(
            model=model.model,
            system_instruction=system_prompt or None,
            extra={**_configuration(model.parameters), "automatic_function_calling": {"disable": True}},
        )
        if model.effort is not None:
            settings.thinking = _thinking(model.model, model.effort)  # type: ignore[assignment] # named by a variable
        if model.max_tokens is not None:
            settings.max_tokens = model.max_tokens
        if model.temperature is not None:
            settings.temperature = model.temperature
        return self.service_class(reading_along=_reading_along(client, calls), settings=settings, name=self.processor)


def create_provider(_name: str) -> GoogleProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    return GoogleProvider()


def _reading_along(client: GoogleClient, calls: LLMCalls) -> SimpleNamespace:
    """Stand in for the SDK's client with the two methods that pipecat's service calls on it."""

    async def send(*, model: str, messages: Any, config: GenerateContentConfig, system: Any) -> GoogleStream:  # noqa: ARG001 -- it is in `config`
        return await open_stream(client.models.generate_content_stream, model=model, contents=messages, config=config)

    async def generate_content_stream(**request: Any) -> ReplyStream:
        return await calls.stream(send, _observable(**request), GoogleReader())

    async def generate_content(**request: Any) -> SimpleNamespace:
        # A side question. It is streamed all the same, so that silence is noticed and what was used is known.
        reply = await calls.ask(send, _observable(**request), GoogleReader())
        content = SimpleNamespace(parts=[SimpleNamespace(text=reply.text)])
        return SimpleNamespace(candidates=[SimpleNamespace(finish_reason=None, content=content)])

    models = SimpleNamespace(generate_content_stream=generate_content_stream, generate_content=generate_content)
    return SimpleNamespace(aio=SimpleNamespace(models=models))


def _observable(*, model: str, contents: Any, config: GenerateContentConfig) -> dict[str, Any]:
    """Name the parts of a request as `LLMCalls` knows them from the other SDKs."""
    return {"model": model, "system": config.system_instruction, "messages": contents, "config": config}


def _configuration(parameters: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Read parameters as the SDK's `GenerateContentConfig`, in whose names pipecat's service looks at them."""
    try:
        configuration = GenerateContentConfig.model_validate(parameters).model_dump(exclude_unset=True)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidModelParameters(
            f"The model configuration's `parameters` are none that Gemini knows. {problems}. They are the fields of "
            "the SDK's GenerateContentConfig."
        ) from error
    if taken := sorted(configuration.keys() & _NOT_PARAMETERS):
        raise InvalidModelParameters(
            f"The model configuration's `parameters` may not hold {', '.join(taken)}: the engine says that itself, or "
            "a text turn cannot use it. Remove them from the configuration."
        )
    return configuration


def _thinking(model: str, effort: str) -> GoogleThinkingConfig:
    if _TAKES_A_BUDGET.match(model):
        return GoogleThinkingConfig(thinking_budget=_BUDGETS[effort])
    return GoogleThinkingConfig(thinking_level=_HIGHEST_LEVEL if effort == "max" else effort)
