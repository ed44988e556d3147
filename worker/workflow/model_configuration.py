"""Which language model an agent speaks with, and how an agent's own wishes override its organization's."""

from __future__ import annotations

from typing import Annotated, NamedTuple
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

from worker.workflow.web_address import AllowedHosts, url_problem

DEFAULT_PROVIDER = "anthropic"


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


class ModelOverrides(BaseModel):
    """What a definition asks for in place of its organization's defaults. None means: as the default says.

    Attributes:
        provider: Name of the LLM provider, such as `anthropic` or `openai`.
        model: The provider's name of the model.
        base_url: Root of the provider's API, http or https; None for the provider's own.
        api_key: Where the key is kept.
        max_tokens: Most tokens the model may generate in one reply.
        temperature: Sampling temperature as the provider understands it.
        parameters: Further parameters of the provider, passed on as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: str | None = Field(default=None, min_length=1)
    model: str | None = Field(default=None, min_length=1)
    base_url: str | None = None
    api_key: Annotated[SecretReference | None, BeforeValidator(_refuse_plaintext)] = None
    max_tokens: PositiveInt | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
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


def effective_configuration(
    defaults: ModelConfiguration | None, overrides: ModelOverrides | None
) -> ModelConfiguration:
    """Override the defaults field by field, `parameters` key by key.

    A key is only ever sent where its owner meant it to go: overriding the provider or the base URL with another
    one drops the inherited key. Another provider also drops what only the old one understands: the model, the
    base URL and the further parameters.

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
        dropped = {"api_key", "model", "base_url", "parameters"}
    kept = {name: value for name, value in inherited if name not in dropped}
    parameters = {**kept.pop("parameters", {}), **overrides.parameters}
    return ModelConfiguration.model_construct(**{**kept, **given, "parameters": parameters})


def check_tenant_configuration(
    configuration: ModelOverrides, allowed_hosts: AllowedHosts | None = None
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
    return tuple(problems)


def _base_url_problem(base_url: str, allowed_hosts: AllowedHosts | None) -> str | None:
    if "@" in urlsplit(base_url).netloc:
        return "A base URL carries no user name or password. Use `api_key` instead."
    return None if allowed_hosts is None else url_problem(base_url, allowed_hosts)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
