"""What the API says of itself, and how it bears the loss of a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest
from pydantic import SecretStr

from api_stub.app import create_app
from tests.api import Bell, out_of_order, serving, tenant
from tests.proxy import CuttingProxy
from worker.embedded.redis import EmbeddedRedis
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api import Tenant
    from worker.embedded.postgres import EmbeddedPostgres
    from worker.storage.database import Database


async def test_a_process_whose_servers_are_up_is_alive_and_ready(api: Tenant) -> None:
    await a_worker_lives(api)
    del api.http.headers["Authorization"]
    assert await api.get("/healthz") == {"status": "alive"}
    assert await api.get("/readyz") == {
        "status": "ready",
        "dependencies": {
            "postgresql": {"state": "up", "needed": True, "detail": None},
            "redis": {"state": "up", "needed": False, "detail": None},
            "workers": {"state": "up", "needed": False, "detail": None},
        },
    }


async def test_without_a_worker_requests_are_answered_and_it_is_said_that_turns_wait(api: Tenant) -> None:
    readiness = await api.get("/readyz")
    assert readiness["status"] == "degraded"
    assert readiness["dependencies"]["workers"]["state"] == "down"
    assert "Turns wait." in readiness["dependencies"]["workers"]["detail"]


async def test_a_database_that_keeps_the_connection_and_says_nothing_is_told_apart_from_one_that_is_away(
    settings: Settings, database: Database, database_url: str
) -> None:
    async with CuttingProxy(database_url) as proxy:
        local = settings.model_copy(update={"database_url": SecretStr(proxy.url)})
        async with serving(local) as server:
            api = await tenant(database, server.app, None, server.url)
            async with api.http:
                await api.get("/readyz")
                proxy.flowing.clear()
                readiness = await api.http.get("/readyz")
                assert readiness.status_code == 503
                assert int(readiness.headers["Retry-After"]) >= 1
                assert "gave no answer within 2 s" in readiness.json()["dependencies"]["postgresql"]["detail"]
                proxy.flowing.set()
                assert (await api.http.get("/readyz")).status_code == 200


async def test_without_postgresql_requests_are_503_with_a_time_to_come_back_and_all_is_well_once_it_is_there_again(
    api: Tenant, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    session = await api.session()
    with out_of_order(postgres_server, database_url):
        for _ in range(2):
            refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "Hi."})
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
            assert "127.0.0.1" not in refused.text
        readiness = await api.http.get("/readyz")
        assert (readiness.status_code, readiness.json()["status"]) == (503, "unavailable")
        assert readiness.json()["dependencies"]["postgresql"]["state"] == "down"
        assert (await api.http.get("/healthz")).status_code == 200
    await api.turn(session["id"])
    assert (await api.http.get("/readyz")).status_code == 200


async def test_a_database_without_its_schema_is_not_ready_and_says_what_to_do(api: Tenant) -> None:
    await api.world.execute("DROP TABLE alembic_version")
    readiness = await api.http.get("/readyz")
    assert readiness.status_code == 503
    detail = readiness.json()["dependencies"]["postgresql"]["detail"]
    assert "revision none" in detail
    assert "turn-worker migrate" in detail


async def test_the_api_stays_ready_when_a_later_release_has_migrated(api: Tenant) -> None:
    await api.world.execute("UPDATE alembic_version SET version_num = 'later'")
    readiness = await api.http.get("/readyz")
    assert readiness.status_code == 200
    assert readiness.json()["dependencies"]["postgresql"]["state"] == "up"


async def test_the_api_starts_while_everything_is_away_and_says_so(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    settings = Settings(
        database_url=SecretStr(f"postgresql://user@/none?host={nowhere}"), redis_url=SecretStr(f"unix://{nowhere}")
    )
    app = create_app(settings, Bell())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http,
    ):
        assert (await http.get("/healthz")).status_code == 200
        readiness = (await http.get("/readyz")).json()
        assert {name: dependency["state"] for name, dependency in readiness["dependencies"].items()} == {
            "postgresql": "down",
            "redis": "down",
            "workers": "down",
        }
        assert (await http.get("/v1/sessions", headers={"Authorization": "Bearer twk_x"})).status_code == 503


async def test_without_redis_turns_are_accepted_and_waits_still_end_and_news_flows_again_once_it_is_back(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path / "redis") as redis:
        local = settings.model_copy(update={"redis_url": SecretStr(redis.url)})
        async with serving(local) as server:
            api = await tenant(database, server.app, None, server.url)
            async with api.http:
                await a_worker_lives(api)
                session = await api.session()
                redis.stop()
                await becomes(api, "degraded")
                turn = await api.turn(session["id"])
                waiting = asyncio.create_task(api.get(f"/v1/turns/{turn['id']}", wait=20))
                await api.answer(turn)
                assert (await waiting)["status"] == "completed"
                redis.start()
                await becomes(api, "ready")


async def a_worker_lives(api: Tenant) -> None:
    """For as long as a test may take."""
    await api.world.execute(
        "INSERT INTO worker_processes (name, concurrency, seen_at) VALUES ('w', 10, now() + interval '1 hour')"
    )


async def becomes(api: Tenant, status: str) -> None:
    """Until the API says that of itself."""
    while (await api.http.get("/readyz")).json()["status"] != status:
        pass


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_the_documentation_needs_no_key(api: Tenant, path: str) -> None:
    del api.http.headers["Authorization"]
    api.http.event_hooks = {}
    assert (await api.http.get(path)).status_code == 200
