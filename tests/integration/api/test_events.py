"""The event log over HTTP: page by page, and as a stream."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from api_stub import following
from tests.api import out_of_order, serving, tenant
from worker.storage.outbox import NewEvent, RecordedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import httpx
    import pytest
    from pydantic import JsonValue

    from tests.api import Tenant
    from worker.embedded.postgres import EmbeddedPostgres
    from worker.settings import Settings
    from worker.storage.database import Database

STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def stream(api: Tenant, path: str, **headers: str) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
    """Follow a stream; each event with its `id` and `event` as they stood on the wire."""
    async with api.http.stream("GET", path, headers=STREAM | headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            event = json.loads(fields["data"])
            assert (int(fields["id"]), fields["event"]) == (event["sequence"], event["type"])
            yield event
            fields = {}


async def types(events: AsyncIterator[dict[str, Any]]) -> list[str]:
    return [event["type"] async for event in events]


async def test_the_log_of_a_session_is_read_page_by_page_in_the_order_of_its_numbers(api: Tenant) -> None:
    session = await api.session()
    for _ in range(3):
        await api.answer(await api.turn(session["id"]))
    path = f"/v1/sessions/{session['id']}/events"
    whole = await api.get(path)
    assert [event["sequence"] for event in whole["data"]] == list(range(1, 10))
    assert [event["type"] for event in whole["data"][:3]] == ["turn.enqueued", "turn.started", "turn.completed"]
    assert [event["status"] for event in whole["data"][:3]] == ["pending", "running", "completed"]
    assert whole["finished"] is False
    assert (await api.get(path, after=7))["data"] == whole["data"][7:]
    assert (await api.get(path, after=4, limit=2))["data"] == whole["data"][4:6]


async def test_a_log_is_finished_only_on_its_last_page(api: Tenant) -> None:
    session = await api.session()
    await api.turn(session["id"])
    await api.made(api.http.post(f"/v1/sessions/{session['id']}/end"))
    path = f"/v1/sessions/{session['id']}/events"
    assert (await api.get(path, limit=2))["finished"] is False
    last = await api.get(path, after=2)
    assert ([event["type"] for event in last["data"]], last["finished"]) == (["session.ended"], True)


async def test_the_log_of_a_turn_holds_only_what_is_about_it(api: Tenant) -> None:
    session = await api.session()
    await api.answer(await api.turn(session["id"]))
    turn = await api.turn(session["id"])
    await api.turn(session["id"])
    await api.answer(turn, end_reason="done")
    log = await api.get(f"/v1/turns/{turn['id']}/events")
    assert {event["turn_id"] for event in log["data"]} == {turn["id"]}
    assert [event["type"] for event in log["data"]] == [
        "turn.enqueued",
        "turn.started",
        "turn.completed",
        "session.ended",
    ]
    assert log["finished"] is True


async def test_a_stream_tells_what_was_and_then_what_happens_and_ends_with_the_turn(served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    async with stream(served, f"/v1/turns/{turn['id']}/events") as events:
        assert (await anext(events))["type"] == "turn.enqueued"
        await served.answer(turn)
        assert await types(events) == ["turn.started", "turn.completed"]


async def test_a_stream_of_a_session_ends_with_it(served: Tenant) -> None:
    session = await served.session()
    async with stream(served, f"/v1/sessions/{session['id']}/events") as events:
        turn = await served.turn(session["id"])
        assert (await anext(events))["turn_id"] == turn["id"]
        await served.answer(turn, end_reason="done")
        assert await types(events) == ["turn.started", "turn.completed", "session.ended"]


async def test_a_stream_goes_on_behind_the_last_event_its_listener_has(served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    await served.answer(turn)
    path = f"/v1/turns/{turn['id']}/events"
    async with stream(served, path, **{"Last-Event-ID": "1"}) as events:
        assert await types(events) == ["turn.started", "turn.completed"]
    async with stream(served, f"{path}?after=2") as events:
        assert await types(events) == ["turn.completed"]


async def test_a_listener_that_has_everything_is_told_not_to_come_back(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.answer(turn)
    over = await api.http.get(f"/v1/turns/{turn['id']}/events", headers=STREAM | {"Last-Event-ID": "3"})
    assert over.status_code == 204


async def test_a_stream_longer_than_a_page_comes_whole(served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    many = [NewEvent("turn.node_transition", None, {"number": number}) for number in range(250)]
    await served.answer(turn, events=many, end_reason="done")
    async with stream(served, f"/v1/sessions/{session['id']}/events") as events:
        assert [event["sequence"] async for event in events] == list(range(1, 255))


async def test_what_no_character_set_can_express_comes_through_a_stream(served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    payload: dict[str, JsonValue] = {"half": "\ud83d", "lines": "a\r\nb\u2028c\n\n", "nul": "\x00"}
    await served.answer(turn, events=[NewEvent("turn.tool_call_result", None, payload)], end_reason="done")
    async with stream(served, f"/v1/sessions/{session['id']}/events?after=2") as events:
        assert (await anext(events))["payload"] == payload


async def test_a_listener_that_goes_away_is_forgotten(served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    async with stream(served, f"/v1/turns/{turn['id']}/events") as events:
        await anext(events)
        await served.ears.listening(turn["id"])
    await served.ears.ceased(turn["id"])


async def test_a_stream_tells_of_an_event_of_which_the_message_was_lost(
    served: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_REREAD_SECONDS", 0.1)
    session = await served.session()
    turn = await served.turn(session["id"])
    async with stream(served, f"/v1/turns/{turn['id']}/events") as events:
        await anext(events)
        await served.ears.listening(turn["id"])
        await served.world.complete((await served.world.claim(UUID(turn["id"]))).attempt)
        async with asyncio.timeout(5):
            assert await types(events) == ["turn.started", "turn.completed"]


async def test_many_listeners_all_hear_everything(served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])

    async def listen() -> list[str]:
        async with stream(served, f"/v1/turns/{turn['id']}/events") as events:
            return await types(events)

    listeners = [asyncio.create_task(listen()) for _ in range(20)]
    await served.ears.listening(turn["id"])
    await served.answer(turn)
    assert await asyncio.gather(*listeners) == [["turn.enqueued", "turn.started", "turn.completed"]] * 20


async def test_a_server_that_stops_ends_waits_and_streams_at_once_and_answers_them(
    settings: Settings, database: Database
) -> None:
    async with serving(settings) as server:
        api = await tenant(database, server.app, None, server.url)
        async with api.http:
            session = await api.session()
            turn, other = await api.turn(session["id"]), await api.turn(session["id"])
            async with stream(api, f"/v1/turns/{turn['id']}/events") as events:
                await anext(events)
                await api.ears.listening(turn["id"])
                waiting = asyncio.create_task(api.get(f"/v1/turns/{other['id']}", wait=30))
                await api.ears.listening(other["id"])
                async with asyncio.timeout(5):
                    server.stop()
                    assert await types(events) == []
                    assert (await waiting)["status"] == "pending"


async def test_a_stream_whose_database_went_away_ends_and_can_be_taken_up_again(
    served: Tenant, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    path = f"/v1/turns/{turn['id']}/events"
    async with stream(served, path) as events:
        await anext(events)
        await served.ears.listening(turn["id"])
        with out_of_order(postgres_server, database_url):
            await served.services.dispatch.publish(
                [
                    RecordedEvent(
                        organization_id=served.world.organization_id,
                        session_id=UUID(session["id"]),
                        sequence=2,
                        turn_id=UUID(turn["id"]),
                        type="turn.started",
                        payload={},
                        revision=None,
                        created_at=datetime.now(UTC),
                    )
                ]
            )
            assert await types(events) == []
    await served.answer(turn)
    async with stream(served, path, **{"Last-Event-ID": "1"}) as events:
        assert await types(events) == ["turn.started", "turn.completed"]
