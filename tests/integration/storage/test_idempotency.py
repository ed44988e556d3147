"""Idempotency keys in PostgreSQL: who comes second waits, and learns what the first was answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from worker.storage.idempotency import (
    AlreadyAnswered,
    Answer,
    IdempotencyKeyReused,
    KeyedRequest,
    find_answer,
    keep_answer,
)

if TYPE_CHECKING:
    from tests.world import World

FIRST = Answer(202, {"Location": "/v1/turns/1"}, {"id": "1", "text": "\u00e4\x00"})
SECOND = Answer(202, {}, {"id": "2"})


def request(world: World, fingerprint: bytes = b"body") -> KeyedRequest:
    return KeyedRequest(world.organization_id, "POST", "/v1/sessions/1/turns", "key", fingerprint)


async def keep(world: World, answer: Answer) -> None:
    async with world.database.transaction() as connection:
        await keep_answer(connection, request(world), answer)


async def find(world: World, fingerprint: bytes = b"body") -> Answer | None:
    async with world.database.statement() as connection:
        return await find_answer(connection, request(world, fingerprint))


async def waits_for_a_lock(world: World) -> None:
    """Until some transaction of this database waits for another one."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while not await world.rows(waiting):
            pass


async def test_a_duplicate_waits_until_the_first_has_committed_and_is_refused(world: World) -> None:
    async with world.database.transaction() as connection:
        await keep_answer(connection, request(world), FIRST)
        duplicate = asyncio.create_task(keep(world, SECOND))
        await waits_for_a_lock(world)
        assert await find(world) is None
    with pytest.raises(AlreadyAnswered, match="'key'"):
        await duplicate
    assert await find(world) == FIRST


async def test_a_duplicate_takes_over_when_the_first_is_rolled_back(world: World) -> None:
    with suppress(ZeroDivisionError):
        async with world.database.transaction() as connection:
            await keep_answer(connection, request(world), FIRST)
            duplicate = asyncio.create_task(keep(world, SECOND))
            await waits_for_a_lock(world)
            raise ZeroDivisionError
    await duplicate
    assert await find(world) == SECOND


async def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    await keep(world, FIRST)
    with pytest.raises(IdempotencyKeyReused, match="'key'"):
        await find(world, b"another body")


async def test_an_answer_is_forgotten_after_a_day(world: World) -> None:
    await keep(world, FIRST)
    await world.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    assert await find(world) == FIRST
    with pytest.raises(AlreadyAnswered):
        await keep(world, SECOND)
    await world.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
    assert await find(world, b"another body") is None
    await keep(world, SECOND)
    assert await find(world) == SECOND


async def test_a_key_means_something_else_for_another_organization_method_or_path(world: World) -> None:
    async with world.database.transaction() as connection:
        for keyed in (
            request(world),
            KeyedRequest(UUID(int=1), "POST", "/v1/sessions/1/turns", "key", b""),
            KeyedRequest(world.organization_id, "PUT", "/v1/sessions/1/turns", "key", b""),
            KeyedRequest(world.organization_id, "POST", "/v1/sessions/2/turns", "key", b""),
        ):
            assert await find_answer(connection, keyed) is None
            await keep_answer(connection, keyed, FIRST)
