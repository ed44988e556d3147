"""One run: a system under load and under attack, then left alone, then judged."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import psutil

from tests.chaos.harness import agent
from tests.chaos.harness.adversary import Adversary
from tests.chaos.harness.checker import TERMINAL, read_record, violations
from tests.chaos.harness.effects import Effects
from tests.chaos.harness.history import History, Record
from tests.chaos.harness.load import Callers
from tests.chaos.harness.system import LEASE_SECONDS, running_system
from tests.system import calling
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from tests.chaos.harness.system import ChaosSystem
    from tests.system import Caller

_MEMORY_BYTES: Final = 400 * 2**20
"""What a worker may hold in memory at the end: it begins with some 200 MiB, pipecat and the SDKs among them."""

_CONNECTIONS: Final = 16
"""Connections to PostgreSQL of one process: its pool, the leases', and what a restart leaves to time out."""

_THREADS: Final = 600


_SLOWEST: Final = 3
"""Of how many recoveries a report tells what came in between."""


@dataclass(frozen=True)
class Recovery:
    """A turn that was begun again, or was over, after it had lost its worker.

    Attributes:
        seconds: How long that took.
        faults: What else was done to the system meanwhile: its kind, and how many seconds after the loss.
    """

    seconds: float
    faults: tuple[tuple[float, str], ...]

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} after {seconds:.1f} s" for seconds, kind in self.faults)
        return f"{self.seconds:.1f} s: {faults or 'nothing else'}"


@dataclass
class Report:
    """What came of a run.

    Attributes:
        turns: How many turns were accepted.
        faults: How many faults of each kind there were.
        violations: Every broken promise.
        recoveries: Every turn that a lost worker ran.
        repeated_calls: Calls of the world outside that were made twice and acted once.
    """

    seed: int
    seconds: float
    turns: int
    faults: dict[str, int]
    violations: list[str]
    recoveries: list[Recovery]
    repeated_calls: int

    def __str__(self) -> str:
        lines = [f"{self.turns} turns in {self.seconds:.0f} s, {sum(self.faults.values())} faults:"]
        lines += [f"  {count:5}  {kind}" for kind, count in sorted(self.faults.items())]
        lines += [f"{self.repeated_calls} calls of the world outside came twice and acted once."]
        if len(self.recoveries) > 1:
            cuts = quantiles((recovery.seconds for recovery in self.recoveries), n=100, method="inclusive")
            slowest = sorted(self.recoveries, key=lambda recovery: recovery.seconds, reverse=True)[:_SLOWEST]
            lines += [
                (
                    f"{len(self.recoveries)} turns lost their worker; begun again or over after p50 {cuts[49]:.2f} s, "
                    f"p99 {cuts[98]:.2f} s, max {slowest[0].seconds:.1f} s "
                    f"(lease {LEASE_SECONDS:g} s; without those within a lease of a restart of PostgreSQL)."
                ),
                "The slowest, and what else was done meanwhile:",
                *(f"  {recovery}" for recovery in slowest),
            ]
        lines += [f"{len(self.violations)} violations. Seed {self.seed}."]
        return "\n".join([*lines, *(f"  VIOLATION {violation}" for violation in self.violations[:50])])


@dataclass
class Evidence:
    """What a run is judged by."""

    history: History
    record: Record
    effects: Effects
    seen_by_llm: dict[UUID, list[str]]

    def violations(self) -> list[str]:
        """Judge it."""
        return violations(self.history, self.record, self.effects, self.seen_by_llm)


async def run(
    *,
    seconds: float,
    seed: int,
    sessions: int = 24,
    pause_seconds: float = 1.0,
    afterwards: Callable[[Evidence, Caller], Awaitable[None]] | None = None,
) -> Report:
    """Attack a system for so long, and judge what it made of it.

    Args:
        seconds: How long callers talk and the adversary does harm.
        seed: Chooses faults and what is said.
        sessions: How many conversations go on at once.
        pause_seconds: About how long the adversary rests between two faults of a kind.
        afterwards: Given the evidence while the system still runs; what it does to it does not change the report.
    """
    started = time.monotonic()
    history = History()
    with TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        async with running_system(Path(folder)) as system, Effects() as effects, calling(system) as caller:
            system.play(*agent.RULES)
            workflow_id = await _set_up(caller, effects)
            callers = Callers(caller.client, workflow_id, history, Random(f"{seed} callers"))
            adversary = Adversary(system, caller.world.database, history, seed)
            attacking = asyncio.create_task(adversary.run(seconds, pause_seconds))
            talked = await callers.run(seconds, sessions)
            await attacking
            seen_by_llm = await _say_last(system, callers, talked)
            await callers.stop_following()
            record = await _settled_record(caller)
            evidence = Evidence(history, record, effects, seen_by_llm)
            report = Report(
                seed=seed,
                seconds=time.monotonic() - started,
                turns=len(history.accepted),
                faults=history.counted_faults(),
                violations=[*evidence.violations(), *await _left_behind(system, caller)],
                recoveries=_recoveries(history, record),
                repeated_calls=effects.repeated,
            )
            if afterwards is not None:
                await afterwards(evidence, caller)
    return report


