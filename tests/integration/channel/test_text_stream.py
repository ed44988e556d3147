"""The text of running turns on real Redis: written in the background, read along by anybody, at any time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jsonschema
import pytest
import redis
import yaml

import worker.channel
from worker.channel.text_reader import TextEntry, TextReader
from worker.channel.text_stream import ENDED_TTL_SECONDS, FLUSH_SECONDS, RUNNING_TTL_SECONDS, TextStreams, text_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from uuid import UUID

    from worker.channel.text_reader import TextListener
    from worker.embedded.redis import EmbeddedRedis

ORGANIZATION, TURN = uuid4(), uuid4()


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[TextStreams]:
    streams = TextStreams(redis_url)
    yield streams
    await streams.close()


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[TextReader]:
    reader = TextReader(redis_url)
    yield reader
    await reader.close()


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


async def take(listener: TextListener, count: int = 1) -> list[TextEntry]:
    async with asyncio.timeout(10):
        return [await anext(listener) for _ in range(count)]


def shown(entries: list[TextEntry]) -> list[tuple[int, int, str | None]]:
    return [(entry.attempt, entry.offset, entry.text) for entry in entries]


async def test_words_that_come_close_together_are_one_entry(streams: TextStreams, reader: TextReader) -> None:
    stream = streams.of(ORGANIZATION, TURN, 1)
    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
        for offset, word in ((0, "Good"), (4, " morn"), (9, "ing")):
            stream.write(offset, word)
        assert shown(await take(listener)) == [(1, 0, "Good morning")]
        stream.write(12, ".")
        assert shown(await take(listener)) == [(1, 12, ".")]


async def test_an_attempt_after_the_first_tells_from_where_on_the_text_is_void(
    streams: TextStreams, reader: TextReader
) -> None:
    for attempt, offset in ((1, 0), (2, 5)):
        stream = streams.of(ORGANIZATION, TURN, attempt)
        stream.begin(offset)
        stream.write(offset, f"said {attempt}")
        async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
            entries = await take(listener, 1 if attempt == 1 else 3)
    assert shown(entries) == [(1, 0, "said 1"), (2, 5, None), (2, 5, "said 2")]


async def test_a_turn_that_is_over_before_a_reader_could_notice_writes_nothing(
    streams: TextStreams, reader: TextReader, broker: redis.Redis
) -> None:
    quick, slow = streams.of(ORGANIZATION, uuid4(), 1), streams.of(ORGANIZATION, TURN, 1)
    quick.write(0, "Done.")
    quick.end(final=True)
    slow.write(0, "Well")
    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
        await take(listener)
    assert broker.keys(f"turns.text.{ORGANIZATION}.*") == [text_key(ORGANIZATION, TURN).encode()]


async def test_what_is_written_is_what_the_asyncapi_document_says(
    streams: TextStreams, reader: TextReader, broker: redis.Redis
) -> None:
    stream = streams.of(ORGANIZATION, TURN, 2)
    stream.begin(7)
    stream.write(7, " What now?")
    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
        await take(listener, 2)
    document = yaml.safe_load((Path(worker.channel.__path__[0]) / "asyncapi.yaml").read_text())
    key = document["channels"]["text"]["address"].format(organization_id=ORGANIZATION, turn_id=TURN)
    raw: Any = broker.xrange(key)
    entries = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in raw]
    assert [entry.get("text") for entry in entries] == [None, " What now?"]
    for entry in entries:
        jsonschema.validate(entry, document["components"]["schemas"]["textEntry"] | {"additionalProperties": False})


async def test_a_stream_expires_and_sooner_once_its_turn_is_over(
    streams: TextStreams, reader: TextReader, broker: redis.Redis
) -> None:
    stream = streams.of(ORGANIZATION, TURN, 1)
    stream.write(0, "Well")
    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
        await take(listener)
        assert broker.ttl(stream.key) == pytest.approx(RUNNING_TTL_SECONDS, abs=5)
        stream.end(final=True)
        streams.of(ORGANIZATION, later := uuid4(), 1).write(0, "Later.")
        async with reader.listen(organization_id=ORGANIZATION, turn_id=later) as other:
            await take(other)
        assert broker.ttl(stream.key) == pytest.approx(ENDED_TTL_SECONDS, abs=5)


async def test_readers_come_at_any_time_and_each_gets_what_it_has_not(streams: TextStreams, reader: TextReader) -> None:
    stream = streams.of(ORGANIZATION, TURN, 1)

    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as first:
        stream.write(0, "One")
        (one,) = await take(first)
        async with (
            reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as second,
            reader.listen(organization_id=ORGANIZATION, turn_id=TURN, after=one.id) as third,
        ):
            stream.write(3, " two")
            assert shown(await take(second, 2)) == [(1, 0, "One"), (1, 3, " two")]
            assert shown(await take(third)) == shown(await take(first)) == [(1, 3, " two")]


async def test_a_reader_that_comes_while_the_connection_waits_for_what_is_new_misses_nothing_old(
    streams: TextStreams, reader: TextReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep_on() -> None:
        """As if Redis had more for the first reader before it heard of the second."""

    stream = streams.of(ORGANIZATION, TURN, 1)
    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as first:
        stream.write(0, "One")
        await take(first)
        monkeypatch.setattr(reader, "_wake", sleep_on)
        async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as second:
            stream.write(3, " two")
            assert shown(await take(second, 2)) == [(1, 0, "One"), (1, 3, " two")]


async def test_a_reader_of_another_turn_is_served_at_once_while_the_connection_waits(
    streams: TextStreams, reader: TextReader
) -> None:
    async with reader.listen(organization_id=ORGANIZATION, turn_id=uuid4()):
        for _ in range(5):
            turn_id = uuid4()
            stream = streams.of(ORGANIZATION, turn_id, 1)
            stream.write(0, "Here.")
            started = asyncio.get_running_loop().time()
            async with reader.listen(organization_id=ORGANIZATION, turn_id=turn_id) as listener:
                await take(listener)
            assert asyncio.get_running_loop().time() - started < 0.9  # the connection would wait for a second


async def test_without_redis_nothing_is_held_up_and_text_goes_on_once_it_is_back(
    redis_server: EmbeddedRedis, redis_url: str, reader: TextReader
) -> None:
    streams = TextStreams(redis_url)
    await asyncio.to_thread(redis_server.stop)
    try:
        stream = streams.of(ORGANIZATION, TURN, 1)
        async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
            stream.write(0, "Lost.")
            await asyncio.to_thread(redis_server.start)
            offset = 5
            reading = asyncio.create_task(take(listener))
            while not reading.done():
                stream.write(offset, "!")
                offset += 1
                await asyncio.wait({reading}, timeout=FLUSH_SECONDS)
            assert (await reading)[0].text is not None
    finally:
        if not redis_server.is_running:
            await asyncio.to_thread(redis_server.start)
        await streams.close()


async def test_the_text_of_another_organization_is_another_stream(streams: TextStreams, reader: TextReader) -> None:
    other: UUID = uuid4()
    streams.of(other, TURN, 1).write(0, "Theirs.")
    streams.of(ORGANIZATION, TURN, 1).write(0, "Ours.")
    async with reader.listen(organization_id=ORGANIZATION, turn_id=TURN) as listener:
        assert shown(await take(listener)) == [(1, 0, "Ours.")]
