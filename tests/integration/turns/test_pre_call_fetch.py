"""What a session fetches before its very first opening."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from tests.web_server import web_server
from tests.world import definition
from worker.embedded.scripted_llm import Script
from worker.storage.credentials import create_credential
from worker.storage.organizations import change_settings
from worker.storage.secrets import Vault
from worker.storage.workflows import put_definition
from worker.workflow.credential import BearerCredential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from aiohttp import web

    from tests.integration.turns.conftest import Worker
    from tests.web_server import WebServer
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM

    MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
async def crm(world: World) -> AsyncIterator[WebServer]:
    """Another system that the organization may reach, and whose customers the workflow greets by name."""
    async with web_server() as server:
        async with world.database.transaction() as connection:
            await change_settings(
                connection, organization_id=world.organization_id, changes={"allowed_hosts": [server.host]}
            )
        server.answer("/customer", {"name": "Ada"})
        await fetching(world, server)
        yield server


async def fetching(world: World, server: WebServer, **changes: Any) -> None:
    wanted = definition()
    wanted["graph"]["nodes"][0]["data"] |= {
        "greeting": "Hello {{ name | stranger }}.",
        "pre_call_fetch_mode": "always",
        "pre_call_fetch_url": f"{server.url}/customer",
        **changes,
    }
    async with world.database.transaction() as connection:
        await put_definition(
            connection, organization_id=world.organization_id, workflow_id=world.workflow_id, definition=wanted
        )


async def opened(world: World, worker: Worker, **session: Any) -> Any:
    created = await world.session(opening=True, **session)
    assert created.opening_turn is not None
    await worker.execute(created.opening_turn.turn_id)
    return await world.row("turns", created.opening_turn.turn_id)


async def context_of(world: World, turn: Any) -> dict[str, Any]:
    context: dict[str, Any] = (await world.row("sessions", turn.session_id)).initial_context
    return context


async def fetch_events(world: World) -> list[dict[str, Any]]:
    rows = await world.rows("SELECT payload FROM outbox WHERE type = 'turn.pre_call_fetch' ORDER BY created_at")
    return [row.payload for row in rows]


async def test_what_is_fetched_is_known_to_the_greeting_and_stays_in_the_initial_context(
    world: World, worker: Worker, crm: WebServer
) -> None:
    turn = await opened(world, worker, initial_context={"caller_number": "+49 1", "city": "Bonn"})
    assert turn.assistant_text == "Hello Ada."
    context = await context_of(world, turn)
    assert (context["name"], context["city"]) == ("Ada", "Bonn")
    (received,) = crm.received
    asked = json.loads(received.body)
    assert received.method == "POST"
    assert asked["session_id"] == str(turn.session_id)
    assert asked["call_inbound"]["from_number"] == "+49 1"
    assert asked["initial_context"]["city"] == "Bonn"
    assert await fetch_events(world) == [{"status": "success", "names": ["name"], "message": None}]


async def test_only_the_very_first_opening_fetches(world: World, worker: Worker, crm: WebServer) -> None:
    turn = await opened(world, worker)
    following = await world.enqueue(turn.session_id, "And now?")
    await worker.execute(following.turn_id)
    assert len(crm.received) == 1


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"dynamic_variables": {"name": "Ada"}, "other": 1}, {"name": "Ada"}),
        ({"call_inbound": {"dynamic_variables": {"name": "Ada"}}}, {"name": "Ada"}),
        ({"name": "Ada", "runtime_configuration": {"llm_model": "x"}, "provider": "y"}, {"name": "Ada"}),
    ],
)
async def test_variables_are_found_where_other_systems_put_them_and_never_replace_what_is_the_engines(
    world: World, worker: Worker, crm: WebServer, answer: Any, found: dict[str, Any]
) -> None:
    crm.answer("/customer", answer)
    context = await context_of(world, await opened(world, worker))
    assert context.pop("runtime_configuration")["llm_provider"] == "anthropic"
    assert context == found


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        ({"error": "down"}, 503, "status 503"),
        (["Ada"], 200, "no JSON object"),
        ("not JSON", 200, "no JSON object"),
    ],
)
async def test_a_fetch_that_fails_is_an_event_and_the_conversation_goes_on(
    world: World, worker: Worker, crm: WebServer, answer: Any, status: int, message: str
) -> None:
    crm.answer("/customer", answer, status=status)
    turn = await opened(world, worker)
    assert (turn.status, turn.assistant_text) == ("completed", "Hello stranger.")
    (event,) = await fetch_events(world)
    assert event["status"] == "error"
    assert message in event["message"]


async def test_a_fetch_from_a_private_address_that_is_not_allowed_is_refused(
    world: World, worker: Worker, crm: WebServer
) -> None:
    async with world.database.transaction() as connection:
        await change_settings(connection, organization_id=world.organization_id, changes={"allowed_hosts": None})
    turn = await opened(world, worker)
    assert turn.assistant_text == "Hello stranger."
    assert "allowed hosts" in (await fetch_events(world))[0]["message"]
    assert crm.received == []


async def test_what_was_fetched_is_kept_although_the_opening_fails_and_is_not_fetched_again(
    world: World, worker: Worker, crm: WebServer, llm: ScriptedLLM
) -> None:
    await fetching(world, crm, greeting="")
    llm.set_script(Script.model_validate({"rules": [{"error": {"status": 401}}]}))
    turn = await opened(world, worker)
    assert turn.status == "failed"
    assert (await context_of(world, turn))["name"] == "Ada"
    llm.set_script(Script.model_validate({"rules": [{"reply": "Good morning."}]}))
    again = await world.enqueue(turn.session_id, "Hello?")
    assert await worker.execute(again.turn_id) == "completed"
    assert len(crm.received) == 1


async def test_a_failed_fetch_is_not_made_again_either(world: World, worker: Worker, crm: WebServer) -> None:
    crm.answer("/customer", {}, status=500)
    turn = await opened(world, worker)
    await world.execute("UPDATE sessions SET head_turn_id = NULL")
    following = await world.enqueue(turn.session_id, "Hello?")
    await worker.execute(following.turn_id)
    assert len(crm.received) == 1


async def test_a_credential_goes_along(world: World, make_worker: MakeWorker, crm: WebServer) -> None:
    key = SecretStr(Fernet.generate_key().decode())
    async with world.database.transaction() as connection:
        await create_credential(
            connection,
            Vault(key),
            organization_id=world.organization_id,
            name="crm",
            credential=BearerCredential(kind="bearer", token=SecretStr("t0ken")),
        )
    await fetching(world, crm, pre_call_fetch_credential_uuid="crm")
    async with make_worker(secret_key=key) as worker:
        await opened(world, worker)
    assert crm.received[0].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("mode", "context", "fetched"),
    [
        ("disabled", {}, 0),
        ("inbound", {}, 1),
        ("inbound", {"direction": "outbound"}, 0),
        ("outbound", {}, 0),
        ("outbound", {"direction": "outbound"}, 1),
        ("", {}, 0),
    ],
)
async def test_the_mode_decides_which_conversations_fetch(
    world: World, worker: Worker, crm: WebServer, mode: str, context: dict[str, Any], fetched: int
) -> None:
    await fetching(world, crm, pre_call_fetch_mode=mode)
    await opened(world, worker, initial_context=context)
    assert len(crm.received) == fetched


async def test_older_exports_say_that_the_fetch_is_enabled(world: World, worker: Worker, crm: WebServer) -> None:
    await fetching(world, crm, pre_call_fetch_mode=None, pre_call_fetch_enabled=True)
    await opened(world, worker)
    assert len(crm.received) == 1


async def test_a_fetch_that_hangs_is_given_up_within_the_turns_time_limit_and_the_opening_follows(
    world: World, make_worker: MakeWorker, crm: WebServer
) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    crm.handlers["/customer"] = never
    async with make_worker(turn_time_limit_seconds=2.0) as worker:
        turn = await opened(world, worker)
    assert turn.assistant_text == "Hello stranger."
    assert "did not answer within 1 seconds" in (await fetch_events(world))[0]["message"]
