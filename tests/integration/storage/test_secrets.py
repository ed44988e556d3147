"""Secrets: encrypted at rest, readable with the right key only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from worker.storage.organizations import create_organization
from worker.storage.secrets import (
    SecretKeyMissing,
    SecretNotFound,
    SecretUnreadable,
    Vault,
    delete_secret,
    get_secret,
    list_secrets,
    put_secret,
    require_secret_key,
)

if TYPE_CHECKING:
    from tests.world import World

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
VALUE = "sk-ant-\u00fcml\u00e4ut"


def vault(*keys: str) -> Vault:
    return Vault(SecretStr(",".join(keys)))


async def put(world: World, with_vault: Vault, name: str = "llm", value: str = VALUE) -> None:
    async with world.database.transaction() as connection:
        await put_secret(connection, with_vault, organization_id=world.organization_id, name=name, value=value)


async def get(world: World, with_vault: Vault, name: str = "llm") -> str:
    async with world.database.statement() as connection:
        return await get_secret(connection, with_vault, organization_id=world.organization_id, name=name)


async def test_a_secret_is_read_back_and_stands_nowhere_in_the_clear(world: World) -> None:
    await put(world, vault(OLD))
    assert await get(world, vault(OLD)) == VALUE
    (row,) = await world.rows("SELECT ciphertext FROM secrets")
    assert VALUE.encode() not in row.ciphertext


async def test_a_secret_stored_again_replaces_the_one_before(world: World) -> None:
    await put(world, vault(OLD))
    await put(world, vault(OLD), value="another")
    assert await get(world, vault(OLD)) == "another"


async def test_a_rotated_key_still_reads_and_the_new_one_writes(world: World) -> None:
    await put(world, vault(OLD))
    rotated = vault(NEW, f" {OLD} ")
    assert await get(world, rotated) == VALUE
    await put(world, rotated)
    assert await get(world, vault(NEW)) == VALUE


async def test_a_secret_whose_key_is_gone_says_so(world: World) -> None:
    await put(world, vault(OLD))
    with pytest.raises(SecretUnreadable, match=r"'llm'.*TURN_WORKER_SECRET_KEY"):
        await get(world, vault(NEW))


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "is not set"), ("", "is not set"), ("nonsense", "no Fernet key"), (f"{OLD},x", "no Fernet key")],
    ids=["none", "empty", "nonsense", "one of two"],
)
async def test_without_a_usable_key_nothing_is_stored_or_read_and_the_error_says_how_to_make_one(
    world: World, key: str | None, reason: str
) -> None:
    unusable = Vault(None if key is None else SecretStr(key))
    with pytest.raises(SecretKeyMissing, match=rf"{reason}.*generate_key") as refused:
        await put(world, unusable)
    assert OLD not in str(refused.value)
    await put(world, vault(OLD))
    with pytest.raises(SecretKeyMissing):
        await get(world, unusable)


async def test_a_key_is_required_as_soon_as_anything_is_stored(world: World) -> None:
    async with world.database.statement() as connection:
        await require_secret_key(connection, Vault(None))
    await put(world, vault(OLD))
    async with world.database.statement() as connection:
        with pytest.raises(SecretKeyMissing):
            await require_secret_key(connection, Vault(None))
        await require_secret_key(connection, vault(OLD))


async def test_secrets_are_listed_by_name_and_forgotten(world: World) -> None:
    for name in ("b", "a"):
        await put(world, vault(OLD), name)
    key = {"organization_id": world.organization_id}
    async with world.database.transaction() as connection:
        assert [secret.name for secret in await list_secrets(connection, **key)] == ["a", "b"]
        await delete_secret(connection, **key, name="a")
        assert [secret.name for secret in await list_secrets(connection, **key)] == ["b"]
        with pytest.raises(SecretNotFound, match="'a'"):
            await delete_secret(connection, **key, name="a")
    with pytest.raises(SecretNotFound):
        await get(world, vault(OLD), "a")


async def test_one_organization_never_reads_anothers_secret(world: World) -> None:
    await put(world, vault(OLD))
    async with world.database.transaction() as connection:
        other = await create_organization(connection, name="Other")
        with pytest.raises(SecretNotFound):
            await get_secret(connection, vault(OLD), organization_id=other, name="llm")
