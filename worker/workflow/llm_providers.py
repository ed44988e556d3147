"""The providers of language models that a configuration may name: what each needs before it can be called.

Pure facts, without any SDK: whoever checks a configuration reads them as well as whoever runs a turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DISTRIBUTION: Final = "pipecat-turn-worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMProvider:
    """A provider.

    Attributes:
        base_url: Root of its API; None when there is no one address, so that a configuration has to give it.
        such_as: An address that it may have, where there is no one address.
        needs_key: Whether it takes no request without a key at any address.
        service: Where pipecat's service for it is, as `module:class`.
        extra: The extra of this distribution that brings its SDK; None when that is always there.
        package: The module by which to tell whether the extra is installed.
        default_model: Whether the operator's default model may stand in for a model that is not named.
        models: The only models it has, each with the root of the API that serves it; empty where any name may be one.
        key_header: A header in which it wants the key, beside `Authorization`.
    """

    base_url: str | None
    such_as: str | None = None
    needs_key: bool = False
    service: str
    extra: str | None = None
    package: str | None = None
    default_model: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    key_header: str | None = None

    def address(self, model: str) -> str | None:
        """Root of the API that serves a model; None when a configuration has to give it."""
        return self.models.get(model, self.base_url)

    @property
    def installed(self) -> bool:
        """Whether its SDK is there."""
        try:
            return self.package is None or find_spec(self.package) is not None
        except ModuleNotFoundError:  # not even the package around it is there
            return False


def _compatible(base_url: str | None, name: str, service: str, *, such_as: str | None = None) -> LLMProvider:
    return LLMProvider(base_url=base_url, service=f"pipecat.services.{name}.llm:{service}", such_as=such_as)


LLM_PROVIDERS: Final[Mapping[str, LLMProvider]] = {
    "anthropic": LLMProvider(
        base_url="https://api.anthropic.com",
        service="pipecat.services.anthropic.llm:AnthropicLLMService",
        default_model=True,
    ),
    "openai": _compatible("https://api.openai.com/v1", "openai", "OpenAILLMService"),
    # Those below speak OpenAI's protocol; pipecat's services know what each does differently.
    "azure": _compatible(None, "openai", "OpenAILLMService", such_as="https://RESOURCE.openai.azure.com/openai/v1"),
    "baseten": _compatible("https://inference.baseten.co/v1", "baseten", "BasetenLLMService"),
    "cerebras": _compatible("https://api.cerebras.ai/v1", "cerebras", "CerebrasLLMService"),
    "crusoe": _compatible("https://api.inference.crusoecloud.com/v1", "crusoe", "CrusoeLLMService"),
    "deepseek": _compatible("https://api.deepseek.com/v1", "deepseek", "DeepSeekLLMService"),
    "fireworks": _compatible("https://api.fireworks.ai/inference/v1", "fireworks", "FireworksLLMService"),
    "groq": _compatible("https://api.groq.com/openai/v1", "groq", "GroqLLMService"),
    "inception": _compatible("https://api.inceptionlabs.ai/v1", "inception", "InceptionLLMService"),
    "mistral": _compatible("https://api.mistral.ai/v1", "mistral", "MistralLLMService"),
    "nebius": _compatible("https://api.tokenfactory.nebius.com/v1", "nebius", "NebiusLLMService"),
    "novita": _compatible("https://api.novita.ai/openai", "novita", "NovitaLLMService"),
    "nvidia": _compatible("https://integrate.api.nvidia.com/v1", "nvidia", "NvidiaLLMService"),
    "ollama": _compatible(None, "ollama", "OLLamaLLMService", such_as="http://localhost:11434/v1"),
    "openrouter": _compatible("https://openrouter.ai/api/v1", "openrouter", "OpenRouterLLMService"),
    "qwen": _compatible("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen", "QwenLLMService"),
    "sambanova": _compatible("https://api.sambanova.ai/v1", "sambanova", "SambaNovaLLMService"),
    "sarvam": LLMProvider(
        base_url="https://api.sarvam.ai/v2",
        service="pipecat.services.sarvam.llm:SarvamLLMService",
        models={
            "deepseekv4.1-flash": "https://api.sarvam.ai/v2",
            "gemma4": "https://api.sarvam.ai/v2",
            "glm5.3": "https://api.sarvam.ai/v2",
            "sarvam-105b": "https://api.sarvam.ai/v2",
            "sarvam-105b-conversations": "https://api.sarvam.ai/v1",
        },
        key_header="api-subscription-key",
    ),
    "smallest": _compatible("https://api.smallest.ai/waves/v1", "smallest", "SmallestLLMService"),
    "together": _compatible("https://api.together.xyz/v1", "together", "TogetherLLMService"),
    "xai": _compatible("https://api.x.ai/v1", "xai", "GrokLLMService"),
    # Those below have a protocol of their own.
    "openai-responses": LLMProvider(
        base_url="https://api.openai.com/v1",
        service="pipecat.services.openai.responses.llm:OpenAIResponsesHttpLLMService",
    ),
    "perplexity": LLMProvider(  # its Agent API, by the same protocol
        base_url="https://api.perplexity.ai/v1",
        service="pipecat.services.perplexity.llm:PerplexityAgentHttpLLMService",
    ),
    "google": LLMProvider(
        base_url="https://generativelanguage.googleapis.com",
        service="pipecat.services.google.llm:GoogleLLMService",
        extra="google",
        package="google.genai",
    ),
    "google-vertex": LLMProvider(
        base_url="https://aiplatform.googleapis.com",
        service="pipecat.services.google.vertex.llm:GoogleVertexLLMService",
        extra="google",
        package="google.genai",
        needs_key=True,
    ),
    "aws": LLMProvider(
        base_url=None,
        such_as="https://bedrock-runtime.us-east-1.amazonaws.com",
        needs_key=True,
        service="pipecat.services.aws.llm:AWSBedrockLLMService",
        extra="aws",
        package="aiobotocore",
    ),
}
"""Every provider by name. The base URLs are those of pipecat's services (pipecat-ai 1.14)."""


def unknown_provider(name: str) -> str:
    """Say that there is no such provider, and which there are."""
    return (
        f"There is no LLM provider {name!r}. Known are {', '.join(LLM_PROVIDERS)}; any other that speaks OpenAI's "
        "protocol is reached as `openai` with its base URL."
    )


def missing_extra(name: str, extra: str) -> str:
    """Say how to install what a provider needs."""
    return f"The provider {name!r} needs a package that is not installed: pip install '{DISTRIBUTION}[{extra}]'."


def provider_problem(name: str, known: Mapping[str, LLMProvider] = LLM_PROVIDERS) -> str | None:
    """Say why a provider cannot be used by this installation at all; None when it can."""
    found = known.get(name)
    if found is None:
        return unknown_provider(name)
    if found.extra is not None and not found.installed:
        return missing_extra(name, found.extra)
    return None


def model_problem(name: str, model: str) -> str | None:
    """Say why a known provider cannot be asked for a model; None when, as far as its name tells, it can."""
    models = LLM_PROVIDERS[name].models
    if not models or model in models:
        return None
    return f"The provider {name!r} has no model {model!r}. It has {', '.join(sorted(models))}."
