"""PostgreSQL is there but slow, or says nothing at all for a while: callers are told, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from tests.proxy import CuttingProxy
from tests.system import System, calling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.system import Caller
    from worker.embedded.postgres import EmbeddedPostgres

SESSIONS = 10


@asynccontextmanager
async def behind(proxy: CuttingProxy, folder: Path, postgres: EmbeddedPostgres) -> AsyncIterator[System]:
    """A system that reaches PostgreSQL through the proxy, which runs on the test's own event loop."""
    system = System(folder, postgres, proxy.url, lease_seconds=3, lease_renewal_seconds=0.5, shutdown_grace_seconds=1)
    await asyncio.to_thread(system.__enter__)
    try:
        yield system
    finally:
        proxy.flowing.set()
        await asyncio.to_thread(system.__exit__)


async def get(caller: Caller, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=caller.system.url, headers=caller.headers, timeout=60) as http:
        return await http.get(path)


async def test_while_postgresql_says_nothing_callers_get_503_and_a_turn_that_ends_meanwhile_is_committed_once(
    tmp_path: Path, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    async with (
        CuttingProxy(database_url) as proxy,
        behind(proxy, tmp_path / "redis", postgres_server) as system,
        calling(system) as caller,
    ):
        system.play({"hold": "answer", "reply": "Said into the silence."})
        session = await caller.session()
        turn = await caller.running(session, "Hello.")
        proxy.flowing.clear()
        system.llm.release("answer")
        refused = await get(caller, f"/v1/turns/{turn.id}")
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await get(caller, "/healthz")).status_code == 200
        proxy.flowing.set()
        answered = await caller.client.wait(turn.id, timeout_seconds=60)
        assert (answered.status, answered.assistant_text) == ("completed", "Said into the silence.")
        await caller.expect_each_completed_once()
        assert (await caller.ask(session, "And now?")).status == "completed"
        assert all(process.is_running for process in system.processes)


async def test_with_a_slow_postgresql_everything_is_slower_and_nothing_else(
    tmp_path: Path, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    async with (
        CuttingProxy(database_url) as proxy,
        behind(proxy, tmp_path / "redis", postgres_server) as system,
        calling(system) as caller,
    ):
        proxy.delay_seconds = 0.05
        sessions = [await caller.session() for _ in range(SESSIONS)]
        turns = await asyncio.gather(*(caller.ask(session, "Slowly.") for session in sessions))
        assert {(turn.status, turn.attempt) for turn in turns} == {("completed", 1)}
        await caller.expect_each_completed_once()
