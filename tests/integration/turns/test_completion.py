"""What is done once when a session ends: its last extraction, and the webhooks that are told of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text

from tests.web_server import web_server
from tests.world import definition
from worker.embedded.scripted_llm import Script
from worker.storage import session_views
from worker.storage.completions import SessionReference
from worker.storage.credentials import create_credential
from worker.storage.organizations import change_settings
from worker.storage.secrets import Vault
from worker.storage.workflows import put_definition
from worker.turns.sweeper import Sweeper
from worker.workflow.credential import ApiKeyHeaderCredential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from tests.integration.turns.conftest import Worker
    from tests.web_server import WebServer
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.settings import Settings
    from worker.storage.session_views import SessionView

    MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]

AT_ONCE = {"retry_delay_seconds": 0}
WISH: dict[str, Any] = {
    "extraction_enabled": True,
    "extraction_variables": [{"name": "wish", "type": "string", "prompt": "The wish."}],
}


@pytest.fixture
async def crm(world: World) -> AsyncIterator[WebServer]:
    """A system that the organization may reach, and that wants to know of ended sessions."""
    async with web_server() as server:
        async with world.database.transaction() as connection:
            await change_settings(
                connection, organization_id=world.organization_id, changes={"allowed_hosts": [server.host]}
            )
        server.answer("/ended", {})
        await telling(world, server)
        yield server


async def draw(world: World, *nodes: dict[str, Any], changes: dict[str, Any] | None = None, **start: Any) -> None:
    wanted = {**definition(), **(changes or {})}
    wanted["graph"]["nodes"][0]["data"] |= start
    wanted["graph"]["nodes"] += nodes
    async with world.database.transaction() as connection:
        await put_definition(
            connection, organization_id=world.organization_id, workflow_id=world.workflow_id, definition=wanted
        )


def hook(server: WebServer, node_id: str = "hook", path: str = "/ended", **data: Any) -> dict[str, Any]:
    values = {"name": "CRM", "enabled": True, "http_method": "POST", "endpoint_url": f"{server.url}{path}"}
    return {"id": node_id, "type": "webhook", "position": {"x": 0, "y": 0}, "data": {**values, **data}}


async def telling(world: World, server: WebServer, **data: Any) -> None:
    await draw(world, hook(server, **data))


async def ended(world: World, **values: Any) -> UUID:
    """A session in which something was said, ended from outside."""
    session = await world.session(initial_context={"name": "Ada"}, external_id="call-7", metadata={"desk": 1})
    checkpoint = {
        "version": 1,
        "current_node_id": "start",
        "gathered_context": {"city": "Bonn", "nodes_visited": ["Start"]},
    }
    await world.turn(session.session_id, assistant_text="Good morning.", checkpoint=checkpoint)
    await world.end(session.session_id, **values)
    return session.session_id


async def log_of(world: World, session_id: UUID) -> list[tuple[str, Any]]:
    rows = await world.rows(
        "SELECT type, payload FROM outbox WHERE session_id = :id AND type LIKE 'session.%' ORDER BY sequence",
        id=session_id,
    )
    return [(row.type, row.payload) for row in rows]


async def completion_of(world: World, session_id: UUID) -> Any:
    (row,) = await world.rows("SELECT * FROM session_completions WHERE session_id = :id", id=session_id)
    return row


async def test_a_webhook_is_told_once_everything_there_is_to_tell(world: World, worker: Worker, crm: WebServer) -> None:
    session_id = await ended(world, reason="hung_up")
    assert await worker.complete(session_id) == "completed"
    assert await worker.complete(session_id) == "not claimable"
    (received,) = crm.received
    told = json.loads(received.body)
    assert received.method == "POST"
    assert received.headers["Content-Type"] == "application/json"
    assert (told["event"], told["session_id"], told["external_id"]) == ("session.ended", str(session_id), "call-7")
    assert (told["end_reason"], told["disposition"], told["metadata"]) == ("hung_up", "hung_up", {"desk": 1})
    assert (told["initial_context"]["name"], told["gathered_context"]["city"]) == ("Ada", "Bonn")
    said = [(item["role"], item["text"]) for item in told["transcript"]]
    assert said == [("user", "Hi."), ("assistant", "Good morning.")]
    assert told["usage"]["llm"] == {}
    (completion,) = await world.rows("SELECT id FROM session_completions")
    assert told["completion_id"] == str(completion.id)


async def test_each_delivery_and_the_end_of_the_work_are_in_the_sessions_log(
    world: World, worker: Worker, crm: WebServer
) -> None:
    session_id = await ended(world)
    await worker.complete(session_id)
    types = [kind for kind, _ in await log_of(world, session_id)]
    assert types[-3:] == ["session.ended", "session.webhook_delivered", "session.finalized"]
    delivered, finalized = (payload for _, payload in (await log_of(world, session_id))[-2:])
    assert (delivered["node_id"], delivered["attempts"], delivered["status_code"]) == ("hook", 1, 200)
    assert finalized["webhooks"] == {"delivered": 1, "failed": 0}
    (row,) = await world.rows("SELECT status, attempts, status_code FROM webhook_deliveries")
    assert tuple(row) == ("delivered", 1, 200)


async def test_templates_headers_and_the_credential_of_the_node_are_used(
    world: World, make_worker: MakeWorker, crm: WebServer
) -> None:
    key = SecretStr(Fernet.generate_key().decode())
    async with world.database.transaction() as connection:
        credential = ApiKeyHeaderCredential(kind="api_key_header", header="X-Key", key=SecretStr("k3y"))
        await create_credential(
            connection, Vault(key), organization_id=world.organization_id, name="crm", credential=credential
        )
    crm.answer("/ended/Ada", {})
    await telling(
        world,
        crm,
        path="/ended/{{ name }}",
        http_method="PUT",
        credential_uuid="crm",
        custom_headers=[{"key": "X-City", "value": "{{ gathered_context.city }}"}],
        payload_template={"who": "{{ name }}", "why": "ended: {{ end_reason }}", "said": "{{ transcript }}"},
    )
    session_id = await ended(world, reason="hung_up")
    async with make_worker(secret_key=key) as worker:
        assert await worker.complete(session_id) == "completed"
    (received,) = crm.received
    told = json.loads(received.body)
    assert (received.method, received.path) == ("PUT", "/ended/Ada")
    assert (received.headers["X-City"], received.headers["X-Key"]) == ("Bonn", "k3y")
    assert (told["who"], told["why"], len(told["said"])) == ("Ada", "ended: hung_up", 2)


async def test_a_delivery_that_fails_for_now_is_tried_again_under_the_same_key(
    world: World, worker: Worker, crm: WebServer
) -> None:
    crm.answer("/ended", web.Response(status=503), web.Response(status=500), {"ok": True})
    await telling(world, crm, retry_config=AT_ONCE)
    session_id = await ended(world)
    endings = [await worker.complete(session_id) for _ in range(3)]
    assert endings == ["retrying", "retrying", "completed"]
    assert len({received.headers["Idempotency-Key"] for received in crm.received}) == 1
    assert (await log_of(world, session_id))[-2][1]["attempts"] == 3


async def test_the_pause_between_attempts_grows_and_the_servers_wish_is_heard(
    world: World, worker: Worker, crm: WebServer
) -> None:
    crm.answer("/ended", {}, status=503, headers={"Retry-After": "600"})
    session_id = await ended(world)
    assert await worker.complete(session_id) == "retrying"
    assert await worker.complete(session_id) == "not claimable"
    (row,) = await world.rows("SELECT extract(epoch FROM available_at - now()) AS pause FROM session_completions")
    assert 550 < row.pause <= 600


async def test_a_delivery_that_never_succeeds_is_given_up_and_reported(
    world: World, worker: Worker, crm: WebServer
) -> None:
    crm.answer("/ended", {"why": "busy"}, status=503)
    await telling(world, crm, retry_config={"max_retries": 1, "retry_delay_seconds": 0})
    session_id = await ended(world)
    assert [await worker.complete(session_id) for _ in range(2)] == ["retrying", "completed"]
    (failed_type, failed), (finalized_type, finalized) = (await log_of(world, session_id))[-2:]
    assert (failed_type, finalized_type) == ("session.webhook_failed", "session.finalized")
    assert (failed["attempts"], failed["status_code"]) == (2, 503)
    assert "busy" in failed["error"]
    assert finalized["webhooks"] == {"delivered": 0, "failed": 1}


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_delivery_that_is_refused_for_good_is_not_tried_again(
    world: World, worker: Worker, crm: WebServer, status: int
) -> None:
    crm.answer("/ended", {}, status=status)
    assert await worker.complete(await ended(world)) == "completed"
    assert len(crm.received) == 1


async def test_each_webhook_is_tried_again_at_its_own_pace(world: World, worker: Worker, crm: WebServer) -> None:
    crm.answer("/quick", {}, status=503)
    crm.answer("/slow", {}, status=503)
    patient = {"max_retries": 2, "retry_delay_seconds": 3600}
    await draw(
        world,
        hook(crm, "quick", "/quick", retry_config={"max_retries": 2, "retry_delay_seconds": 0}),
        hook(crm, "slow", "/slow", retry_config=patient),
    )
    session_id = await ended(world)
    assert [await worker.complete(session_id) for _ in range(4)] == [
        "retrying",
        "retrying",
        "retrying",
        "not claimable",
    ]
    assert sorted(received.path for received in crm.received) == ["/quick"] * 3 + ["/slow"]
    (row,) = await world.rows("SELECT extract(epoch FROM available_at - now()) AS pause FROM session_completions")
    assert 3500 < row.pause <= 3600


async def test_each_webhook_is_tried_until_it_is_told_and_those_that_were_told_are_left_alone(
    world: World, worker: Worker, crm: WebServer
) -> None:
    crm.answer("/good", {})
    crm.answer("/bad", web.Response(status=503), {})
    off = hook(crm, "off", "/off", enabled=False)
    await draw(world, hook(crm, "good", "/good"), hook(crm, "bad", "/bad", retry_config=AT_ONCE), off)
    session_id = await ended(world)
    assert [await worker.complete(session_id) for _ in range(2)] == ["retrying", "completed"]
    assert sorted(received.path for received in crm.received) == ["/bad", "/bad", "/good"]
    keys = {received.path: received.headers["Idempotency-Key"] for received in crm.received}
    assert keys["/good"] != keys["/bad"]


async def test_a_private_address_that_is_not_allowed_is_not_told(world: World, worker: Worker, crm: WebServer) -> None:
    async with world.database.transaction() as connection:
        await change_settings(connection, organization_id=world.organization_id, changes={"allowed_hosts": None})
    session_id = await ended(world)
    assert await worker.complete(session_id) == "completed"
    assert crm.received == []
    assert "allowed hosts" in (await log_of(world, session_id))[-2][1]["error"]


async def test_a_node_that_cannot_be_read_fails_alone(world: World, worker: Worker, crm: WebServer) -> None:
    await draw(world, hook(crm), hook(crm, "odd", http_method="SING"))
    session_id = await ended(world)
    assert await worker.complete(session_id) == "completed"
    assert len(crm.received) == 1
    payloads = {payload["node_id"]: payload for kind, payload in await log_of(world, session_id) if "webhook" in kind}
    assert "http_method" in payloads["odd"]["error"]


async def test_a_session_that_ended_itself_is_told_of_too(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    session = await world.session()
    await world.turn(session.session_id, end_reason="user_qualified")
    assert await worker.complete(session.session_id) == "completed"
    assert json.loads(crm.received[0].body)["end_reason"] == "user_qualified"
    assert llm.requests == []


async def shown(world: World, session_id: UUID) -> SessionView:
    async with world.database.statement() as connection:
        session = await session_views.get_session(
            connection, organization_id=world.organization_id, session_id=session_id
        )
    assert session is not None
    return session


async def test_what_the_last_node_wants_to_know_is_extracted_when_a_session_is_ended_from_outside(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    await draw(world, hook(crm), extraction_prompt="What is wanted?", **WISH)
    llm.set_script(Script.model_validate({"rules": [{"reply": '{"wish": "tea"}'}]}))
    session_id = await ended(world)
    assert await worker.complete(session_id) == "completed"
    assert len(llm.requests) == 1
    assert json.loads(crm.received[0].body)["gathered_context"]["wish"] == "tea"
    assert (await completion_of(world, session_id)).gathered_context["wish"] == "tea"
    session = await shown(world, session_id)
    assert (session.gathered_context["wish"], session.gathered_context["city"]) == ("tea", "Bonn")
    assert session.gathered_context["extracted_variables"] == {"wish": "tea"}
    (_, extracted) = next(entry for entry in await log_of(world, session_id) if "extracted" in entry[0])
    assert extracted["variables"] == {"wish": "tea"}
    await worker.completion.drain()
    (used,) = await world.rows("SELECT attempt, completion_tokens FROM usage_entries")
    assert used.attempt == -1
    assert used.completion_tokens > 0


async def test_the_last_extraction_of_a_fork_reads_what_was_said_before_it(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    await draw(world, hook(crm), extraction_prompt="What is wanted?", **WISH)
    llm.set_script(Script.model_validate({"rules": [{"reply": '{"wish": "tea"}'}]}))
    source = (await world.session()).session_id
    await world.turn(source, messages=[{"role": "user", "content": "Tea, as ever."}])
    fork = await world.fork(source)
    await world.turn(fork)
    await world.end(fork)
    assert await worker.complete(fork) == "completed"
    assert "Tea, as ever." in json.dumps(llm.requests[0].body)


async def test_the_last_extraction_asks_the_fallback_where_the_model_fails(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    changes = {"workflow_configurations": {"model_overrides": {"model": "first", "fallback": {"model": "second"}}}}
    await draw(world, changes=changes, **WISH)
    llm.set_script(
        Script.model_validate(
            {
                "rules": [
                    {"when": {"model": "first"}, "error": {"status": 529}},
                    {"when": {"model": "second"}, "reply": '{"wish": "tea"}'},
                ]
            }
        )
    )
    session_id = await ended(world)
    assert await worker.complete(session_id) == "completed"
    assert (await shown(world, session_id)).gathered_context["wish"] == "tea"
    told = dict(await log_of(world, session_id))
    assert (told["session.model_fallback"]["llm_model"], told["session.model_fallback"]["code"]) == (
        "second",
        "llm_overloaded",
    )


async def test_a_last_extraction_that_fails_is_an_event_and_the_session_is_finalized(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    await draw(world, **WISH)
    llm.set_script(Script.model_validate({"rules": [{"error": {"status": 401}}]}))
    session_id = await ended(world)
    assert await worker.complete(session_id) == "completed"
    (kind, failed), (last, _) = (await log_of(world, session_id))[-2:]
    assert (kind, last) == ("session.variable_extraction_failed", "session.finalized")
    assert failed["code"] == "llm_authentication_failed"
    assert (await shown(world, session_id)).gathered_context["city"] == "Bonn"


async def test_an_extraction_that_was_made_is_not_made_again(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    crm.answer("/ended", web.Response(status=503), {})
    await draw(world, hook(crm, retry_config=AT_ONCE), **WISH)
    llm.set_script(Script.model_validate({"rules": [{"reply": '{"wish": "tea"}'}]}))
    session_id = await ended(world)
    assert [await worker.complete(session_id) for _ in range(2)] == ["retrying", "completed"]
    assert len(llm.requests) == 1


async def test_an_extraction_that_had_to_be_made_again_is_in_the_books_twice(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    await draw(world, **WISH)
    llm.set_script(Script.model_validate({"rules": [{"reply": '{"wish": "tea"}'}]}))
    session_id = await ended(world)
    assert await worker.complete(session_id) == "completed"
    # As if its worker had died between the model's answer and writing it down.
    await world.execute(
        "UPDATE session_completions SET status = 'running', ended_at = NULL, gathered_context = NULL,"
        " lease_expires_at = now() - interval '1 second'"
    )
    assert await worker.complete(session_id) == "completed"
    await worker.completion.drain()
    used = await world.rows("SELECT attempt, call FROM usage_entries ORDER BY attempt DESC")
    assert [tuple(entry) for entry in used] == [(-1, 1), (-2, 1)]


async def test_a_worker_that_dies_after_telling_costs_a_repetition_under_the_same_key(
    world: World, make_worker: MakeWorker, crm: WebServer
) -> None:
    """It is as if it died: its answer comes when another has the work."""
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        if len(crm.received) == 1:
            await release.wait()
        return web.json_response({})

    crm.handlers["/ended"] = slow
    session_id = await ended(world)
    async with make_worker() as first, make_worker() as second:
        dying = asyncio.create_task(first.complete(session_id))
        await crm.arrived.wait()
        await world.execute("UPDATE session_completions SET lease_expires_at = now() - interval '1 second'")
        assert await second.complete(session_id) == "completed"
        release.set()
        assert await dying == "lost"
    assert len({received.headers["Idempotency-Key"] for received in crm.received}) == 1
    assert [kind for kind, _ in await log_of(world, session_id)].count("session.finalized") == 1


async def test_a_worker_that_stops_gives_the_work_back_at_once(
    world: World, make_worker: MakeWorker, crm: WebServer
) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    crm.handlers["/ended"] = never
    session_id = await ended(world)
    async with make_worker() as stopping:
        running = asyncio.create_task(stopping.complete(session_id))
        await crm.arrived.wait()
        stopping.completion.give_back()
        assert await running == "retrying"
        assert await stopping.complete(session_id) == "not claimable"
    crm.answer("/ended", {})
    async with make_worker() as other:
        assert await other.complete(session_id) == "completed"


async def test_work_whose_claim_was_under_way_when_the_worker_stopped_is_given_back_too(
    world: World, worker: Worker, crm: WebServer
) -> None:
    session_id = await ended(world)
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with world.database.transaction() as connection:
        await connection.execute(text("LOCK TABLE session_completions IN ACCESS EXCLUSIVE MODE"))
        running = asyncio.create_task(worker.complete(session_id))
        async with asyncio.timeout(10):
            while not await world.rows(waiting):
                pass
        worker.completion.give_back()
    assert await asyncio.wait_for(running, 10) == "retrying"
    assert crm.received == []


async def test_the_commit_that_ends_a_session_rings_for_its_end(world: World, worker: Worker, crm: WebServer) -> None:
    session = await world.session()
    ending = await world.end(session.session_id)
    worker.dispatch.after_commit(ending.events)
    await worker.dispatch.drain()
    assert worker.doorbell.ended == [SessionReference(world.organization_id, session.session_id)]


async def test_a_sweep_rings_for_an_end_that_nobody_took_up(
    world: World, worker: Worker, worker_settings: Settings, crm: WebServer
) -> None:
    session_id = await ended(world)
    settings = worker_settings.model_copy(update={"sweep_after_seconds": 0.001})
    sweeper = Sweeper(settings, world.database, worker.dispatch)
    await sweeper.sweep()
    await sweeper.sweep()
    assert worker.doorbell.ended == [SessionReference(world.organization_id, session_id)]
