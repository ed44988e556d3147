"""How the turns of each organization reach the web: with its own credentials, and to the hosts it allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.engine.web.access import WebAccess
from worker.storage.credentials import unseal_credential
from worker.workflow.web_address import AllowedHosts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any
    from uuid import UUID

    from worker.engine.web.client import WebClient
    from worker.storage.database import Database
    from worker.storage.secrets import Vault


class OrganizationWeb:
    """The process's way to the web, from which each organization gets its own."""

    def __init__(self, database: Database, vault: Vault, client: WebClient) -> None:
        self._database = database
        self._vault = vault
        self._client = client

    def of(self, organization_id: UUID, allowed: AllowedHosts) -> WebAccess:
        """The way of one organization.

        Args:
            allowed: The hosts that may be reached although they lead to addresses that are not public.
        """

        async def headers(name: str) -> Mapping[str, str]:
            async with self._database.statement() as connection:
                credential = await unseal_credential(
                    connection, self._vault, organization_id=organization_id, name=name
                )
            return credential.headers()

        return WebAccess(self._client, headers, allowed)


def allowed_hosts(organization_settings: Mapping[str, Any]) -> AllowedHosts:
    """The hosts that requests of an organization may reach although they lead to private addresses."""
    return AllowedHosts.of(organization_settings.get("allowed_hosts", ()))
