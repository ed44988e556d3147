"""Both clients against the real API: whole conversations, lost answers, lost connections."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from api_stub.client import (
    ApiUnreachable,
    AsyncTurnWorkerClient,
    Conflict,
    DocumentUnfinished,
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    RedisUnreachable,
    TurnUnfinished,
    TurnWorkerClient,
)
from tests.proxy import CuttingProxy
from tests.world import definition
from worker.storage.usage import UsageEntry, record_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from api_stub.client import Event
    from tests.api import Tenant

Client = AsyncTurnWorkerClient


class InThreads:
    """The blocking client in the form of the asynchronous one, so that both stand the same tests."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._client = TurnWorkerClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: asyncio.to_thread(method, *args, **options)

    @asynccontextmanager
    async def subscribe(self, **options: Any) -> AsyncIterator[AsyncIterator[Event]]:
        subscription = self._client.subscribe(**options)
        events = await asyncio.to_thread(subscription.__enter__)
        try:
            yield _in_threads(events)
        finally:
            await asyncio.to_thread(subscription.__exit__, None, None, None)

    async def aclose(self) -> None:
        self._client.close()


async def _in_threads(events: Iterator[Event]) -> AsyncIterator[Event]:
    while (event := await asyncio.to_thread(next, events, None)) is not None:
        yield event


@pytest.fixture(params=[AsyncTurnWorkerClient, InThreads], ids=["asynchronous", "blocking"])
async def connect(request: pytest.FixtureRequest, served: Tenant) -> AsyncIterator[Callable[..., Client]]:
    """Makes clients, of the one kind and of the other."""
    async with AsyncExitStack() as stack:

        def connect(url: str | None = None, key: str | None = None, **options: Any) -> Client:
            client: Client = request.param(url or str(served.http.base_url), key or served.key, **options)
            stack.push_async_callback(client.aclose)
            return client

        yield connect


@pytest.fixture
async def proxy(served: Tenant) -> AsyncIterator[CuttingProxy]:
    """A way to the API that breaks on demand."""
    async with CuttingProxy(str(served.http.base_url)) as proxy:
        yield proxy


async def test_a_whole_conversation(connect: Callable[..., Client], served: Tenant) -> None:
    client = connect()
    workflow = await client.create_workflow("Desk", definition())
    assert (await client.put_workflow(workflow.id, definition("Be brief."))).number == 2
    assert (await client.get_workflow(workflow.id, number=1)).definition == definition()
    assert [item.id for item in (await client.list_workflows(limit=1)).data] == [workflow.id]

    session = await client.create_session(workflow.id, initial_context={"name": "Ada"}, external_id="call-1")
    assert session.opening_turn is not None
    await served.answer({"id": str(session.opening_turn.id)}, assistant_text="Good day, Ada.")
    opening = await client.wait(session.opening_turn.id)
    assert (opening.opening, opening.assistant_text) == (True, "Good day, Ada.")

    turn = await client.enqueue(session.id, "Hi.", external_id="m-1", metadata={"a": 1})
    assert (turn.status, turn.user_messages, turn.external_id, turn.metadata) == ("pending", ["Hi."], "m-1", {"a": 1})
    assert await client.get_turn(turn.id) == turn
    assert [item.id for item in (await client.list_turns(session.id)).data] == [opening.id, turn.id]
    assert [item.id for item in (await client.list_sessions(external_id="call-1")).data] == [session.id]

    ended = await client.end_session(session.id, reason="done")
    assert (ended.state, ended.end_reason) == ("completed", "done")
    assert (await client.get_session(session.id)) == ended
    assert (await client.wait(turn.id)).status == "cancelled"
    log = await client.list_events(session_id=session.id)
    assert [event.sequence for event in log.data] == list(range(1, 7))
    assert log.finished