async def _set_up(caller: Caller, effects: Effects) -> UUID:
    async with caller.world.database.transaction() as connection:
        await change_settings(
            connection, organization_id=caller.world.organization_id, changes={"allowed_hosts": [effects.host]}
        )
    tool = await caller.client.create_tool(agent.tool(effects.host))
    return (await caller.client.create_workflow("Desk", agent.definition(str(tool.id)))).id


async def _say_last(system: ChaosSystem, callers: Callers, sessions: list[UUID]) -> dict[UUID, list[str]]:
    """Say one more thing in each session when all is calm, and see what the LLM is told of what went before."""
    system.play(*agent.RULES)
    system.llm.clear()
    said = dict(zip(sessions, await asyncio.gather(*map(callers.say_last, sessions)), strict=True))
    asked = {request.user_text: request for request in system.llm.requests}
    return {session_id: _texts(asked[message].body["messages"]) for session_id, message in said.items()}


def _texts(messages: list[dict[str, object]]) -> list[str]:
    texts: list[str] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [str(block["text"]) for block in content if block.get("type") == "text"]
    return texts


async def _settled_record(caller: Caller) -> Record:
    """Read the record once every turn is over and every event has gone out."""
    async with asyncio.timeout(60):
        while True:
            async with caller.world.database.statement() as connection:
                record = await read_record(connection, caller.world.organization_id)
            open_turns = [turn for turns in record.turns.values() for turn in turns if turn.status not in TERMINAL]
            unpublished = [event for events in record.events.values() for event in events if event.published_at is None]
            if not open_turns and not unpublished:
                return record
            await asyncio.sleep(0.5)


async def _left_behind(system: ChaosSystem, caller: Caller) -> list[str]:
    """Name what processes hold although there is nothing left to do."""
    found = []
    for process in system.processes:
        watched = psutil.Process(process.pid)
        memory, threads = watched.memory_info().rss, watched.num_threads()
        if memory > _MEMORY_BYTES:
            found.append(f"left behind: {process.name} ({process.pid}) holds {memory / 2**20:.0f} MiB")
        if threads > _THREADS:
            found.append(f"left behind: {process.name} ({process.pid}) has {threads} threads")
    connections = await caller.world.rows(
        "SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = 'turn-worker'"
    )
    if connections[0].count > _CONNECTIONS * (len(system.processes) + 1):
        found.append(f"left behind: {connections[0].count} connections to PostgreSQL")
    with closing(system.broker()) as broker:
        waiting = int(broker.llen("turns"))  # type: ignore[arg-type] # redis-py types answers for both its clients
        if waiting:
            found.append(f"left behind: {waiting} messages in Celery's queue")
    return found


def _recoveries(history: History, record: Record) -> list[Recovery]:
    moments: dict[UUID, list[float]] = {}
    for events in record.events.values():
        for event in events:
            if event.type in {"turn.started", "turn.completed", "turn.failed", "turn.cancelled"}:
                moments.setdefault(event.turn_id, []).append(event.created_at.timestamp())
    recoveries = []
    for loss in history.losses:
        for turn_id in loss.turn_ids:
            later = [moment for moment in moments.get(turn_id, []) if moment > loss.at]
            if later and not _overlaps_restart(history, loss.at, min(later)):
                recoveries.append(_recovery(history, loss.at, min(later)))
    return recoveries


def _recovery(history: History, begin: float, end: float) -> Recovery:
    meanwhile = tuple((fault.at - begin, fault.kind) for fault in history.faults if begin < fault.at < end)
    return Recovery(end - begin, meanwhile)


def _overlaps_restart(history: History, begin: float, end: float) -> bool:
    return any(begin - LEASE_SECONDS < restart < end for restart in history.postgres_restarts)


def raise_file_limit() -> None:
    """Let the proxies hold as many sockets as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
