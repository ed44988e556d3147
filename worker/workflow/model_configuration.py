"""Which language model an agent speaks with, and how an agent's own wishes override its organization's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from worker.workflow.llm_providers import LLM_PROVIDERS, model_problem, provider_problem
from worker.workflow.web_address import AllowedHosts, url_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PROVIDER = "anthropic"


OPERATOR_KEY_PROVIDERS = frozenset({"anthropic", "openai", "openai-responses"})
"""Providers for which the operator may have a key in the environment, so that a configuration need not name one."""


class SecretReference(BaseModel):
    """Names where a key is kept. The key itself is never part of a configuration.

    Attributes:
        secret: Name of a stored secret of the organization.
        environment: Name of an environment variable of the worker process; for the operator only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: str | None = Field(default=None, min_length=1)
    environment: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _names_exactly_one_place(self) -> SecretReference:
        if (self.secret is None) == (self.environment is None):
            raise PydanticCustomError(
                "secret_reference",
                'A secret reference names one place: {"secret": "NAME"} or {"environment": "NAME"}.',
            )
        return self


def _refuse_plaintext(value: object) -> object:
    if isinstance(value, str):
        raise PydanticCustomError(
            "plaintext_secret",
            "A key may not stand in a configuration. Store it as a secret of the organization "
            '(`turn-worker config set`) and refer to it by name: {"secret": "NAME"}.',
        )
    return value


class ModelChoice(BaseModel):
    """Which model to call, and how. None means: as the default says.

    Attributes:
        provider: Name of the LLM provider, such as `anthropic` or `openai`.
        model: The provider's name of the model.
        base_url: Root of the provider's API, http or https; None for the provider's own.
        api_key: Where the key is kept.
        max_tokens: Most tokens the model may generate in one reply.
        temperature: Sampling temperature as the provider understands it.
        effort: How much the model may think before it answers, for models that do.
        prompt_caching: Whether the provider may keep the prompt, where that has to be asked for; on by default.
        parameters: Further parameters of the provider, passed on as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: str | None = Field(default=None, min_length=1)
    model: str | None = Field(default=None, min_length=1)
    base_url: str | None = None
    api_key: Annotated[SecretReference | None, BeforeValidator(_refuse_plaintext)] = None
    max_tokens: PositiveInt | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    effort: Literal["minimal", "low", "medium", "high", "max"] | None = None
    prompt_caching: bool | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _is_a_web_address(cls, value: str | None) -> str | None:
        if value is not None and not _is_http(value):
            raise PydanticCustomError("base_url", "A base URL begins with http:// or https:// and names a host.")
        return value

    @field_validator("parameters")
    @classmethod
    def _name_nothing_twice(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(value.keys() & ModelOverrides.model_fields.keys()):
            raise PydanticCustomError(
                "parameters", "{names} stand beside `parameters`, not in it.", {"names": ", ".join(taken)}
            )
        return value


class ModelOverrides(ModelChoice):
    """What a definition asks for in place of its organization's defaults.

    Attributes:
        fallback: What to call when this model fails for good or is overloaded; what it does not say is as here, by the
            same rules by which a definition overrides its organization.
    """

    fallback: ModelChoice | None = None


class ModelConfiguration(ModelOverrides):
    """The model a turn runs with, or an organization's or operator's default of it."""

    provider: str = Field(default=DEFAULT_PROVIDER, min_length=1)


class ConfigurationProblem(NamedTuple):
    """One thing a tenant may not configure.

    Attributes:
        field: Path of the field inside the configuration, such as `api_key`.
        message: What is wrong and what to do.
    """

    field: str
    message: str


def effective_configuration(defaults: ModelConfiguration | None, overrides: ModelChoice | None) -> ModelConfiguration:
    """Override the defaults field by field, `parameters` key by key.

    A key is only ever sent where its owner meant it to go: overriding the provider or the base URL with another
    one drops the inherited key. Another provider also drops what only the old one understands: the model, the
    base URL, the further parameters and the fallback.

    Args:
        defaults: What applies unless overridden; None when nothing is configured.
        overrides: The definition's wishes; None when it has none.
    """
    inherited = defaults or ModelConfiguration()
    if overrides is None:
        return inherited
    given = {name: value for name, value in overrides if name != "parameters" and value is not None}
    dropped: set[str] = set()
    if given.get("base_url", inherited.base_url) != inherited.base_url:
        dropped = {"api_key"}
    if given.get("provider", inherited.provider) != inherited.provider:
        dropped = {"api_key", "model", "base_url", "parameters", "fallback"}
    kept = {name: value for name, value in inherited if name not in dropped}
    parameters = {**kept.pop("parameters", {}), **overrides.parameters}
    return ModelConfiguration.model_construct(**{**kept, **given, "parameters": parameters})


def fallback_configuration(configuration: ModelConfiguration) -> ModelConfiguration | None:
    """The model to call when the configured one cannot answer; None when none is configured."""
    if configuration.fallback is None:
        return None
    return effective_configuration(configuration.model_copy(update={"fallback": None}), configuration.fallback)


def keyed_choices(configuration: ModelConfiguration) -> Iterator[tuple[str, str, ModelConfiguration]]:
    """The models of an effective configuration whose key is a stored secret: the field, the secret's name and the model."""
    for field, choice in (("api_key", configuration), ("fallback.api_key", fallback_configuration(configuration))):
        if choice is not None and choice.api_key is not None and choice.api_key.secret is not None:
            yield field, choice.api_key.secret, choice


