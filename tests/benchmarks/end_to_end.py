"""Turns through the whole system, from a client's request to the completion it hears of over Redis."""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil
import redis.asyncio

from tests.world import World
from worker.embedded.stack import Stack
from worker.settings import Settings
from worker.storage.database import Database
from worker.storage.organizations import create_api_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MESSAGE: Final = ("I would like to see a doctor about my knee, please. " * 8)[:400]
SESSIONS: Final = 32
IN_FLIGHT: Final = (100, 250, 500, 750)
PACE_LOST: Final = 1.5
SCRIPT: Final = {
    "rules": [
        *(
            {"when": {"user_contains": f"Wait with {count}."}, "hold": str(count), "reply": "Done."}
            for count in IN_FLIGHT
        ),
        {"reply": "We have time on Tuesday at half past ten. Would that suit you?"},
    ]
}


@dataclass
class Caller:
    """A client that enqueues over HTTP and listens to Redis."""

    http: httpx.AsyncClient
    world: World
    over: dict[str, asyncio.Future[bool]] = field(default_factory=dict)

    async def session(self) -> str:
        answer = await self.http.post(f"/v1/workflows/{self.world.workflow_id}/sessions", json={"begins_with": "user"})
        session_id: str = answer.raise_for_status().json()["id"]
        return session_id

    async def turn(self, session_id: str, text: str = MESSAGE) -> tuple[float, float]:
        """Seconds until the 202 and until the completion was heard of."""
        began = time.perf_counter()
        answer = await self.http.post(f"/v1/sessions/{session_id}/turns", json={"text": text})
        enqueued = time.perf_counter()
        turn_id = answer.raise_for_status().json()["id"]
        if not await asyncio.wait_for(self._end_of(turn_id), 120):
            raise RuntimeError(f"turn {turn_id} failed")
        return enqueued - began, time.perf_counter() - began

    async def listen(self, messages: Any) -> None:
        async for message in messages.listen():
            if message["type"] == "pmessage":
                event = json.loads(message["data"])
                if event["type"] in {"turn.completed", "turn.failed"}:
                    self._end_of(event["subject"]).set_result(event["type"] == "turn.completed")

    def _end_of(self, turn_id: str) -> asyncio.Future[bool]:
        return self.over.setdefault(turn_id, asyncio.get_running_loop().create_future())


@contextmanager
def running_stack(*, workers: int, concurrency: int = 500) -> Iterator[Stack]:
    """The stack as `turn-worker up` runs it, with the settings of production, logging to files."""
    os.environ["TURN_WORKER_CONCURRENCY"] = str(concurrency)
    with TemporaryDirectory(prefix="turn-worker-bench-") as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps(SCRIPT))
        settings = Settings(port=0, worker_processes=workers)
        data, logs = Path(folder) / "data", Path(folder) / "logs"
        with Stack(settings, data_dir=data, llm="scripted", script=script, log_dir=logs) as stack:
            yield stack


def llm_url(stack: Stack) -> str:
    """Where the stack's scripted LLM can be steered."""
    found = re.search(r"ANTHROPIC_BASE_URL=\'?([^\'\n]+)", stack.environment_file.read_text())
    if found is None:
        raise RuntimeError("the stack has no scripted LLM")
    return found[1]


@asynccontextmanager
async def calling(stack: Stack) -> AsyncIterator[Caller]:
    """A new organization's client."""
    database = Database(stack.database_url, pool_size=2)
    world = await World.make(database)
    async with database.transaction() as connection:
        key = await create_api_key(connection, organization_id=world.organization_id, name="benchmark")
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    headers = {"Authorization": f"Bearer {key.key}"}
    broker = redis.asyncio.Redis.from_url(stack.redis_url)
    async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=60, limits=limits) as http, broker:
        caller = Caller(http, world)
        messages = broker.pubsub()
        await messages.psubscribe(f"turns.{world.organization_id}.*")
        listening = asyncio.create_task(caller.listen(messages))
        try:
            yield caller
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await messages.aclose()
            await database.close()


