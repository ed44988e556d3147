"""An organization's secrets, such as the keys of its LLM providers: encrypted at rest, never shown again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import bindparam, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert

from worker.errors import TurnWorkerError
from worker.storage.schema import secrets

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pydantic import SecretStr
    from sqlalchemy.ext.asyncio import AsyncConnection

_HOW_TO_MAKE_ONE = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


class SecretKeyMissing(TurnWorkerError):
    """Secrets cannot be stored or read: the program was given no usable key to encrypt them with."""

    code = "secret_key_missing"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Secrets can be neither stored nor read: {self.reason}. Set TURN_WORKER_SECRET_KEY, the same for every "
            f"process. Make one with: {_HOW_TO_MAKE_ONE}"
        )


class SecretNotFound(TurnWorkerError):
    """The organization has no secret of that name."""

    code = "secret_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"The organization has no secret named {self.name!r}. Store it with `turn-worker config set`."


class SecretNameTaken(TurnWorkerError):
    """A credential of the organization has that name."""

    code = "secret_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"A credential is named {self.name!r} already. Choose another name for the secret."


class SecretUnreadable(TurnWorkerError):
    """A stored secret was encrypted with a key that the program no longer has."""

    code = "secret_unreadable"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"The secret {self.name!r} was encrypted with a key that is not in TURN_WORKER_SECRET_KEY. "
            "Add that key after the new one, or store the secret again."
        )


@dataclass(frozen=True, slots=True)
class SecretName:
    """That a secret exists, and since when."""

    name: str
    updated_at: datetime


class Vault:
    """Encrypts and decrypts secrets. Without a key it can be made, but not used."""

    def __init__(self, secret_key: SecretStr | None) -> None:
        """Take the keys.

        Args:
            secret_key: Fernet keys, comma-separated: the first encrypts, all decrypt.
        """
        keys = [key.strip() for key in (secret_key.get_secret_value() if secret_key else "").split(",") if key.strip()]
        self._fernet: MultiFernet | None = None
        self._reason = "TURN_WORKER_SECRET_KEY is not set"
        try:
            if keys:
                self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            self._reason = "TURN_WORKER_SECRET_KEY holds something that is no Fernet key (32 bytes, URL-safe base64)"

    def encrypt(self, value: str) -> bytes:
        """Encrypt a secret for storing.

        Raises:
            SecretKeyMissing: when there is no usable key.
        """
        return self._keys.encrypt(value.encode())

    def decrypt(self, name: str, ciphertext: bytes) -> str:
        """Read a stored secret; `name` is for the error's message.

        Raises:
            SecretKeyMissing: when there is no usable key.
            SecretUnreadable: when none of the keys fits.
        """
        try:
            return self._keys.decrypt(ciphertext).decode()
        except InvalidToken:
            raise SecretUnreadable(name) from None

    def require_key(self) -> None:
        """Return if there is a usable key.

        Raises:
            SecretKeyMissing: there is none.
        """
        _ = self._keys

    @property
    def _keys(self) -> MultiFernet:
        if self._fernet is None:
            raise SecretKeyMissing(self._reason)
        return self._fernet


PLAIN: Final = "plain"
"""The kind of a secret that is one text; every other kind is a credential's (`worker.storage.credentials`)."""

_INSERT = insert(secrets).values(updated_at=func.now())
_PUT = _INSERT.on_conflict_do_update(
    index_elements=["organization_id", "name"],
    set_={"ciphertext": _INSERT.excluded.ciphertext, "updated_at": func.now()},
    where=secrets.c.kind == PLAIN,
).returning(secrets.c.name)
_ONE = (
    secrets.c.organization_id == bindparam("organization_id"),
    secrets.c.name == bindparam("name"),
    secrets.c.kind == PLAIN,
)
_GET = select(secrets.c.ciphertext).where(*_ONE)
_DELETE = delete(secrets).where(*_ONE).returning(secrets.c.name)
_IS_ANY_STORED = select(exists().select_from(secrets))
_LIST = (
    select(secrets.c.name, secrets.c.updated_at)
    .where(secrets.c.organization_id == bindparam("organization_id"), secrets.c.kind == PLAIN)
    .order_by(secrets.c.name)
)


async def require_secret_key(connection: AsyncConnection, vault: Vault) -> None:
    """Return if what is stored can be decrypted: with a key, or when no organization has a secret or a credential.

    A worker asks before it takes turns, which would fail for good for want of the key.

    Raises:
        SecretKeyMissing: when something is stored and the vault has no usable key.
    """
    if await connection.scalar(_IS_ANY_STORED):
        vault.require_key()


async def put_secret(
    connection: AsyncConnection, vault: Vault, *, organization_id: UUID, name: str, value: str
) -> None:
    """Store a secret, in place of the one of that name if there is one.

    Raises:
        SecretNameTaken: when a credential has that name.
        SecretKeyMissing: when the vault has no usable key.
    """
    values = {"organization_id": organization_id, "name": name, "ciphertext": vault.encrypt(value)}
    if await connection.scalar(_PUT, values) is None:
        raise SecretNameTaken(name)


async def get_secret(connection: AsyncConnection, vault: Vault, *, organization_id: UUID, name: str) -> str:
    """Read a secret, for use by the organization's own turns.

    Raises:
        SecretNotFound: when the organization has none of that name.
        SecretKeyMissing: when the vault has no usable key.
        SecretUnreadable: when it was encrypted with another key.
    """
    ciphertext = await connection.scalar(_GET, {"organization_id": organization_id, "name": name})
    if ciphertext is None:
        raise SecretNotFound(name)
    return vault.decrypt(name, ciphertext)


async def delete_secret(connection: AsyncConnection, *, organization_id: UUID, name: str) -> None:
    """Forget a secret.

    Raises:
        SecretNotFound: when the organization has none of that name.
    """
    if await connection.scalar(_DELETE, {"organization_id": organization_id, "name": name}) is None:
        raise SecretNotFound(name)


async def list_secrets(connection: AsyncConnection, *, organization_id: UUID) -> list[SecretName]:
    """The names of the organization's secrets, in alphabetical order."""
    rows = await connection.execute(_LIST, {"organization_id": organization_id})
    return [SecretName(row.name, row.updated_at) for row in rows]
