"""The providers of language models, by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

from worker.engine.failures import InvalidModelParameters, UnknownLLMProvider
from worker.engine.web.client import WebClient
from worker.engine.web.transport import GuardedTransport
from worker.workflow.llm_providers import LLM_PROVIDERS, model_problem, provider_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipecat.services.llm_service import LLMService
    from pydantic import JsonValue

    from worker.engine.llm.calls import LLMCalls
    from worker.engine.llm.errors import SDKErrors
    from worker.engine.request import ResolvedModel

_OWN_PROTOCOL: Final = {
    "anthropic": "worker.engine.llm.anthropic",
    "aws": "worker.engine.llm.aws.service",
    "google": "worker.engine.llm.google.service",
    "google-vertex": "worker.engine.llm.google.vertex",
    "openai-responses": "worker.engine.llm.openai.responses",
    "perplexity": "worker.engine.llm.openai.responses",
}
"""The modules of providers with a protocol of their own; all others speak OpenAI's. Each is loaded when it is first used:
an SDK costs up to a second and tens of megabytes."""

_OPENAI_PROTOCOL: Final = "worker.engine.llm.openai.service"

MAX_CONNECTIONS: Final = 10_000
"""Connections of one client. Admission of turns is bounded by the worker, not here."""

KEEPALIVE_SECONDS: Final = 30.0
"""How long an unused connection stays open."""

CONNECT_SECONDS: Final = 10.0
"""How long opening a connection may take."""

_NOT_PARAMETERS: Final = frozenset({"messages", "system", "tools", "tool_choice", "stream", "stream_options"})
"""What of a request is the engine's to say."""

_CHARACTERS_PER_TOKEN: Final = 4


class Provider(Protocol):
    """How to reach one provider through its SDK and pipecat's service.

    Attributes:
        message_id: What pipecat calls this provider's own messages.
        processor: Name of the pipecat service, for the usage.
        errors: The exceptions of its SDK.
    """

    message_id: str
    processor: str
    errors: SDKErrors

    def connect(self, model: ResolvedModel) -> Any:
        """Create the SDK's client, which has a connection pool of its own.

        Raises:
            LLMNotConfigured: There is no key, and the address is the provider's own.
        """
        ...

    def service(
        self, client: Any, model: ResolvedModel, calls: LLMCalls, system_prompt: str, *, cache_prompt: bool = True
    ) -> LLMService[Any]:
        """Create pipecat's service for one turn, its calls made through `calls`.

        Args:
            client: The SDK's client.
            model: The model to call.
            calls: The calls of the attempt. The service's own streams go through `calls.stream`; what its
                `run_inference` asks goes through `calls.ask`.
            system_prompt: What the model is told before anything else.
            cache_prompt: Whether the provider is asked to keep the prompt for the next request. It costs extra, for
                nothing if the request is the only one of its kind.

        Raises:
            InvalidModelParameters: The parameters name what is not theirs to say.
        """
        ...


class TextOnly:
    """Mixed into pipecat's services: leaves out what only a voice pipeline has ears for, a tenth of a turn's cost."""

    reports_ttfat = False
    """Whether the time to the first word is measured, which looks at every word."""

    async def broadcast_service_metadata(self) -> None:
        """Tell the other processors about the service, by which they would choose how to take turns of speaking."""


def provider(name: str) -> Provider:
    """Find a provider.

    Raises:
        UnknownLLMProvider: There is none of this name, or its SDK is not installed; the message says what to do.
    """
    if (problem := provider_problem(name)) is not None:
        raise UnknownLLMProvider(problem)
    create: Callable[[str], Provider] = import_module(_OWN_PROTOCOL.get(name, _OPENAI_PROTOCOL)).create_provider
    return create(name)


def pipecat_service(name: str) -> type[Any]:
    """Pipecat's service for a known provider."""
    module, _, service = LLM_PROVIDERS[name].service.partition(":")
    found: type[Any] = getattr(import_module(module), service)
    return found


def address(model: ResolvedModel) -> str | None:
    """Root of the API that a model is called at: the one configured, or the provider's own; None when there is neither."""
    known = LLM_PROVIDERS.get(model.provider)
    return model.base_url or (None if known is None else known.address(model.model))


def guarded(model: ResolvedModel) -> dict[str, Any]:
    """Arguments of the SDK's HTTP client that keep a base URL given by a tenant from leading into private networks."""
    if model.allowed_hosts is None:
        return {}
    return {"transport": GuardedTransport(WebClient(), model.allowed_hosts, owns_client=True)}


def check_model(model: ResolvedModel) -> None:
    """Refuse a model that its provider does not have, where it has only some.

    Raises:
        InvalidModelParameters: It has no such model; the message names those it has.
    """
    if (problem := model_problem(model.provider, model.model)) is not None:
        raise InvalidModelParameters(problem)


def check_parameters(parameters: Mapping[str, JsonValue], *further: str) -> None:
    """Refuse parameters that would take the request out of the engine's hands.

    Args:
        parameters: The parameters.
        further: What is the engine's to say to this provider, besides what is to all.

    Raises:
        InvalidModelParameters: Some do; the message names them.
    """
    taken = sorted(parameters.keys() & {*_NOT_PARAMETERS, *further})
    if taken:
        raise InvalidModelParameters(
            f"The model configuration's `parameters` may not hold {', '.join(taken)}: the engine says that itself. "
            "Remove them from the configuration."
        )


def effort_of_claude(effort: str) -> str:
    """Say an effort in the words of Anthropic's API and of Bedrock's, which know none below `low`."""
    return "low" if effort == "minimal" else effort


def estimated_tokens(characters: int) -> int:
    """What a text amounts to in tokens, roughly: for the usage of a reply that was cut off before it reported any."""
    return characters // _CHARACTERS_PER_TOKEN


def reported_tokens(count: Any) -> int:
    """A count of tokens that a server reports, which may be anything: 0 for what is no count."""
    try:
        return int(count)
    except (TypeError, ValueError, OverflowError):
        return 0
