"""The ledger of what a turn waits for."""

from __future__ import annotations

import asyncio

import pytest

from worker.engine.outstanding import Outstanding


async def test_nothing_outstanding_is_settled_at_once() -> None:
    await Outstanding().settled()


async def test_it_settles_when_the_last_thing_has_ended() -> None:
    outstanding = Outstanding()
    outstanding.begin("one")
    outstanding.begin("two")
    waiting = asyncio.create_task(outstanding.settled())

    outstanding.end("one")
    await asyncio.sleep(0)
    assert not waiting.done()
    assert outstanding.names == ("two",)

    outstanding.end("two")
    await waiting


async def test_what_begins_before_the_last_thing_ends_keeps_it_open() -> None:
    outstanding = Outstanding()
    outstanding.begin("request")
    waiting = asyncio.create_task(outstanding.settled())

    outstanding.begin("response")
    outstanding.end("request")
    await asyncio.sleep(0)

    assert not waiting.done()
    outstanding.end("response")
    await waiting
    assert outstanding.begun == 2


async def test_a_failure_ends_the_waiting_whatever_is_outstanding() -> None:
    outstanding = Outstanding()
    outstanding.begin("response")
    waiting = asyncio.create_task(outstanding.settled())

    outstanding.fail(ValueError("first"))
    outstanding.fail(ValueError("second"))
    outstanding.begin("more")

    with pytest.raises(ValueError, match="first"):
        await waiting


async def test_a_failure_after_everything_ended_is_not_lost() -> None:
    outstanding = Outstanding()
    outstanding.fail(ValueError("late"))

    with pytest.raises(ValueError, match="late"):
        await outstanding.settled()
