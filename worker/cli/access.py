"""An organization to work in and a key to its API, for commands that bring both with them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from worker.cli.servers import transaction
from worker.embedded.private_files import keep_secret, read_secret
from worker.storage.organizations import (
    OrganizationNotFound,
    authenticate,
    create_api_key,
    create_organization,
    find_organization,
    revoke_api_key,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


async def lasting_key(database_url: str, *, organization: str, file: Path) -> str:
    """The key kept in `file`, if it still opens the organization; else a new one, which is then kept there."""
    async with transaction(database_url) as connection:
        organization_id = await _organization(connection, organization)
        kept = read_secret(file)
        caller = None if kept is None else await authenticate(connection, kept)
        if kept is not None and caller is not None and caller.organization_id == organization_id:
            return kept
        created = await create_api_key(connection, organization_id=organization_id, name="up")
    keep_secret(file, created.key)
    return created.key


@asynccontextmanager
async def passing_key(database_url: str, *, organization: str, purpose: str) -> AsyncIterator[str]:
    """A key to the organization, which is made if it does not exist. The key is revoked when the block ends."""
    async with transaction(database_url) as connection:
        organization_id = await _organization(connection, organization)
        created = await create_api_key(connection, organization_id=organization_id, name=purpose)
    try:
        yield created.key
    finally:
        async with transaction(database_url) as connection:
            await revoke_api_key(connection, organization_id=organization_id, key_id=created.id)


async def _organization(connection: AsyncConnection, name: str) -> UUID:
    try:
        return (await find_organization(connection, name=name)).id
    except OrganizationNotFound:
        return await create_organization(connection, name=name)
