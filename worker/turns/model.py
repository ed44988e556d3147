"""Which models a turn runs with: the operator's settings, the organization's defaults and the definition's overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import SecretStr

from worker.engine.request import ResolvedModel
from worker.settings import Settings, environment_secret
from worker.storage.secrets import Vault, get_secret
from worker.workflow.llm_providers import LLM_PROVIDERS
from worker.workflow.model_configuration import (
    ModelConfiguration,
    effective_configuration,
    fallback_configuration,
)

if TYPE_CHECKING:
    from uuid import UUID

    from worker.storage.database import Database
    from worker.workflow.definition import WorkflowDefinition
    from worker.workflow.web_address import AllowedHosts


class ResolvedModels(NamedTuple):
    """What a turn may call.

    Attributes:
        model: The model; None when neither a key nor an address of an LLM is configured, or no model is named.
        fallback: What is called when it fails for good or is overloaded; None for nothing.
    """

    model: ResolvedModel | None
    fallback: ResolvedModel | None


class ModelResolver:
    """Turns configuration into what the engine can call: the effective configuration with its key in hand."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._vault = Vault(settings.secret_key)

    async def resolve(
        self,
        *,
        organization_id: UUID,
        model_defaults: dict[str, Any] | None,
        definition: WorkflowDefinition,
        allowed_hosts: AllowedHosts,
    ) -> ResolvedModels:
        """The models for a turn of this definition.

        A base URL that the definition gives is a tenant's: it leads to public addresses and `allowed_hosts` only. The
        organization's defaults and the settings are the operator's.

        Raises:
            SecretNotFound: when the configuration refers to a secret that the organization does not have.
            SecretKeyMissing: when stored secrets cannot be read.
            SecretUnreadable: when the secret was encrypted with another key.
        """
        defaults = ModelConfiguration.model_validate(model_defaults) if model_defaults is not None else None
        configuration = effective_configuration(defaults, definition.workflow_configurations.model_overrides)
        fallback = fallback_configuration(configuration)
        known = _operators_addresses(defaults)
        models = [
            await self._resolve(organization_id, choice, None if choice.base_url in known else allowed_hosts)
            for choice in (configuration, fallback)
            if choice is not None
        ]
        return ResolvedModels(models[0], models[1] if fallback is not None else None)

    async def _resolve(
        self, organization_id: UUID, configuration: ModelConfiguration, allowed_hosts: AllowedHosts | None
    ) -> ResolvedModel | None:
        api_key = await self._api_key(organization_id, configuration)
        base_url = configuration.base_url or self._operators_base_url(configuration)
        model = configuration.model or self._default_model(configuration)
        if model is None or (api_key is None and base_url is None):
            return None
        return ResolvedModel(
            provider=configuration.provider,
            model=model,
            api_key=api_key,
            base_url=base_url,
            max_tokens=configuration.max_tokens,
            temperature=configuration.temperature,
            effort=configuration.effort,
            prompt_caching=configuration.prompt_caching is not False,
            parameters=configuration.parameters,
            timeout_seconds=self._settings.provider_timeout_seconds,
            allowed_hosts=allowed_hosts,
        )

    def _default_model(self, configuration: ModelConfiguration) -> str | None:
        provider = LLM_PROVIDERS.get(configuration.provider)
        return self._settings.default_model if provider is not None and provider.default_model else None

    async def _api_key(self, organization_id: UUID, configuration: ModelConfiguration) -> SecretStr | None:
        reference = configuration.api_key
        if reference is None:
            return self._operators_key(configuration)
        if reference.environment is not None:
            return environment_secret(reference.environment)
        async with self._database.statement() as connection:
            secret = await get_secret(
                connection, self._vault, organization_id=organization_id, name=str(reference.secret)
            )
        return SecretStr(secret)

    def _operators_key(self, configuration: ModelConfiguration) -> SecretStr | None:
        # The operator's key is only ever sent to the operator's own address for that provider.
        if configuration.base_url is not None:
            return None
        return self._operators(configuration)[0]

    def _operators_base_url(self, configuration: ModelConfiguration) -> str | None:
        return self._operators(configuration)[1]

    def _operators(self, configuration: ModelConfiguration) -> tuple[SecretStr | None, str | None]:
        """The operator's key and base URL for a provider."""
        settings = self._settings
        match configuration.provider:
            case "anthropic":
                return settings.anthropic_api_key, settings.anthropic_base_url
            case "openai" | "openai-responses":
                return settings.openai_api_key, settings.openai_base_url
        return None, None


def _operators_addresses(defaults: ModelConfiguration | None) -> set[str | None]:
    """The base URLs that no tenant has given; none at all is a provider's own or the operator's."""
    given = (defaults, defaults.fallback) if defaults is not None else ()
    return {None, *(choice.base_url for choice in given if choice is not None)}
