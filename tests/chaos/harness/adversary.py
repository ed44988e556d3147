"""Breaks things, one after another, by a seed: the same seed chooses the same faults in the same order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import text

from tests.chaos.harness import agent
from tests.chaos.harness.history import Loss
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from tests.chaos.harness.history import History
    from tests.chaos.harness.system import ChaosSystem
    from tests.processes import Process
    from worker.storage.database import Database

PAUSE_SECONDS: Final = (2.0, 14.0)
"""How long a worker stands still: sometimes past its lease of 10 s."""

_Faults: TypeAlias = "dict[str, tuple[int, Callable[[], Awaitable[None]]]]"
"""What can be done, by its name: how often among the others, and how."""

_STARTS: Final = 10
"""How often a process is started before it is taken to be broken."""

LLM_TROUBLE: Final[tuple[dict[str, Any], ...]] = (
    {"times": 4, "reset": True},
    {"times": 4, "reply": "This breaks off in the middle of", "break_after": 1, "chunk_characters": 5},
    {"times": 4, "error": {"status": 529}},
    {"times": 4, "error": {"status": 500}},
    {"times": 4, "error": {"status": 429, "retry_after": 0.2}},
    {"times": 4, "reply": []},
)


class Adversary:
    """Chooses a fault, does it, sees to it that what it broke works again, and goes on to the next."""

    def __init__(self, system: ChaosSystem, database: Database, history: History, seed: int) -> None:
        self._system = system
        self._database = database
        self._history = history
        self._seed = seed
        self._random = Random(seed)
        self._on_processes: _Faults = {
            "worker killed": (4, self._kill_worker),
            "worker paused": (2, self._pause_worker),
            "worker told to stop": (2, self._terminate_worker),
            "API killed": (1, self._kill_api),
        }
        self._on_servers: _Faults = {
            "Redis restarted": (2, self._restart_redis),
            "Redis flushed": (2, self._flush_redis),
            "PostgreSQL restarted": (1, self._restart_postgres),
            "PostgreSQL killed": (1, self._kill_postgres),
            "connections to PostgreSQL cut": (6, self._cut_postgres),
            "connections to Redis cut": (6, self._cut_redis),
            "PostgreSQL slow": (2, self._slow_postgres),
            "Redis slow": (2, self._slow_redis),
            "LLM in trouble": (8, self._trouble_llm),
        }

    async def run(self, seconds: float, pause_seconds: float) -> None:
        """Do harm for so long: to processes, and at the same time to servers and what leads to them.

        Args:
            seconds: For how long.
            pause_seconds: About how long after a fault the next one of its kind comes.
        """
        deadline = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for faults in (self._on_processes, self._on_servers):
                group.create_task(self._harm(faults, Random(f"{self._seed} {len(faults)}"), deadline, pause_seconds))

    async def _harm(self, faults: _Faults, random: Random, deadline: float, pause_seconds: float) -> None:
        weights = [weight for weight, _ in faults.values()]
        while time.monotonic() < deadline:
            (kind,) = random.choices(list(faults), weights)
            self._history.note_fault(kind)
            await faults[kind][1]()
            await asyncio.sleep(random.uniform(0, 2 * pause_seconds))

    async def _kill_worker(self) -> None:
        worker = self._random.choice(self._system.workers)
        await self._note_loss(worker)
        worker.kill()
        await self._replace(worker)

    async def _pause_worker(self) -> None:
        worker = self._random.choice(self._system.workers)
        seconds = self._random.uniform(*PAUSE_SECONDS)
        if seconds > self._system.lease_seconds:
            await self._note_loss(worker)
        worker.pause()
        await asyncio.sleep(seconds)
        worker.resume()

    async def _terminate_worker(self) -> None:
        worker = self._random.choice(self._system.workers)
        worker.terminate()
        await worker.exit_status(timeout_seconds=60)
        await self._replace(worker)

    async def _kill_api(self) -> None:
        self._system.api.kill()
        await asyncio.to_thread(supervised, self._system.start_api)

    async def _restart_redis(self) -> None:
        await asyncio.to_thread(self._system.redis.restart)

    async def _flush_redis(self) -> None:
        with self._system.broker() as broker:
            await asyncio.to_thread(broker.flushall)

    async def _restart_postgres(self) -> None:
        await asyncio.to_thread(self._system.postgres.restart)
        self._history.postgres_restarts.append(time.time())

    async def _kill_postgres(self) -> None:
        os.kill(self._system.postgres.pid, signal.SIGKILL)
        await self._restart_postgres()

    async def _cut_postgres(self) -> None:
        self._system.postgres_proxy.cut()

    async def _cut_redis(self) -> None:
        self._system.redis_proxy.cut()

    async def _slow_postgres(self) -> None:
        await self._slow(self._system.postgres_proxy)

    async def _slow_redis(self) -> None:
        await self._slow(self._system.redis_proxy)

    async def _slow(self, proxy: Any) -> None:
        proxy.delay_seconds = self._random.uniform(0.05, 0.5)
        await asyncio.sleep(self._random.uniform(1, 4))
        proxy.delay_seconds = 0.0

    async def _trouble_llm(self) -> None:
        self._system.play(self._random.choice(LLM_TROUBLE), *agent.RULES)

    async def _replace(self, worker: Process) -> None:
        self._system.workers.remove(worker)
        await asyncio.to_thread(worker.dispose)
        await asyncio.to_thread(supervised, self._system.start_worker, self._system.workers)

    async def _note_loss(self, worker: Process) -> None:
        """Remember what the worker runs, as far as the database can be asked just now."""
        try:
            async with self._database.statement() as connection:
                rows = await connection.execute(
                    text("SELECT id FROM turns WHERE status = 'running' AND claimed_by LIKE :worker"),
                    {"worker": f"%/{worker.pid}"},
                )
                running = {row.id for row in rows}
        except TurnWorkerError:
            return
        self._history.losses.append(Loss(time.time(), running))


def supervised(start: Callable[[], Process], processes: list[Process] | None = None) -> None:
    """Start a process as its supervisor would: again, when it ended because a server was just away.

    Args:
        start: Starts it.
        processes: Where it is kept and has to be taken out if it ended; None where the next one takes its place.
    """
    for _ in range(_STARTS):
        process = start()
        if process.came_up():
            return
        if processes is not None:
            processes.remove(process)
            process.dispose()
    raise AssertionError(f"A process did not come up, {_STARTS} times.")
