"""`DELETE /v1/sessions/{id}`: nothing that anybody said is left, and whoever runs or waits hears of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import Uuid

from worker.channel.text_stream import text_key
from worker.storage.attempts import LeaseLost
from worker.storage.erasure import CONTENT
from worker.storage.schema import metadata

if TYPE_CHECKING:
    from tests.api import Tenant

SECRET = "the-very-secret-word"

# What knows of a session or a turn and may outlive it.
KEPT = {"usage_entries"}


async def rows_with(api: Tenant, word: str) -> set[str]:
    """The tables of the database in which a word occurs."""
    found = set()
    for table in metadata.tables:
        matching = await api.world.rows(f"SELECT FROM {table} AS row WHERE row::text LIKE :word", word=f"%{word}%")
        if matching:
            found.add(table)
    return found


async def test_nothing_that_was_said_is_left_anywhere(api: Tenant) -> None:
    path = f"/v1/workflows/{api.world.workflow_id}/sessions"
    body = {"begins_with": "user", "initial_context": {"name": SECRET}}
    session = (await api.http.post(path, json=body, headers={"Idempotency-Key": str(uuid4())})).json()
    enqueue = f"/v1/sessions/{session['id'].upper()}/turns"
    turn = (await api.http.post(enqueue, json={"text": SECRET}, headers={"Idempotency-Key": str(uuid4())})).json()
    await api.answer(turn, assistant_text=SECRET, messages=[{"role": "assistant", "content": SECRET}])
    await api.services.dispatch.drain()
    assert await rows_with(api, SECRET) >= {"sessions", "turns", "messages", "idempotency_keys"}
    assert (await api.http.delete(f"/v1/sessions/{session['id']}")).status_code == 204
    assert await rows_with(api, SECRET) == set()
    assert await rows_with(api, session["id"]) == set()
    assert await rows_with(api, turn["id"]) == set()


async def test_the_text_that_a_turn_has_said_so_far_is_gone_from_redis(api: Tenant, redis_url: str) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    key = text_key(api.world.organization_id, UUID(turn["id"]))
    async with Redis.from_url(redis_url) as redis:
        await redis.xadd(key, {"text": SECRET})
        assert (await api.http.delete(f"/v1/sessions/{session['id']}")).status_code == 204
        assert await redis.exists(key) == 0


async def test_erasing_again_finds_nothing_and_other_sessions_are_untouched(api: Tenant) -> None:
    erased, kept = await api.session(), await api.session()
    turn = await api.turn(kept["id"])
    assert (await api.http.delete(f"/v1/sessions/{erased['id']}")).status_code == 204
    again = await api.http.delete(f"/v1/sessions/{erased['id']}")
    assert (again.status_code, again.json()["code"]) == (404, "session_not_found")
    assert (await api.http.get(f"/v1/sessions/{erased['id']}")).status_code == 404
    assert (await api.get(f"/v1/turns/{turn['id']}"))["status"] == "pending"


async def test_a_fork_keeps_the_conversation_when_its_source_is_erased(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.answer(turn, messages=[{"role": "assistant", "content": "Remember me."}])
    fork = await api.made(api.http.post(f"/v1/sessions/{session['id']}/fork", json={}))
    assert (await api.http.delete(f"/v1/sessions/{session['id']}")).status_code == 204
    assert await rows_with(api, "Remember me.") == {"sessions"}
    claimed = await api.world.claim(UUID((await api.turn(fork["id"]))["id"]))
    assert claimed.session_checkpoint is not None
    assert claimed.session_checkpoint["messages"] == [{"role": "assistant", "content": "Remember me."}]
    assert (await api.http.delete(f"/v1/sessions/{fork['id']}")).status_code == 204
    assert await rows_with(api, "Remember me.") == set()


async def test_a_session_with_retried_and_scheduled_turns_is_erased_like_any_other(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.world.fail(await api.claim(turn))
    await api.made(api.http.post(f"/v1/turns/{turn['id']}/retry", json={}))
    await api.turn(session["id"], "Later.", not_before=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    assert (await api.http.delete(f"/v1/sessions/{session['id']}")).status_code == 204
    assert await rows_with(api, session["id"]) == set()


async def test_another_organization_erases_nothing(api: Tenant, other: Tenant) -> None:
    session = await api.session()
    assert (await other.http.delete(f"/v1/sessions/{session['id']}")).status_code == 404
    assert (await api.http.get(f"/v1/sessions/{session['id']}")).status_code == 200


async def test_usage_stays_for_the_books(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.world.execute(
        "INSERT INTO usage_entries (organization_id, turn_id, attempt, call, processor, model, total_tokens)"
        " VALUES (:o, :t, 1, 1, 'P', 'm', 11)",
        o=api.world.organization_id,
        t=turn["id"],
    )
    assert (await api.http.delete(f"/v1/sessions/{session['id']}")).status_code == 204
    assert await api.world.rows("SELECT total_tokens FROM usage_entries") == [(11,)]


async def test_an_attempt_that_runs_can_write_nothing_any_more_and_whoever_waits_hears_of_the_end(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    attempt = await api.claim(turn)
    waiting = asyncio.create_task(api.http.get(f"/v1/turns/{turn['id']}", params={"wait": 30}))
    await api.ears.listening(turn["id"])
    assert (await api.http.delete(f"/v1/sessions/{session['id']}")).status_code == 204
    assert (await asyncio.wait_for(waiting, 10)).status_code == 404
    with pytest.raises(LeaseLost):
        await api.world.complete(attempt)
    assert await rows_with(api, turn["id"]) == set()


def test_every_table_that_knows_of_a_session_or_a_turn_is_erased_or_known_to_be_kept() -> None:
    knowing = {
        table.name
        for table in metadata.tables.values()
        for column in table.columns
        if column.name in {"session_id", "turn_id", "completion_id"} and isinstance(column.type, Uuid)
    }
    assert knowing | {"sessions"} == CONTENT.keys() | KEPT