async def test_tools_and_their_credentials_are_kept_and_forgotten(connect: Callable[..., Client]) -> None:
    client = connect()
    credential = await client.create_credential("desk", {"kind": "bearer", "token": "t-1"})
    assert await client.get_credential("desk") == credential
    assert (await client.put_credential("desk", {"kind": "basic", "username": "a", "password": "b"})).kind == "basic"
    assert [item.name for item in (await client.list_credentials()).data] == ["desk"]

    id_ = uuid4()
    tool = await client.create_tool({"type": "calculator"}, tool_id=id_)
    assert (tool.id, tool.version, tool.definition["name"]) == (id_, 1, "calculator")
    assert (await client.put_tool(id_, {"type": "calculator", "name": "sums"})).version == 2
    assert await client.get_tool(id_, version=1) == tool
    assert [item.version for item in (await client.list_tools()).data] == [2]

    await client.delete_tool(id_)
    await client.delete_credential("desk")
    with pytest.raises(NotFound, match="tool_not_found"):
        await client.get_tool(id_)
    with pytest.raises(NotFound, match="credential_not_found"):
        await client.get_credential("desk")


async def test_recordings_are_registered_and_forgotten(connect: Callable[..., Client]) -> None:
    client = connect()
    recording = await client.create_recording("Welcome.", recording_id="rec_1", name="Welcome", metadata={"a": 1})
    assert (recording.id, recording.transcript, recording.metadata) == ("rec_1", "Welcome.", {"a": 1})
    assert await client.get_recording("rec_1") == recording
    assert (await client.list_recordings()).data == [recording]
    await client.delete_recording("rec_1")
    with pytest.raises(NotFound, match="recording_not_found"):
        await client.delete_recording("rec_1")


async def test_documents_are_uploaded_and_deleted(connect: Callable[..., Client]) -> None:
    client = connect()
    document = await client.upload_document("# Hours", filename="hours.md", language="english", metadata={"a": 1})
    assert (document.name, document.media_type, document.status) == ("hours.md", "text/markdown", "pending")
    assert (document.language, document.metadata) == ("english", {"a": 1})
    assert await client.get_document(document.id) == document
    assert (await client.list_documents()).data == [document]
    with pytest.raises(DocumentUnfinished, match="still pending"):
        await client.wait_for_document(document.id, timeout_seconds=0.1)
    await client.delete_document(document.id)
    with pytest.raises(NotFound, match="document_not_found"):
        await client.get_document(document.id)


async def test_usage_is_read_of_a_turn_a_session_and_the_organization(
    connect: Callable[..., Client], served: Tenant
) -> None:
    client = connect()
    session = await client.create_session(served.world.workflow_id, begins_with="user")
    turn = await client.enqueue(session.id, "Hi.")
    entry = UsageEntry(
        organization_id=served.world.organization_id,
        turn_id=turn.id,
        attempt=1,
        call=1,
        processor="AnthropicLLMService",
        model="claude-sonnet-5",
        prompt_tokens=10,
        completion_tokens=2,
        total_tokens=12,
        cache_read_input_tokens=0,
        cache_creation_input_tokens=0,
    )
    async with served.world.database.statement() as connection:
        await record_usage(connection, [entry])
    used = await client.get_turn_usage(turn.id)
    assert (used.total_tokens, used.cost, used.unpriced_models) == (12, None, ["claude-sonnet-5"])
    assert used == await client.get_session_usage(session.id)
    now = datetime.now(UTC)
    page = await client.get_usage(group_by="model", since=now - timedelta(hours=1), until=now + timedelta(hours=1))
    assert [(group.key, group.calls) for group in page.data] == [("claude-sonnet-5", 1)]


