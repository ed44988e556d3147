"""Idempotency keys in PostgreSQL: who comes second waits, and learns what the first was answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from worker.storage.idempotency import Answer, IdempotencyKeyReused, KeyedRequest, keep_answer, take_key

if TYPE_CHECKING:
    from tests.world import World

ANSWER = Answer(202, {"Location": "/v1/turns/1"}, {"id": "1", "text": "\u00e4\x00"})


def request(world: World, fingerprint: bytes = b"body") -> KeyedRequest:
    return KeyedRequest(world.organization_id, "POST", "/v1/sessions/1/turns", "key", fingerprint)


async def second(world: World, fingerprint: bytes = b"body") -> Answer | None:
    async with world.database.transaction() as connection:
        return await take_key(connection, request(world, fingerprint))


async def waits_for_a_lock(world: World) -> None:
    """Until some transaction of this database waits for another one."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while not await world.rows(waiting):
            pass


async def test_a_duplicate_waits_until_the_first_has_committed_and_is_given_its_answer(world: World) -> None:
    async with world.database.transaction() as connection:
        assert await take_key(connection, request(world)) is None
        duplicate = asyncio.create_task(second(world))
        await waits_for_a_lock(world)
        await keep_answer(connection, request(world), ANSWER)
        assert not duplicate.done()
    assert await duplicate == ANSWER


async def test_a_duplicate_takes_over_when_the_first_is_rolled_back(world: World) -> None:
    with suppress(ZeroDivisionError):
        async with world.database.transaction() as connection:
            await take_key(connection, request(world))
            duplicate = asyncio.create_task(second(world))
            await waits_for_a_lock(world)
            raise ZeroDivisionError
    assert await duplicate is None


async def test_a_duplicate_with_another_body_is_refused_after_the_first_has_committed(world: World) -> None:
    async with world.database.transaction() as connection:
        await take_key(connection, request(world))
        await keep_answer(connection, request(world), ANSWER)
    with pytest.raises(IdempotencyKeyReused, match="'key'"):
        await second(world, b"another body")


async def test_a_key_means_something_else_for_another_organization_method_or_path(world: World) -> None:
    async with world.database.transaction() as connection:
        for keyed in (
            request(world),
            KeyedRequest(UUID(int=1), "POST", "/v1/sessions/1/turns", "key", b""),
            KeyedRequest(world.organization_id, "PUT", "/v1/sessions/1/turns", "key", b""),
            KeyedRequest(world.organization_id, "POST", "/v1/sessions/2/turns", "key", b""),
        ):
            assert await take_key(connection, keyed) is None
