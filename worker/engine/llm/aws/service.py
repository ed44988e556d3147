"""Amazon Bedrock's Converse API, through pipecat's own service."""

from __future__ import annotations

import re
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url
from botocore.validate import ParamValidator
from pipecat.services.aws.llm import AWSBedrockLLMService, AWSBedrockLLMSettings

from worker.engine.failures import InvalidModelParameters, LLMNotConfigured
from worker.engine.llm.aws.client import BedrockClient, BedrockUnreachable, load_api_description, request_shape
from worker.engine.llm.aws.messages import PROVIDER_ID, BedrockAdapter
from worker.engine.llm.aws.reader import BedrockReader
from worker.engine.llm.aws.stream import BedrockError, BedrockStatusError, open_stream
from worker.engine.llm.errors import SDKErrors
from worker.engine.llm.provider import TextOnly, check_parameters, effort_of_claude

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipecat.services.llm_service import LLMService
    from pydantic import JsonValue

    from worker.engine.llm.aws.stream import BedrockStream
    from worker.engine.llm.calls import LLMCalls
    from worker.engine.request import ResolvedModel

PROCESSOR: Final = "AWSBedrockLLMService"

_NOT_PARAMETERS: Final = frozenset({"modelId", "messages", "system", "toolConfig"})
"""What of a request is the engine's to say."""

_CACHES: Final = re.compile(r"claude-(?!instant|v|[12]\b|3-(?:haiku|opus|sonnet|5-sonnet))")
"""Models that take a mark for the cache after the system prompt and after the tools. Others refuse it, or cache by themselves:
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html."""


class BedrockProvider:
    """Amazon Bedrock in one region, by a Bedrock API key, or whoever speaks its protocol at another base URL."""

    message_id = PROVIDER_ID
    processor = PROCESSOR
    errors = SDKErrors(status=BedrockStatusError, connection=BedrockUnreachable, api=BedrockError)

    def connect(self, model: ResolvedModel) -> BedrockClient:
        """Create the client. Key and address are always given, so that the SDK looks for neither in the environment."""
        if model.base_url is None:
            raise LLMNotConfigured(
                "The model configuration has no base URL for aws, which names the region: "
                "https://bedrock-runtime.REGION.amazonaws.com. Name it: turn-worker config set --base-url."
            )
        if not (is_valid_endpoint_url(model.base_url) or is_valid_ipv6_endpoint_url(model.base_url)):
            raise LLMNotConfigured(
                f"The base URL {model.base_url} of the model configuration is none that AWS's SDK takes: a host's name is of "
                "letters, digits, hyphens and dots. Correct it: turn-worker config set --base-url."
            )
        return BedrockClient(
            base_url=model.base_url,
            api_key=model.api_key.get_secret_value() if model.api_key else "none",
            allowed_hosts=model.allowed_hosts,
        )

    def service(
        self,
        client: BedrockClient,
        model: ResolvedModel,
        calls: LLMCalls,
        system_prompt: str,
        *,
        cache_prompt: bool = True,
    ) -> LLMService[Any]:
        """Create pipecat's service for one turn."""
        check_parameters(model.parameters)
        _check_fields(model.parameters)
        settings = AWSBedrockLLMSettings(
            model=model.model,
            system_instruction=system_prompt or None,
            max_tokens=model.max_tokens,
            temperature=model.temperature,
            top_p=None,
            top_k=None,
            frequency_penalty=None,
            presence_penalty=None,
            seed=None,
            filter_incomplete_user_turns=False,
            user_turn_completion_config=None,
            stop_sequences=None,
            latency=None,
            effort=effort_of_claude(model.effort) if model.effort else None,
            enable_prompt_caching=cache_prompt and model.prompt_caching and bool(_CACHES.search(model.model)),
            additional_model_request_fields={},
        )
        return _Service(reading_along=_reading_along(client, calls, model.parameters), settings=settings)


def create_provider(_name: str) -> BedrockProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    load_api_description()
    return BedrockProvider()


class _Service(TextOnly, AWSBedrockLLMService):
    """pipecat's service on a client that is there already.

    Its own constructor would make a session of the SDK for each turn, which takes 9 ms and reads the environment. What it
    sets beside that stands here.
    """

    adapter_class = BedrockAdapter

    def __init__(self, *, reading_along: SimpleNamespace, settings: AWSBedrockLLMSettings) -> None:
        super(AWSBedrockLLMService, self).__init__(settings=settings, name=PROCESSOR)
        self._aws_session: Any = SimpleNamespace(create_client=lambda **_: nullcontext(reading_along))
        self._aws_params: dict[str, Any] = {}
        self._retry_on_timeout = False  # silence is bounded by LLMCalls


def _reading_along(client: BedrockClient, calls: LLMCalls, parameters: Mapping[str, JsonValue]) -> SimpleNamespace:
    """Stand in for the SDK's client with the two methods that pipecat's service calls on it."""

    async def send(**request: Any) -> BedrockStream:
        return await open_stream(client.converse_stream, **request)

    async def converse_stream(**request: Any) -> dict[str, Any]:
        return {"stream": await calls.stream(send, _merged(request, parameters), BedrockReader())}

    async def converse(**request: Any) -> dict[str, Any]:
        # A side question. It is streamed all the same, so that silence is noticed and what was used is known.
        reply = await calls.ask(send, _merged(request, parameters), BedrockReader())
        return {"output": {"message": {"content": [{"text": reply.text}]}}}

    return SimpleNamespace(converse_stream=converse_stream, converse=converse)


def _merged(request: dict[str, Any], parameters: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Add the parameters to a request, those of one group to what pipecat's service says in it."""
    merged = dict(request)
    for name, value in parameters.items():
        said = merged.get(name)
        merged[name] = {**said, **value} if isinstance(said, dict) and isinstance(value, dict) else value
    return merged


def _check_fields(parameters: Mapping[str, JsonValue]) -> None:
    """Refuse parameters that the API does not know, before it or the SDK does."""
    if taken := sorted(parameters.keys() & _NOT_PARAMETERS):
        raise InvalidModelParameters(
            f"The model configuration's `parameters` may not hold {', '.join(taken)}: the engine says that itself. "
            "Remove them from the configuration."
        )
    if not parameters:
        return
    shape = request_shape()
    unknown = sorted(parameters.keys() - shape.members.keys())
    report = ParamValidator().validate({"modelId": "any", **parameters}, shape)
    if unknown or report.has_errors():
        problems = f"Unknown: {', '.join(unknown)}." if unknown else " ".join(report.generate_report().split())
        raise InvalidModelParameters(
            f"The model configuration's `parameters` are none that Bedrock knows. {problems} They are the fields of "
            "Bedrock's Converse request, such as inferenceConfig; what only the model knows stands in "
            "additionalModelRequestFields."
        )