async def test_waiting_ends_as_soon_as_the_turn_does(connect: Callable[..., Client], served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    waiting = asyncio.create_task(connect().wait(turn["id"], timeout_seconds=60))
    await served.ears.listening(turn["id"])
    await served.answer(turn, assistant_text="Good day.")
    async with asyncio.timeout(5):
        assert (await waiting).assistant_text == "Good day."


async def test_waiting_gives_up_with_the_turn_as_it_is(connect: Callable[..., Client], served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    with pytest.raises(TurnUnfinished) as over:
        await connect().wait(turn["id"], timeout_seconds=0.1)
    assert str(over.value.turn.id) == turn["id"]


async def test_what_the_api_refuses_is_an_error_that_says_why(connect: Callable[..., Client], served: Tenant) -> None:
    client = connect()
    session = await served.session()
    with pytest.raises(InvalidRequest, match="It is blank"):
        await client.enqueue(session["id"], "  ")
    with pytest.raises(Conflict) as conflict:
        await client.enqueue(session["id"], "Hi.", expected_revision=9)
    assert conflict.value.extensions["actual_revision"] == 0
    with pytest.raises(NotFound, match="turn_not_found"):
        await client.get_turn(session["id"])
    with pytest.raises(NotFound):
        async with client.subscribe(turn_id=session["id"]) as events:
            await anext(events)
    with pytest.raises(InvalidApiKey):
        await connect(key="twk_other").get_session(session["id"])


async def test_an_api_that_is_not_there_is_an_error_after_a_few_tries(connect: Callable[..., Client]) -> None:
    client = connect("http://127.0.0.1:1", retries=1)
    with pytest.raises(ApiUnreachable, match="GET /v1/sessions/1"):
        await client.get_session("1")
    with pytest.raises(ApiUnreachable, match="/v1/turns/1/events"):
        async with client.subscribe(turn_id="1") as events:
            await anext(events)


async def test_an_enqueue_whose_answer_was_lost_is_repeated_and_enqueues_once(
    connect: Callable[..., Client], served: Tenant, proxy: CuttingProxy
) -> None:
    session = await served.session()
    proxy.answers_to_lose = 2
    turn = await connect(proxy.url).enqueue(session["id"], "Hi.")
    assert proxy.connections == 3
    (only,) = (await served.get(f"/v1/sessions/{session['id']}/turns"))["data"]
    assert only["id"] == str(turn.id)


async def test_a_wait_whose_connection_breaks_goes_on_waiting(
    connect: Callable[..., Client], served: Tenant, proxy: CuttingProxy
) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    waiting = asyncio.create_task(connect(proxy.url).wait(turn["id"]))
    await served.ears.listening(turn["id"])
    proxy.cut()
    await served.answer(turn)
    assert (await waiting).status == "completed"


async def test_a_subscription_tells_every_event_once_and_in_order_through_broken_connections(
    connect: Callable[..., Client], served: Tenant, proxy: CuttingProxy
) -> None:
    session = await served.session()
    heard = []
    async with connect(proxy.url).subscribe(session_id=session["id"]) as events:
        for last in (False, False, True):
            turn = await served.turn(session["id"])
            heard.append(await anext(events))
            assert str(heard[-1].turn_id) == turn["id"]
            proxy.cut()
            await served.answer(turn, end_reason="done" if last else None)
            heard += [await anext(events), await anext(events)]
        heard += [event async for event in events]
    assert [event.sequence for event in heard] == list(range(1, 11))
    assert [event.type for event in heard[-3:]] == ["turn.started", "turn.completed", "session.ended"]
    assert all(event.payload is not None for event in heard)


async def test_a_subscription_to_a_turn_ends_with_it(connect: Callable[..., Client], served: Tenant) -> None:
    session = await served.session()
    turn, other = await served.turn(session["id"]), await served.turn(session["id"])
    async with connect().subscribe(turn_id=turn["id"]) as events:
        await served.answer(turn)
        assert [event.type async for event in events] == ["turn.enqueued", "turn.started", "turn.completed"]
    async with connect().subscribe(turn_id=turn["id"], after=3) as events:
        assert [event.sequence async for event in events] == [4]
    assert other["status"] == "pending"


async def test_a_subscription_can_be_left_in_the_middle(connect: Callable[..., Client], served: Tenant) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    async with connect().subscribe(turn_id=turn["id"]) as events:
        await anext(events)
    await served.ears.ceased(turn["id"])


@pytest.mark.parametrize("about", ["session", "turn"])
async def test_a_subscription_over_redis_tells_every_event_once_and_in_order(
    connect: Callable[..., Client], served: Tenant, redis_url: str, about: str
) -> None:
    session = await served.session()
    await served.answer(await served.turn(session["id"]))
    turn = await served.turn(session["id"])
    which = {"session_id": session["id"]} if about == "session" else {"turn_id": turn["id"]}
    async with connect().subscribe(**which, redis_url=redis_url) as events:
        await served.answer(turn, end_reason="done")
        heard = [event async for event in events]
    expected = list(range(1, 8)) if about == "session" else [4, 5, 6, 7]
    assert [event.sequence for event in heard] == expected
    assert heard[-1].type == "session.ended"


async def test_news_over_redis_comes_without_asking_the_api(
    connect: Callable[..., Client], served: Tenant, redis_url: str, proxy: CuttingProxy
) -> None:
    session = await served.session()
    async with connect(proxy.url).subscribe(session_id=session["id"], redis_url=redis_url) as events:
        turn = await served.turn(session["id"])
        assert (await anext(events)).type == "turn.enqueued"
        asked = proxy.connections
        proxy.cut()
        await served.claim(turn)
        started = await anext(events)
        assert (started.type, started.status) == ("turn.started", "running")
        assert proxy.connections == asked


async def test_a_subscription_over_redis_reads_in_the_log_what_it_could_not_hear(
    connect: Callable[..., Client], served: Tenant, redis_url: str
) -> None:
    session = await served.session()
    first, second = await served.turn(session["id"]), await served.turn(session["id"])
    async with (
        CuttingProxy(redis_url) as broken,
        connect().subscribe(session_id=session["id"], redis_url=broken.url) as events,
    ):
        heard = [await anext(events), await anext(events)]
        broken.cut()
        await served.answer(first)
        heard += [await anext(events), await anext(events)]
        await served.answer(second, end_reason="done")
        heard += [event async for event in events]
    assert [event.sequence for event in heard] == list(range(1, 8))


async def test_a_subscription_to_what_is_over_ends_at_once(
    connect: Callable[..., Client], served: Tenant, redis_url: str
) -> None:
    session = await served.session()
    turn = await served.turn(session["id"])
    await served.answer(turn, end_reason="done")
    for options in ({}, {"redis_url": redis_url}):
        async with connect().subscribe(turn_id=turn["id"], after=4, **options) as events:
            assert [event async for event in events] == []
        async with connect().subscribe(session_id=session["id"], after=2, **options) as events:
            assert [event.sequence async for event in events] == [3, 4]


async def test_a_redis_that_is_not_there_is_an_error_at_once(connect: Callable[..., Client], served: Tenant) -> None:
    session = await served.session()
    with pytest.raises(RedisUnreachable):
        async with connect().subscribe(session_id=session["id"], redis_url="redis://127.0.0.1:1"):
            pass


def test_the_client_loads_neither_the_worker_nor_what_only_servers_need() -> None:
    unwanted = "{'worker', 'celery', 'kombu', 'pipecat', 'sqlalchemy', 'psycopg', 'fastapi', 'redis'}"
    program = f"import sys, api_stub.client; print(sorted({unwanted} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


async def test_the_course_of_a_conversation_can_be_changed(connect: Callable[..., Client], served: Tenant) -> None:
    client = connect()
    session = await client.create_session(served.world.workflow_id, begins_with="user", on_busy="merge")
    first = await client.enqueue(session.id, "One.", on_busy="enqueue")
    await served.answer({"id": str(first.id)})
    merged = await client.enqueue(session.id, "Two.")
    assert (await client.enqueue(session.id, "Three.")).id == merged.id
    assert (await client.cancel_turn(merged.id, reason="enough")).status == "cancelled"
    retry = await client.retry_turn(merged.id)
    assert (retry.user_messages, retry.retry_of_turn_id) == (["Two.", "Three."], merged.id)
    await served.answer({"id": str(retry.id)})
    rewound = await client.rewind_session(
        session.id, first.id, expected_revision=(await client.get_turn(retry.id)).revision
    )
    assert rewound.head_turn_id == first.id
    assert (await client.rewind_session(session.id, None)).head_turn_id is None
    forks = [await client.fork_session(session.id, retry.id), await client.fork_session(session.id)]
    assert [fork.forked_from_turn_id for fork in forks] == [retry.id, None]
    later = await client.enqueue(session.id, "Later.", not_before=datetime.now(UTC) + timedelta(hours=1))
    assert (later.status, later.position) == ("scheduled", None)
    ended = await client.end_session(session.id, reason="done", disposition="sold", wait=True)
    assert (ended.state, ended.disposition) == ("completed", "sold")
    assert (await client.get_turn(later.id)).status == "cancelled"