def configuration_problems(configuration: ModelConfiguration) -> Iterator[ConfigurationProblem]:
    """Find what would keep an effective configuration from being called, as far as it shows by itself."""
    yield from _choice_problems(configuration, "")
    if (fallback := fallback_configuration(configuration)) is not None:
        yield from _choice_problems(fallback, "fallback.")


def check_tenant_configuration(
    configuration: ModelChoice, allowed_hosts: AllowedHosts | None = None
) -> tuple[ConfigurationProblem, ...]:
    """Find what an operator may configure but a tenant may not. Empty when all is well.

    Args:
        configuration: What a tenant wants.
        allowed_hosts: The hosts that the organization's requests may reach although they are not public; None where it is
            not known whose configuration it is, and addresses are judged when they are connected to.
    """
    problems = []
    if configuration.api_key is not None and configuration.api_key.environment is not None:
        problems.append(
            ConfigurationProblem(
                "api_key",
                "Environment references are the operator's. Store the key as a secret of the organization "
                '(`turn-worker config set`) and refer to it by name: {"secret": "NAME"}.',
            )
        )
    if configuration.base_url is not None and (problem := _base_url_problem(configuration.base_url, allowed_hosts)):
        problems.append(ConfigurationProblem("base_url", problem))
    if isinstance(configuration, ModelOverrides) and configuration.fallback is not None:
        problems += [
            ConfigurationProblem(f"fallback.{field}", message)
            for field, message in check_tenant_configuration(configuration.fallback, allowed_hosts)
        ]
    return tuple(problems)


def _base_url_problem(base_url: str, allowed_hosts: AllowedHosts | None) -> str | None:
    if "@" in urlsplit(base_url).netloc:
        return "A base URL carries no user name or password. Use `api_key` instead."
    return None if allowed_hosts is None else url_problem(base_url, allowed_hosts)


def _choice_problems(choice: ModelConfiguration, place: str) -> Iterator[ConfigurationProblem]:
    if (problem := provider_problem(choice.provider)) is not None:
        yield ConfigurationProblem(f"{place}provider", problem)
        return
    known = LLM_PROVIDERS[choice.provider]
    if choice.model is None and not known.default_model:
        yield ConfigurationProblem(f"{place}model", f"Name a model: there is no default one for {choice.provider!r}.")
    elif choice.model is not None and (problem := model_problem(choice.provider, choice.model)) is not None:
        yield ConfigurationProblem(f"{place}model", problem)
    its_own = choice.base_url is None and known.base_url is not None
    if choice.base_url is None and known.base_url is None:
        yield ConfigurationProblem(
            f"{place}base_url",
            f"Name the address, such as {known.such_as}: {choice.provider!r} has no one address for all.",
        )
    if choice.api_key is None and (known.needs_key or (its_own and choice.provider not in OPERATOR_KEY_PROVIDERS)):
        yield ConfigurationProblem(
            f"{place}api_key",
            f"Name the key of {choice.provider!r}: store it as a secret of the organization and refer to it by name.",
        )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
