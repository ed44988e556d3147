"""Credentials that tools send to other servers: secrets with a kind, in the same vault and under the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from worker.errors import TurnWorkerError
from worker.storage.schema import secrets
from worker.storage.secrets import PLAIN
from worker.workflow.credential import Credential, open_credential, sealed_form

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.secrets import Vault


class CredentialNotFound(TurnWorkerError):
    """The organization has no credential of that name."""

    code = "credential_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"There is no credential {self.name!r}."


class CredentialExists(TurnWorkerError):
    """The organization has a credential, or another secret, of that name already."""

    code = "credential_exists"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"There is a credential or another secret named {self.name!r} already. Replace it, or choose another name."
        )


@dataclass(frozen=True, slots=True)
class CredentialSummary:
    """That a credential exists, of which kind, and since when. What is in it is never shown."""

    name: str
    organization_id: UUID
    kind: str
    created_at: datetime
    updated_at: datetime


_COLUMNS = (secrets.c.name, secrets.c.organization_id, secrets.c.kind, secrets.c.created_at, secrets.c.updated_at)
_OF_ORGANIZATION = (secrets.c.organization_id == bindparam("organization_id"), secrets.c.kind != PLAIN)
_ONE = (*_OF_ORGANIZATION, secrets.c.name == bindparam("name"))
_INSERT = insert(secrets).values(updated_at=func.now()).on_conflict_do_nothing().returning(*_COLUMNS)
_REPLACE = (
    update(secrets)
    .where(
        secrets.c.organization_id == bindparam("of_organization"),
        secrets.c.kind != PLAIN,
        secrets.c.name == bindparam("of_name"),
    )
    .values(kind=bindparam("kind"), ciphertext=bindparam("ciphertext"), updated_at=func.now())
    .returning(*_COLUMNS)
)
_GET = select(*_COLUMNS).where(*_ONE)
_CIPHERTEXT = select(secrets.c.ciphertext).where(*_ONE)
_DELETE = delete(secrets).where(*_ONE).returning(secrets.c.name)
_LIST = (
    select(*_COLUMNS)
    .where(*_OF_ORGANIZATION, secrets.c.name > bindparam("after"))
    .order_by(secrets.c.name)
    .limit(bindparam("limit"))
)


async def create_credential(
    connection: AsyncConnection, vault: Vault, *, organization_id: UUID, name: str, credential: Credential
) -> CredentialSummary:
    """Store a credential.

    Raises:
        CredentialExists: when the organization has a secret of that name.
        SecretKeyMissing: when the vault has no usable key.
    """
    values = {
        "organization_id": organization_id,
        "name": name,
        "kind": credential.kind,
        "ciphertext": vault.encrypt(sealed_form(credential)),
    }
    row = (await connection.execute(_INSERT, values)).one_or_none()
    if row is None:
        raise CredentialExists(name)
    return CredentialSummary(*row)


async def replace_credential(
    connection: AsyncConnection, vault: Vault, *, organization_id: UUID, name: str, credential: Credential
) -> CredentialSummary:
    """Store a credential in place of the one of that name. Calls that begin from now on send the new one.

    Raises:
        CredentialNotFound: when the organization has none of that name.
        SecretKeyMissing: when the vault has no usable key.
    """
    values = {
        "of_organization": organization_id,
        "of_name": name,
        "kind": credential.kind,
        "ciphertext": vault.encrypt(sealed_form(credential)),
    }
    row = (await connection.execute(_REPLACE, values)).one_or_none()
    if row is None:
        raise CredentialNotFound(name)
    return CredentialSummary(*row)


async def get_credential(connection: AsyncConnection, *, organization_id: UUID, name: str) -> CredentialSummary:
    """Read what may be shown of a credential.

    Raises:
        CredentialNotFound: when the organization has none of that name.
    """
    row = (await connection.execute(_GET, {"organization_id": organization_id, "name": name})).one_or_none()
    if row is None:
        raise CredentialNotFound(name)
    return CredentialSummary(*row)


async def unseal_credential(
    connection: AsyncConnection, vault: Vault, *, organization_id: UUID, name: str
) -> Credential:
    """Read a credential with its secret, for use by the organization's own tools.

    Raises:
        CredentialNotFound: when the organization has none of that name.
        SecretKeyMissing: when the vault has no usable key.
        SecretUnreadable: when it was encrypted with another key.
        UnknownCredential: when a later release stored it in a form of its own.
    """
    ciphertext = await connection.scalar(_CIPHERTEXT, {"organization_id": organization_id, "name": name})
    if ciphertext is None:
        raise CredentialNotFound(name)
    return open_credential(name, vault.decrypt(name, ciphertext))


async def delete_credential(connection: AsyncConnection, *, organization_id: UUID, name: str) -> None:
    """Forget a credential. Tools that name it fail until there is one of that name again.

    Raises:
        CredentialNotFound: when the organization has none of that name.
    """
    if await connection.scalar(_DELETE, {"organization_id": organization_id, "name": name}) is None:
        raise CredentialNotFound(name)


async def list_credentials(
    connection: AsyncConnection, *, organization_id: UUID, limit: int, after: str = ""
) -> list[CredentialSummary]:
    """The organization's credentials in the order of their names; `after` is the last name of the page before."""
    rows = await connection.execute(_LIST, {"organization_id": organization_id, "limit": limit, "after": after})
    return [CredentialSummary(*row) for row in rows]
