"""Waiting for the end of a turn."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from api_stub import following

if TYPE_CHECKING:
    import pytest

    from tests.api import Tenant


async def test_a_wait_ends_as_soon_as_the_turn_does(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    waiting = asyncio.create_task(api.get(f"/v1/turns/{turn['id']}", wait=30))
    await api.ears.listening(turn["id"])
    begun = time.monotonic()
    await api.answer(turn, assistant_text="Good day.")
    shown = await waiting
    assert time.monotonic() - begun < 5
    assert (shown["status"], shown["assistant_text"]) == ("completed", "Good day.")


async def test_a_wait_for_a_turn_that_is_over_is_answered_at_once(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.world.fail(await api.claim(turn))
    begun = time.monotonic()
    assert (await api.get(f"/v1/turns/{turn['id']}", wait=30))["status"] == "failed"
    assert time.monotonic() - begun < 5


async def test_a_wait_that_is_over_before_the_turn_is_answers_with_the_turn_as_it_is(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    begun = time.monotonic()
    shown = await api.get(f"/v1/turns/{turn['id']}", wait=0.2)
    assert shown["status"] == "pending"
    assert time.monotonic() - begun >= 0.2


async def test_a_wait_sees_an_end_of_which_the_message_was_lost(api: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ended the turn published nothing."""
    monkeypatch.setattr(following, "_REREAD_SECONDS", 0.1)
    session = await api.session()
    turn = await api.turn(session["id"])
    waiting = asyncio.create_task(api.get(f"/v1/turns/{turn['id']}", wait=30))
    await api.ears.listening(turn["id"])
    await api.world.complete((await api.world.claim(UUID(turn["id"]))).attempt)
    async with asyncio.timeout(5):
        assert (await waiting)["status"] == "completed"


async def test_no_wait_is_longer_than_the_longest(api: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_WAIT_SECONDS", 0.1)
    session = await api.session()
    turn = await api.turn(session["id"])
    async with asyncio.timeout(5):
        assert (await api.get(f"/v1/turns/{turn['id']}", wait=1e9))["status"] == "pending"


async def test_a_wait_is_not_ended_by_news_of_anything_but_the_turns_end(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    waiting = asyncio.create_task(api.get(f"/v1/turns/{turn['id']}", wait=30))
    await api.ears.listening(turn["id"])
    attempt = await api.claim(turn)
    api.publish(await api.world.retry(attempt))
    await api.answer(turn)
    shown = await waiting
    assert (shown["status"], shown["attempt"]) == ("completed", 2)


async def test_a_wait_for_a_turn_that_does_not_exist_is_a_404_at_once(api: Tenant) -> None:
    missing = await api.http.get(f"/v1/turns/{uuid4()}", params={"wait": 30})
    assert missing.status_code == 404


async def test_many_waits_at_once_hold_no_connection_to_the_database(api: Tenant) -> None:
    """There are four connections; forty waits and a worker get along with them."""
    session = await api.session()
    turns = [await api.turn(session["id"]) for _ in range(4)]
    waits = [asyncio.create_task(api.get(f"/v1/turns/{turn['id']}", wait=30)) for turn in turns for _ in range(10)]
    for turn in turns:
        await api.ears.listening(turn["id"])
    for turn in turns:
        await api.answer(turn)
    assert {shown["status"] for shown in await asyncio.gather(*waits)} == {"completed"}
    assert not api.services.subscriber._listeners
