"""A worker's inside on real servers: everything but Celery."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from worker.channel.publisher import Publisher
from worker.embedded.scripted_llm import ScriptedLLM
from worker.engine.llm.clients import ProviderClients
from worker.engine.web.client import WebClient
from worker.settings import Settings
from worker.storage.completions import SessionReference
from worker.storage.database import Database
from worker.telemetry.telemetry import Telemetry
from worker.turns.completion import CompletionWorker
from worker.turns.dispatch import Dispatch, TurnReference
from worker.turns.executor import TurnExecutor
from worker.turns.fault_points import no_fault
from worker.turns.lease import LeaseKeeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from tests.world import World
    from worker.storage.documents import DocumentReference
    from worker.turns.fault_points import FaultPoint


@pytest.fixture
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM() as server:
        yield server


@dataclass
class RecordingDoorbell:
    """A doorbell that remembers who was rung for, and lets a test wait for it."""

    rung: list[TurnReference] = field(default_factory=list)
    ended: list[SessionReference] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        self.rung += turns
        self.changed.set()

    async def ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        self.ended += sessions
        self.changed.set()

    async def ring_for_document(self, document: DocumentReference) -> None:
        raise AssertionError(f"no turn rings for {document}")

    async def wait_for(self, turn: TurnReference) -> None:
        while turn not in self.rung:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


@dataclass
class Worker:
    """One worker process's inside."""

    world: World
    executor: TurnExecutor
    completion: CompletionWorker
    dispatch: Dispatch
    doorbell: RecordingDoorbell

    def reference(self, turn_id: Any) -> TurnReference:
        return TurnReference(self.world.organization_id, turn_id)

    async def execute(self, turn_id: Any) -> str:
        return (await self.executor.execute(self.reference(turn_id))).value

    async def complete(self, session_id: Any) -> str:
        session = SessionReference(self.world.organization_id, session_id)
        return (await self.completion.complete(session)).value

    def start(self, turn_id: Any) -> asyncio.Task[str]:
        return asyncio.create_task(self.execute(turn_id))


@pytest.fixture
def worker_settings(llm: ScriptedLLM) -> Settings:
    """Settings of a worker whose LLM is the scripted one, with pauses too short to notice."""
    return Settings(
        anthropic_api_key=SecretStr("sk-ant-test-0123456789"),
        anthropic_base_url=llm.base_url,
        retry_base_seconds=0.001,
        retry_max_seconds=0.001,
        lease_renewal_seconds=0.05,
    )


@pytest.fixture
def make_worker(
    world: World, database_url: str, redis_url: str, worker_settings: Settings
) -> Callable[..., AbstractAsyncContextManager[Worker]]:
    """Workers, as many as a test needs; each with its own connections. Named settings replace `worker_settings`."""

    @asynccontextmanager
    async def make(*, fault_point: FaultPoint = no_fault, **changes: Any) -> AsyncIterator[Worker]:
        settings = worker_settings.model_copy(update=changes)
        database = Database(database_url, pool_size=4)
        publisher = Publisher(redis_url)
        doorbell = RecordingDoorbell()
        telemetry = Telemetry.start(settings, scraped=False)
        dispatch = Dispatch(database, publisher, doorbell, telemetry)
        clients = ProviderClients()
        web = WebClient()
        leases = LeaseKeeper(
            database_url,
            asyncio.get_running_loop(),
            lease_seconds=settings.lease_seconds,
            renewal_seconds=settings.lease_renewal_seconds,
            look_seconds=settings.cancellation_check_seconds,
            stall_seconds=settings.loop_stall_seconds,
        )
        leases.start()
        executor = TurnExecutor(
            settings=settings,
            database=database,
            dispatch=dispatch,
            leases=leases,
            clients=clients,
            web=web,
            worker_name="test",
            fault_point=fault_point,
            telemetry=telemetry,
        )
        completion = CompletionWorker(
            settings=settings,
            database=database,
            dispatch=dispatch,
            clients=clients,
            web=web,
            worker_name="test",
        )
        try:
            yield Worker(world, executor, completion, dispatch, doorbell)
        finally:
            executor.give_back()
            completion.give_back()
            await asyncio.to_thread(leases.stop)
            await executor.drain()
            await completion.drain()
            await dispatch.drain()
            await clients.close()
            await web.close()
            await publisher.close()
            await database.close()
            await asyncio.to_thread(telemetry.close)

    return make


@pytest.fixture
async def worker(make_worker: Callable[..., AbstractAsyncContextManager[Worker]]) -> AsyncIterator[Worker]:
    async with make_worker() as worker:
        yield worker
