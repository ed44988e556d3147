"""The whole system as real processes on real servers, and a caller of it. Only the LLM says what a script tells it to."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import redis

from api_stub.client import AsyncTurnWorkerClient
from tests.processes import Process
from tests.world import World
from worker.embedded.redis import EmbeddedRedis
from worker.embedded.scripted_llm import Script, ScriptedLLM
from worker.storage.database import Database
from worker.storage.organizations import create_api_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from uuid import UUID

    from api_stub.schemas import Event, Turn
    from worker.embedded.postgres import EmbeddedPostgres

WORKERS = 2


class System:
    """One API and two workers, with the Redis and the LLM of their own. What a test breaks, `heal` makes whole again."""

    def __init__(
        self, folder: Path, postgres: EmbeddedPostgres, database_url: str, *, llm_url: str = "", **settings: object
    ) -> None:
        """Describe it; nothing is started yet.

        Args:
            folder: where Redis keeps its data.
            postgres: the running server that `database_url` leads to.
            database_url: a migrated database.
            llm_url: another LLM than the scripted one.
            settings: by the names of `worker.settings.Settings`; all others have their defaults.
        """
        self.postgres = postgres
        self.database_url = database_url
        self.redis = EmbeddedRedis(folder)
        self.llm = ScriptedLLM()
        self.workers: list[Process] = []
        self._api: Process | None = None
        self._port = 0
        self._llm_url = llm_url
        self._settings = settings
        self._resources = ExitStack()

    @property
    def api(self) -> Process:
        assert self._api is not None
        return self._api

    @property
    def processes(self) -> list[Process]:
        """The API and the workers, those that have ended included."""
        return [*self.workers, *([self._api] if self._api else [])]

    @property
    def url(self) -> str:
        """Where the API answers; the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            if not self.redis.is_running:
                resources.enter_context(self.redis)
            resources.enter_context(self.llm)
            resources.callback(self._dispose)
            self.heal()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def heal(self) -> None:
        """Start again what does not run, let go on what stands still, and let the LLM repeat what it hears."""
        for server in (self.postgres, self.redis):
            if server.is_running:
                os.kill(server.pid, signal.SIGCONT)
            else:
                server.start()
        self.llm.set_script(Script())
        self.llm.clear()
        for process in self.processes:
            if process.is_running:
                process.resume()
            else:
                self._forget(process)
        started = [] if self._api else [self.start_api()]
        started += [self.start_worker() for _ in range(WORKERS - len(self.workers))]
        for process in started:
            process.wait_until_ready()
        if self._port == 0:
            self._port = int(self.api.log.wait("The API listens on", {}, 1, 10.0)["event"].rpartition(":")[2])

    def start_api(self) -> Process:
        """Start the API (again); the caller waits until it is ready."""
        if self._api is not None:
            self._forget(self._api)
        self._api = Process("api", "--port", str(self._port), environment=self.environment())
        return self._api

    def start_worker(self, **settings: object) -> Process:
        """Start one more worker, with settings of its own; the caller waits until it is ready."""
        worker = Process("worker", environment=self.environment(**settings))
        self.workers.append(worker)
        return worker

    def worker_of(self, turn: Any) -> Process:
        """The worker that last claimed the turn, given its row."""
        return next(worker for worker in self.workers if turn.claimed_by.endswith(f"/{worker.pid}"))

    def others(self, worker: Process) -> list[Process]:
        """The workers but this one."""
        return [other for other in self.workers if other is not worker]

    def play(self, *rules: Mapping[str, Any]) -> None:
        """Let the LLM follow these rules from now on."""
        self.llm.set_script(Script.model_validate({"rules": list(rules)}))

    def last_conversation(self) -> list[str]:
        """What had been said, oldest first, when the LLM was asked last."""
        return [_text(message["content"]) for message in self.llm.requests[-1].body["messages"]]

    def broker(self) -> redis.Redis:
        """A connection to Redis."""
        return redis.Redis.from_url(self.redis.url)

    def environment(self, **settings: object) -> dict[str, str]:
        """The environment of a process of this system."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TURN_WORKER_")}
        given = {f"TURN_WORKER_{name.upper()}": str(value) for name, value in {**self._settings, **settings}.items()}
        return {
            **inherited,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis.url,
            "ANTHROPIC_API_KEY": "sk-ant-test-0123456789",
            "ANTHROPIC_BASE_URL": self._llm_url or self.llm.base_url,
            "TURN_WORKER_LOG_FORMAT": "json",
            **given,
        }

    def _forget(self, process: Process) -> None:
        process.dispose()
        if process is self._api:
            self._api = None
        else:
            self.workers.remove(process)

    def _dispose(self) -> None:
        for process in self.processes:
            self._forget(process)


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


@dataclass
class Caller:
    """An organization with a key, its client, and a look behind the API into the database."""

    system: System
    world: World
    key: str
    client: AsyncTurnWorkerClient

    @property
    def headers(self) -> dict[str, str]:
        """What a request without the client has to carry."""
        return {"Authorization": f"Bearer {self.key}"}

    async def session(self) -> UUID:
        """A session that begins with the user."""
        return (await self.client.create_session(self.world.workflow_id, begins_with="user")).id

    async def ask(self, session_id: UUID, text: str) -> Turn:
        """The turn that this message became, once it is over."""
        turn = await self.client.enqueue(session_id, text)
        return await self.client.wait(turn.id, timeout_seconds=60)

    async def running(self, session_id: UUID, text: str) -> Turn:
        """The turn that this message became, once its worker waits for the LLM's answer."""
        turn = await self.client.enqueue(session_id, text)
        await self.system.llm.wait_for_request(lambda request: request.user_text == text)
        return turn

    async def holder(self, turn_id: UUID) -> Process:
        """The worker that runs, or last ran, the turn."""
        return self.system.worker_of(await self.world.row("turns", turn_id))

    async def turns(self) -> list[Any]:
        """Every turn of this organization as it stands in the database, with the number of `completions` in the log."""
        return await self.world.rows(
            """
            SELECT turns.*, (
                SELECT count(*) FROM outbox WHERE outbox.turn_id = turns.id AND outbox.type = 'turn.completed'
            ) AS completions
            FROM turns WHERE organization_id = :organization_id
            """,
            organization_id=self.world.organization_id,
        )

    async def expect_each_completed_once(self) -> None:
        """Every turn of this organization is completed, and one event says so for each."""
        assert {(turn.status, turn.completions) for turn in await self.turns()} == {("completed", 1)}

    async def log_of(self, session_id: UUID) -> list[Event]:
        """The session's whole log."""
        events: list[Event] = []
        while True:
            page = await self.client.list_events(session_id=session_id, after=len(events))
            events += page.data
            if not page.data:
                assert [event.sequence for event in events] == list(range(1, len(events) + 1))
                return events


@asynccontextmanager
async def calling(system: System) -> AsyncIterator[Caller]:
    """A new organization that calls the system, patient enough for a restart of the API."""
    database = Database(system.database_url, pool_size=4)
    try:
        world = await World.make(database, f"Acme {uuid4()}")
        async with database.transaction() as connection:
            key = await create_api_key(connection, organization_id=world.organization_id, name="test")
        async with AsyncTurnWorkerClient(system.url, key.key, retries=12) as client:
            yield Caller(system, world, key.key, client)
    finally:
        await database.close()
