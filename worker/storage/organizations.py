"""Organizations, the keys that open the API for them, and their model defaults."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from uuid_utils.compat import uuid7

from worker.errors import TurnWorkerError
from worker.storage.schema import api_keys, organizations
from worker.workflow.organization_settings import OrganizationSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

KEY_PREFIX = "twk_"
"""What every API key begins with, so that people and secret scanners recognise one."""

_KEY_BYTES = 32
_HINT_LENGTH = len(KEY_PREFIX) + 6


class OrganizationExists(TurnWorkerError):
    """There is an organization of that name already."""

    code = "organization_exists"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"There is an organization named {self.name!r} already. Choose another name."


class OrganizationNotFound(TurnWorkerError):
    """There is no such organization."""

    code = "organization_not_found"

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted

    def __str__(self) -> str:
        return f"There is no organization {self.wanted!r}. Create it with `turn-worker org create`."


class ApiKeyNotFound(TurnWorkerError):
    """The organization has no such key that could be revoked."""

    code = "api_key_not_found"

    def __init__(self, key_id: UUID) -> None:
        super().__init__(key_id)
        self.key_id = key_id

    def __str__(self) -> str:
        return f"The organization has no key {self.key_id} in use. List them with `turn-worker keys list`."


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant: everything belongs to exactly one of them.

    Attributes:
        model_defaults: Its model configuration, as `worker.workflow.model_configuration` reads it; None for the operator's.
        settings: Its settings, as `worker.workflow.organization_settings` reads them.
    """

    id: UUID
    name: str
    model_defaults: dict[str, Any] | None
    settings: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key after it was made: not the key.

    Attributes:
        hint: Its first characters.
    """

    id: UUID
    name: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom an API key speaks for."""

    organization_id: UUID
    settings: OrganizationSettings


