"""A turn's text over HTTP, from the first word to the turn's end."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from worker.channel.text_stream import TextStreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tests.api import Tenant
    from worker.channel.text_stream import TextStream


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[TextStreams]:
    streams = TextStreams(redis_url)
    yield streams
    await streams.close()


@pytest.fixture
async def turn(served: Tenant) -> dict[str, Any]:
    return await served.turn((await served.session())["id"])


def saying(api: Tenant, streams: TextStreams, turn: dict[str, Any], attempt: int = 1) -> TextStream:
    """Play a worker that generates the turn's text."""
    return streams.of(api.world.organization_id, UUID(turn["id"]), attempt)


@asynccontextmanager
async def reading(
    api: Tenant, turn: dict[str, Any], **headers: str
) -> AsyncGenerator[AsyncIterator[tuple[str, dict[str, Any]]]]:
    """Read a turn's text: the id of each event, and what it says."""
    async with api.http.stream("GET", f"/v1/turns/{turn['id']}/text", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")

        async def events() -> AsyncIterator[tuple[str, dict[str, Any]]]:
            fields: dict[str, str] = {}
            async for line in response.aiter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    update = json.loads(fields["data"])
                    assert update["type"] == fields["event"]
                    yield fields["id"], update
                    fields = {}

        yield events()


def said(*updates: tuple[str, dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(update["type"], update["offset"], update["text"]) for _, update in updates]


async def test_text_is_read_while_it_is_said_and_ends_with_the_turn(
    served: Tenant, streams: TextStreams, turn: dict[str, Any]
) -> None:
    worker = saying(served, streams, turn)
    async with reading(served, turn) as updates:
        worker.write(0, "Good")
        assert said(await anext(updates)) == [("text", 0, "Good")]
        worker.write(4, " morning")
        assert said(await anext(updates)) == [("text", 4, " morning")]
        await served.answer(turn, assistant_text="Good morning.")
        (id_, end) = await anext(updates)
        assert (id_, end["type"], end["text"]) == ("end", "end", "Good morning.")
        assert (end["status"], end["error"]) == ("completed", None)
        assert [update async for update in updates] == []


async def test_a_reader_who_comes_late_or_again_gets_what_he_has_not(
    served: Tenant, streams: TextStreams, turn: dict[str, Any]
) -> None:
    worker = saying(served, streams, turn)
    worker.write(0, "One")
    async with reading(served, turn) as updates:
        first = await anext(updates)
        worker.write(3, " two")
        second = await anext(updates)
        assert said(first, second) == [("text", 0, "One"), ("text", 3, " two")]
    async with reading(served, turn, **{"Last-Event-ID": first[0]}) as updates:
        assert await anext(updates) == second


async def test_an_answer_that_is_begun_anew_voids_what_was_said_of_it(
    served: Tenant, streams: TextStreams, turn: dict[str, Any]
) -> None:
    first, second = saying(served, streams, turn), saying(served, streams, turn, attempt=2)
    async with reading(served, turn) as updates:
        first.write(0, "Hello. Half")
        assert said(await anext(updates)) == [("text", 0, "Hello. Half")]
        second.begin(6)
        second.write(6, " Whole.")
        assert said(await anext(updates), await anext(updates)) == [("reset", 6, ""), ("text", 6, " Whole.")]
        first.write(11, " a sentence")
        second.write(13, " Well.")
        assert said(await anext(updates)) == [("text", 13, " Well.")]


async def test_the_text_of_a_turn_that_is_over_is_its_end(served: Tenant, turn: dict[str, Any]) -> None:
    await served.answer(turn, assistant_text="Good day.")
    async with reading(served, turn) as updates:
        assert said(*[update async for update in updates]) == [("end", 0, "Good day.")]
    path = f"/v1/turns/{turn['id']}/text"
    assert (await served.http.get(path, headers={"Last-Event-ID": "end"})).status_code == 204


async def test_the_end_of_a_failed_turn_says_why(served: Tenant, turn: dict[str, Any]) -> None:
    async with reading(served, turn) as updates:
        attempt = await served.claim(turn)
        served.publish(await served.world.fail(attempt))
        _, end = await anext(updates)
    assert (end["status"], end["text"], end["error"]["code"]) == ("failed", "", "llm_overloaded")


async def test_there_is_no_text_of_a_turn_of_somebody_else(served: Tenant) -> None:
    response = await served.http.get(f"/v1/turns/{uuid4()}/text")
    assert (response.status_code, response.json()["code"]) == (404, "turn_not_found")


async def test_a_last_event_id_that_is_none_is_refused(served: Tenant, turn: dict[str, Any]) -> None:
    response = await served.http.get(f"/v1/turns/{turn['id']}/text", headers={"Last-Event-ID": "soon"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_many_readers_read_the_same(served: Tenant, streams: TextStreams, turn: dict[str, Any]) -> None:
    worker = saying(served, streams, turn)

    async def read() -> list[tuple[str, int, str]]:
        async with reading(served, turn) as updates:
            return said(await anext(updates))

    readers = [asyncio.create_task(read()) for _ in range(50)]
    worker.write(0, "To all")
    assert all(result == [("text", 0, "To all")] for result in await asyncio.gather(*readers))