async def measure_latency(caller: Caller, turns: int) -> dict[str, float]:
    """One turn at a time."""
    sessions = [await caller.session() for _ in range(SESSIONS)]
    for session in sessions:
        await caller.turn(session)
    measured = [await caller.turn(sessions[n % SESSIONS]) for n in range(turns)]
    whole = sorted(seconds * 1000 for _, seconds in measured)
    return {
        "e2e_turn_ms_p50": statistics.median(whole),
        "e2e_turn_ms_p95": whole[int(len(whole) * 0.95)],
        "enqueue_ms_p50": statistics.median(seconds * 1000 for seconds, _ in measured),
    }


async def measure_throughput(caller: Caller, seconds: float) -> dict[str, float]:
    """Every session enqueues its next turn as soon as it hears of the end of the one before."""
    sessions = [await caller.session() for _ in range(SESSIONS)]
    await asyncio.gather(*(caller.turn(session) for session in sessions))
    cpu = cpu_seconds()
    began = time.perf_counter()
    done = 0

    async def loop(session: str) -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            await caller.turn(session)
            done += 1

    await asyncio.gather(*map(loop, sessions))
    spent = time.perf_counter() - began
    used = {f"cpu_ms_per_turn_{name}": (after - cpu[name]) * 1000 / done for name, after in cpu_seconds().items()}
    return {"throughput_turns_per_s": done / spent, **used}


async def measure_in_flight(caller: Caller, llm_url: str) -> dict[str, float]:
    """How many LLM calls one process holds for two seconds and longer while its other turns keep their pace."""
    held = 0
    async with httpx.AsyncClient(base_url=llm_url, timeout=120) as llm:
        for count in IN_FLIGHT:
            await llm.delete("/scripted/requests")
            sessions = [await caller.session() for _ in range(count)]
            at_rest = await _pace(caller)  # just before, since a machine's own pace changes too
            waiting = [asyncio.create_task(caller.turn(session, f"Wait with {count}.")) for session in sessions]
            arrived = await llm.get("/scripted/requests", params={"count": count, "timeout_seconds": 60})
            pace = await _pace(caller)
            await llm.post(f"/scripted/release/{count}")
            await asyncio.gather(*waiting)
            attempts = await caller.world.rows("SELECT max(attempt) AS most FROM turns")
            if not arrived.is_success or pace > at_rest * PACE_LOST or attempts[0].most > 1:
                break
            held = count
    return {"inflight_2s_turns_per_process": held}


async def _pace(caller: Caller) -> float:
    """The median of plain turns, one at a time, for at least two seconds."""
    session = await caller.session()
    began = time.perf_counter()
    measured = []
    while time.perf_counter() < began + 2:
        measured.append((await caller.turn(session))[1])
    return statistics.median(measured)


async def measure_storage(caller: Caller) -> dict[str, float]:
    """What single turns of one long conversation stored."""
    session = await caller.session()
    for _ in range(200):
        await caller.turn(session)
    rows = await caller.world.rows(
        """
        SELECT turns.position, pg_column_size(turns.*)
            + (SELECT sum(pg_column_size(messages.*)) FROM messages WHERE turn_id = turns.id)
            + (SELECT sum(pg_column_size(outbox.*)) FROM outbox WHERE turn_id = turns.id)
            + (SELECT sum(pg_column_size(usage_entries.*)) FROM usage_entries WHERE turn_id = turns.id) AS size
        FROM turns WHERE session_id = CAST(:session AS uuid) AND position IN (2, 200) ORDER BY position
        """,
        session=session,
    )
    second, last = (float(row.size) for row in rows)
    return {"stored_bytes_turn_2": second, "stored_bytes_turn_200": last, "stored_bytes_ratio": last / second}


_PARTS: Final = {
    r"worker api$": "api",
    r"worker worker$": "workers",
    r"scripted_llm": "llm",
    r"valkey-server|redis-server": "redis",
    r"postgres": "postgresql",
}


def cpu_seconds() -> dict[str, float]:
    """CPU time so far of each part of the system, told apart by what its processes were started as."""
    used = {"client": sum(psutil.Process().cpu_times()[:2]), **dict.fromkeys(_PARTS.values(), 0.0)}
    for process in psutil.Process().children(recursive=True):
        command = " ".join(process.cmdline())
        part = next((name for pattern, name in _PARTS.items() if re.search(pattern, command)), None)
        if part is not None:
            used[part] += sum(process.cpu_times()[:2])
    return used