_NOTHING_SET = OrganizationSettings()


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made. `key` is shown this once; afterwards only its hash exists."""

    id: UUID
    key: str


_INSERT = insert_or(organizations).on_conflict_do_nothing(index_elements=["name"]).returning(organizations.c.id)
_FIND = select(organizations).where(organizations.c.name == bindparam("name"))
_LIST = select(organizations).order_by(organizations.c.name)
_GET_DEFAULTS = select(organizations.c.model_defaults).where(organizations.c.id == bindparam("organization_id"))
_SET_DEFAULTS = (
    update(organizations)
    .where(organizations.c.id == bindparam("b_organization_id"))
    .values(model_defaults=bindparam("b_model_defaults", type_=JSON(none_as_null=True)))
    .returning(organizations.c.id)
)
_SETTINGS = select(organizations.c.settings).where(organizations.c.id == bindparam("organization_id"))
_LOCK_SETTINGS = (
    select(organizations.c.settings)
    .where(organizations.c.id == bindparam("organization_id"))
    .with_for_update(key_share=True)
)
_SET_SETTINGS = (
    update(organizations)
    .where(organizations.c.id == bindparam("b_organization_id"))
    .values(settings=bindparam("b_settings", type_=JSON))
)
_INSERT_KEY = insert(api_keys)
_LIST_KEYS = (
    select(api_keys.c.id, api_keys.c.name, api_keys.c.hint, api_keys.c.created_at, api_keys.c.revoked_at)
    .where(api_keys.c.organization_id == bindparam("organization_id"))
    .order_by(api_keys.c.created_at, api_keys.c.id)
)
_REVOKE_KEY = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("b_key_id"),
        api_keys.c.organization_id == bindparam("b_organization_id"),
        api_keys.c.revoked_at.is_(None),
    )
    .values(revoked_at=func.now())
    .returning(api_keys.c.id)
)
_AUTHENTICATE = (
    select(organizations.c.id, organizations.c.settings)
    .join(api_keys, api_keys.c.organization_id == organizations.c.id)
    .where(api_keys.c.key_hash == bindparam("key_hash"), api_keys.c.revoked_at.is_(None))
)


async def create_organization(connection: AsyncConnection, *, name: str) -> UUID:
    """Create an organization and return its id.

    Raises:
        OrganizationExists: when the name is taken.
    """
    organization_id: UUID | None = await connection.scalar(_INSERT, {"id": uuid7(), "name": name})
    if organization_id is None:
        raise OrganizationExists(name)
    return organization_id


async def find_organization(connection: AsyncConnection, *, name: str) -> Organization:
    """The organization of that name.

    Raises:
        OrganizationNotFound: when there is none.
    """
    row = (await connection.execute(_FIND, {"name": name})).one_or_none()
    if row is None:
        raise OrganizationNotFound(name)
    return Organization(row.id, row.name, row.model_defaults, row.settings, row.created_at)


async def get_model_defaults(connection: AsyncConnection, *, organization_id: UUID) -> dict[str, Any] | None:
    """The organization's model configuration; None for the operator's."""
    defaults: dict[str, Any] | None = await connection.scalar(_GET_DEFAULTS, {"organization_id": organization_id})
    return defaults


async def list_organizations(connection: AsyncConnection) -> list[Organization]:
    """All organizations, by name."""
    rows = await connection.execute(_LIST)
    return [Organization(row.id, row.name, row.model_defaults, row.settings, row.created_at) for row in rows]


async def set_model_defaults(
    connection: AsyncConnection, *, organization_id: UUID, model_defaults: Mapping[str, JsonValue] | None
) -> None:
    """Replace the organization's model configuration, which the caller has validated; None returns to the operator's.

    It holds for every turn claimed from then on.

    Raises:
        OrganizationNotFound: when there is no such organization.
    """
    value = None if model_defaults is None else dict(model_defaults)
    found = await connection.scalar(_SET_DEFAULTS, {"b_organization_id": organization_id, "b_model_defaults": value})
    if found is None:
        raise OrganizationNotFound(str(organization_id))


async def get_settings(connection: AsyncConnection, *, organization_id: UUID) -> OrganizationSettings:
    """The organization's settings.

    Raises:
        OrganizationNotFound: when there is no such organization.
    """
    stored = await connection.scalar(_SETTINGS, {"organization_id": organization_id})
    if stored is None:
        raise OrganizationNotFound(str(organization_id))
    return OrganizationSettings.model_validate(stored)


async def change_settings(
    connection: AsyncConnection, *, organization_id: UUID, changes: Mapping[str, JsonValue]
) -> OrganizationSettings:
    """Set some of the organization's settings, by dotted name, and return all of them. None returns one to its default.

    Two changes at once follow each other. They hold for every request and claim from then on.

    Raises:
        OrganizationNotFound: when there is no such organization.
        InvalidOrganizationSettings: with every name that does not exist and every value that cannot be; nothing was set.
    """
    stored = await connection.scalar(_LOCK_SETTINGS, {"organization_id": organization_id})
    if stored is None:
        raise OrganizationNotFound(str(organization_id))
    settings = OrganizationSettings.model_validate(stored).changed(changes)
    await connection.execute(_SET_SETTINGS, {"b_organization_id": organization_id, "b_settings": settings.document()})
    return settings


async def create_api_key(connection: AsyncConnection, *, organization_id: UUID, name: str) -> NewApiKey:
    """Make a key for the organization. Nobody can read it again later."""
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    key_id: UUID = uuid7()
    await connection.execute(
        _INSERT_KEY,
        {
            "id": key_id,
            "organization_id": organization_id,
            "name": name,
            "key_hash": _hash(key),
            "hint": key[:_HINT_LENGTH],
        },
    )
    return NewApiKey(key_id, key)


async def list_api_keys(connection: AsyncConnection, *, organization_id: UUID) -> list[ApiKey]:
    """The organization's keys, revoked ones included, oldest first."""
    rows = await connection.execute(_LIST_KEYS, {"organization_id": organization_id})
    return [ApiKey(*row) for row in rows]


async def revoke_api_key(connection: AsyncConnection, *, organization_id: UUID, key_id: UUID) -> None:
    """Make a key worthless, from the next request on.

    Raises:
        ApiKeyNotFound: when the organization has no such key, or it was revoked before.
    """
    revoked = await connection.scalar(_REVOKE_KEY, {"b_organization_id": organization_id, "b_key_id": key_id})
    if revoked is None:
        raise ApiKeyNotFound(key_id)


async def authenticate(connection: AsyncConnection, key: str) -> Caller | None:
    """The organization that a key opens, with its settings; None if it opens none, or no longer.

    This is the one statement that does not name an organization: it is how one is found.
    """
    row = (await connection.execute(_AUTHENTICATE, {"key_hash": _hash(key)})).one_or_none()
    if row is None:
        return None
    return Caller(row.id, OrganizationSettings.model_validate(row.settings) if row.settings else _NOTHING_SET)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
