"""Organizations, their keys and their model defaults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.storage.organizations import (
    ApiKeyNotFound,
    OrganizationExists,
    OrganizationNotFound,
    authenticate,
    create_api_key,
    create_organization,
    find_organization,
    list_api_keys,
    list_organizations,
    revoke_api_key,
    set_model_defaults,
)

if TYPE_CHECKING:
    from tests.world import World
    from worker.storage.database import Database


async def test_a_name_is_taken_once_even_by_two_at_the_same_time(database: Database) -> None:
    async def create() -> object:
        async with database.transaction() as connection:
            return await create_organization(connection, name="Acme")

    results = await asyncio.gather(*(create() for _ in range(4)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, OrganizationExists)]
    assert len(refused) == 3
    assert "'Acme' already" in str(refused[0])


async def test_organizations_are_found_and_listed_by_name(database: Database) -> None:
    async with database.transaction() as connection:
        ids = {name: await create_organization(connection, name=name) for name in ("b", "a")}
        assert [found.name for found in await list_organizations(connection)] == ["a", "b"]
        assert (await find_organization(connection, name="b")).id == ids["b"]
        with pytest.raises(OrganizationNotFound, match="turn-worker org create"):
            await find_organization(connection, name="c")


async def test_a_key_has_256_random_bits_and_only_its_hash_and_its_beginning_are_stored(world: World) -> None:
    async with world.database.transaction() as connection:
        made = [await create_api_key(connection, organization_id=world.organization_id, name="ci") for _ in range(2)]
    keys = [key.key for key in made]
    assert keys[0] != keys[1]
    assert all(key.startswith("twk_") and len(key) == 47 for key in keys)
    for row, key in zip(await world.rows("SELECT * FROM api_keys ORDER BY created_at, id"), keys, strict=True):
        assert len(row.key_hash) == 32
        assert row.hint == key[:10]
        assert key not in str(row)


async def test_a_key_opens_its_organization_until_it_is_revoked(world: World) -> None:
    async with world.database.transaction() as connection:
        key = await create_api_key(connection, organization_id=world.organization_id, name="ci")
        caller = await authenticate(connection, key.key)
        assert caller is not None
        assert caller.organization_id == world.organization_id
        assert await authenticate(connection, key.key[:-1]) is None
        await revoke_api_key(connection, organization_id=world.organization_id, key_id=key.id)
        assert await authenticate(connection, key.key) is None
        (listed,) = await list_api_keys(connection, organization_id=world.organization_id)
        assert (listed.id, listed.name) == (key.id, "ci")
        assert listed.revoked_at is not None


async def test_a_key_is_revoked_only_once_and_only_by_its_own_organization(world: World) -> None:
    async with world.database.transaction() as connection:
        other = await create_organization(connection, name="Other")
        key = await create_api_key(connection, organization_id=world.organization_id, name="ci")
        with pytest.raises(ApiKeyNotFound):
            await revoke_api_key(connection, organization_id=other, key_id=key.id)
        await revoke_api_key(connection, organization_id=world.organization_id, key_id=key.id)
        with pytest.raises(ApiKeyNotFound, match=str(key.id)):
            await revoke_api_key(connection, organization_id=world.organization_id, key_id=key.id)


async def test_model_defaults_are_set_and_taken_back(world: World) -> None:
    async with world.database.transaction() as connection:
        assert (await find_organization(connection, name="Acme")).model_defaults is None
        for defaults in ({"provider": "openai", "model": "m"}, None):
            await set_model_defaults(connection, organization_id=world.organization_id, model_defaults=defaults)
            assert (await find_organization(connection, name="Acme")).model_defaults == defaults
        with pytest.raises(OrganizationNotFound):
            await set_model_defaults(connection, organization_id=uuid4(), model_defaults=None)
    (row,) = await world.rows("SELECT model_defaults IS NULL AS gone FROM organizations")
    assert row.gone
