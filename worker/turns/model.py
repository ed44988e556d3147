"""Which model a turn runs with: the operator's settings, the organization's defaults and the definition's overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from worker.engine.request import ResolvedModel
from worker.settings import Settings, environment_secret
from worker.storage.secrets import Vault, get_secret
from worker.workflow.model_configuration import ModelConfiguration, effective_configuration

if TYPE_CHECKING:
    from uuid import UUID

    from worker.storage.database import Database
    from worker.workflow.definition import WorkflowDefinition
    from worker.workflow.web_address import AllowedHosts


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
    ) -> ResolvedModel | None:
        """The model for a turn of this definition; None when neither a key nor an address of an LLM is configured.

        A base URL that the definition gives is a tenant's: it leads to public addresses and `allowed_hosts` only. The
        organization's defaults and the settings are the operator's.

        Raises:
            SecretNotFound: when the configuration refers to a secret that the organization does not have.
            SecretKeyMissing: when stored secrets cannot be read.
            SecretUnreadable: when the secret was encrypted with another key.
        """
        defaults = ModelConfiguration.model_validate(model_defaults) if model_defaults is not None else None
        configuration = effective_configuration(defaults, definition.workflow_configurations.model_overrides)
        api_key = await self._api_key(organization_id, configuration)
        base_url = configuration.base_url or self._operators_base_url(configuration)
        if api_key is None and base_url is None:
            return None
        return ResolvedModel(
            provider=configuration.provider,
            model=configuration.model or self._settings.default_model,
            api_key=api_key,
            base_url=base_url,
            max_tokens=configuration.max_tokens,
            temperature=configuration.temperature,
            parameters=configuration.parameters,
            timeout_seconds=self._settings.provider_timeout_seconds,
            allowed_hosts=allowed_hosts if _is_tenants(configuration.base_url, defaults) else None,
        )

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
        return {"anthropic": self._settings.anthropic_api_key, "openai": self._settings.openai_api_key}.get(
            configuration.provider
        )

    def _operators_base_url(self, configuration: ModelConfiguration) -> str | None:
        return {"anthropic": self._settings.anthropic_base_url, "openai": self._settings.openai_base_url}.get(
            configuration.provider
        )


def _is_tenants(base_url: str | None, defaults: ModelConfiguration | None) -> bool:
    return base_url is not None and (defaults is None or base_url != defaults.base_url)
