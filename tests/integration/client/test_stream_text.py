"""Both clients read a turn's text along, through lost connections, to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from api_stub.client import AsyncTurnWorkerClient, NotFound, TurnWorkerClient
from tests.proxy import CuttingProxy
from worker.channel.text_stream import TextStreams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.api import Tenant


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[TextStreams]:
    streams = TextStreams(redis_url)
    yield streams
    await streams.close()


async def asynchronous(url: str, key: str, turn_id: UUID, on_text: Callable[[str], None]) -> list[str]:
    shown = []
    async with AsyncTurnWorkerClient(url, key) as client:
        async for said in client.stream_text(turn_id):
            shown.append(said.text)
            on_text(said.text)
    return shown


async def blocking(url: str, key: str, turn_id: UUID, on_text: Callable[[str], None]) -> list[str]:
    loop = asyncio.get_running_loop()

    def read() -> list[str]:
        shown = []
        with TurnWorkerClient(url, key) as client:
            for said in client.stream_text(turn_id):
                shown.append(said.text)
                loop.call_soon_threadsafe(on_text, said.text)
        return shown

    return await asyncio.to_thread(read)


@pytest.fixture(params=[asynchronous, blocking])
def read(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_text_is_read_to_the_turns_end_although_the_connection_is_lost(
    served: Tenant, streams: TextStreams, read: Any
) -> None:
    turn = await served.turn((await served.session())["id"])
    worker = streams.of(served.world.organization_id, UUID(turn["id"]), 1)
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with CuttingProxy(str(served.http.base_url)) as proxy:
        reading = asyncio.create_task(read(proxy.url, served.key, UUID(turn["id"]), heard.put_nowait))
        worker.write(0, "One")
        assert await asyncio.wait_for(heard.get(), 10) == "One"
        proxy.cut()
        worker.write(3, " two")
        assert await asyncio.wait_for(heard.get(), 10) == "One two"
        await served.answer(turn, assistant_text="One two three")
        assert (await asyncio.wait_for(reading, 20))[-1] == "One two three"
    assert proxy.connections > 1


async def test_the_text_of_a_turn_that_does_not_exist_is_a_problem(served: Tenant, read: Any) -> None:
    with pytest.raises(NotFound):
        await read(str(served.http.base_url), served.key, uuid4(), print)
