"""What an organization may enqueue, and what it is told when it is too much."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    import httpx

    from tests.api import Tenant


async def limit(api: Tenant, **limits: Any) -> None:
    changes = {f"limits.{name}": value for name, value in limits.items()}
    async with api.world.database.transaction() as connection:
        await change_settings(connection, organization_id=api.world.organization_id, changes=changes)


async def post(api: Tenant, session: dict[str, Any], **headers: str) -> httpx.Response:
    return await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "Hi."}, headers=headers)


async def stored(api: Tenant) -> int:
    return int((await api.world.rows("SELECT count(*) FROM turns"))[0].count)


def refusal(response: httpx.Response) -> tuple[int, str, str, int]:
    problem = response.json()
    return response.status_code, problem["code"], problem["limit"], problem["allowed"]


async def test_a_turn_beyond_those_that_may_wait_is_refused_and_nothing_is_stored(api: Tenant) -> None:
    session = await api.session()
    await limit(api, max_pending_turns=2)
    first = await api.turn(session["id"])
    await api.turn(session["id"])
    refused = await post(api, session)
    assert refusal(refused) == (429, "limit_reached", "max_pending_turns", 2)
    assert int(refused.headers["Retry-After"]) == 1
    assert await stored(api) == 2
    assert (await api.get(f"/v1/sessions/{session['id']}"))["revision"] == session["revision"] + 2
    await api.claim(first)
    assert (await post(api, session)).status_code == 202, "a running turn does not wait"


async def test_of_requests_at_the_same_time_no_more_are_accepted_than_may_wait(api: Tenant) -> None:
    sessions = [await api.session() for _ in range(8)]
    await limit(api, max_pending_turns=3)
    answers = await asyncio.gather(*(post(api, session) for session in sessions))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
    assert await stored(api) == 3


async def test_turns_faster_than_the_rate_are_refused_until_the_next_may_come(api: Tenant) -> None:
    session = await api.session()
    await limit(api, enqueue_per_minute=2)
    assert [(await post(api, session)).status_code for _ in range(2)] == [202, 202]
    refused = await post(api, session)
    assert refusal(refused) == (429, "limit_reached", "enqueue_per_minute", 2)
    assert 28 <= int(refused.headers["Retry-After"]) <= 30
    assert await stored(api) == 2
    await api.world.execute("UPDATE enqueue_rates SET refilled_at = refilled_at - interval '30 s'")
    assert [(await post(api, session)).status_code for _ in range(2)] == [202, 429]


async def test_a_quiet_hour_saves_up_no_more_than_a_minutes_worth(api: Tenant) -> None:
    session = await api.session()
    await limit(api, enqueue_per_minute=2)
    await api.turn(session["id"])
    await api.world.execute("UPDATE enqueue_rates SET refilled_at = refilled_at - interval '1 hour'")
    assert [(await post(api, session)).status_code for _ in range(3)] == [202, 202, 429]


async def test_once_the_days_tokens_are_used_up_turns_are_refused_until_midnight(api: Tenant) -> None:
    session = await api.session()
    await limit(api, tokens_per_day=100)
    turn = await api.turn(session["id"])
    entry = (
        "INSERT INTO usage_entries (organization_id, turn_id, attempt, call, processor, model, total_tokens, created_at) "
        "VALUES (:o, :t, 1, :call, 'P', 'm', :tokens, now() - make_interval(days => :days))"
    )
    values = {"o": api.world.organization_id, "t": turn["id"]}
    await api.world.execute(entry, **values, call=1, tokens=1000, days=1)
    await api.world.execute(entry, **values, call=2, tokens=99, days=0)
    assert (await post(api, session)).status_code == 202
    await api.world.execute(entry, **values, call=3, tokens=1, days=0)
    refused = await post(api, session)
    assert refusal(refused) == (429, "limit_reached", "tokens_per_day", 100)
    assert 0 < int(refused.headers["Retry-After"]) <= 24 * 3600


async def test_the_opening_turn_of_a_session_counts_and_a_session_refused_is_not_created(api: Tenant) -> None:
    await limit(api, max_pending_turns=1)
    path = f"/v1/workflows/{api.world.workflow_id}/sessions"
    assert (await api.http.post(path, json={})).status_code == 201
    assert (await api.http.post(path, json={})).status_code == 429
    assert (await api.http.post(path, json={"begins_with": "user"})).status_code == 201
    assert (await api.world.rows("SELECT count(*) FROM sessions")) == [(2,)]


async def test_a_repeated_request_is_answered_as_before_and_counts_once(api: Tenant) -> None:
    session = await api.session()
    await limit(api, max_pending_turns=1)
    key = str(uuid4())
    first, again = [await post(api, session, **{"Idempotency-Key": key}) for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()


async def test_a_refusal_is_not_kept_for_its_key(api: Tenant) -> None:
    session = await api.session()
    await limit(api, max_pending_turns=1)
    turn = await api.turn(session["id"])
    key = {"Idempotency-Key": str(uuid4())}
    assert (await post(api, session, **key)).status_code == 429
    await api.claim(turn)
    assert (await post(api, session, **key)).status_code == 202


async def test_limits_of_one_organization_are_none_of_another(api: Tenant, other: Tenant) -> None:
    await limit(api, max_pending_turns=1, enqueue_per_minute=1, tokens_per_day=1)
    session = await other.session()
    assert [(await post(other, session)).status_code for _ in range(3)] == [202] * 3


@pytest.mark.parametrize("priority", [11, -11, 1.5, "high"])
async def test_a_priority_out_of_range_is_refused(api: Tenant, priority: object) -> None:
    session = await api.session()
    refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "Hi.", "priority": priority})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/priority"


async def test_a_turn_keeps_the_priority_it_was_enqueued_with(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"], priority=7)
    assert turn["priority"] == 7
    assert (await api.get(f"/v1/turns/{turn['id']}"))["priority"] == 7
