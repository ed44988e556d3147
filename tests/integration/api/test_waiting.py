"""Waiting for the end of a turn."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

if TYPE_CHECKING:
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


async def test_a_wait_sees_an_end_whose_message_was_lost(api: Tenant) -> None:
    """Whoever ended the turn published nothing: the wait's own last look finds it."""
    session = await api.session()
    turn = await api.turn(session["id"])
    waiting = asyncio.create_task(api.get(f"/v1/turns/{turn['id']}", wait=1))
    await api.ears.listening(turn["id"])
    await api.world.complete((await api.world.claim(UUID(turn["id"]))).attempt)
    assert (await waiting)["status"] == "completed"


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
