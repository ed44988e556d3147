"""The client for programs on asyncio."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from api_stub.client import calls, flows, resource_calls
from api_stub.client.errors import ApiUnavailable
from api_stub.client.flows import Pause
from api_stub.client.streams import SILENCE_SECONDS, EventStream, TextStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from api_stub.client.asynchronous_news import AsyncNews
    from api_stub.client.call import Call
    from api_stub.client.flows import Flow
    from api_stub.client.news import Follower
    from api_stub.client.streams import Stream, TextProgress
    from api_stub.schemas import Document, Event, Turn

P = ParamSpec("P")
T = TypeVar("T")


def _sends(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncTurnWorkerClient, P], Awaitable[T]]:
    @wraps(build)
    async def method(self: AsyncTurnWorkerClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._drive(flows.exchange(build(*args, **kwargs), self._retries))

    return method


class AsyncTurnWorkerClient:
    """The same as `TurnWorkerClient`, for one event loop: every method is to be awaited."""

    def __init__(self, base_url: str, api_key: str, *, timeout_seconds: float = 10.0, retries: int = 4) -> None:
        """Prepare to talk; nothing is connected yet.

        Args:
            base_url: where the API is, e.g. `http://localhost:8080`.
            api_key: a key of your organization, `twk_...`.
            timeout_seconds: how long one answer may take, not counting what you ask the API to wait.
            retries: how often a request is sent again.
        """
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._http = httpx.AsyncClient(base_url=base_url, headers={"Authorization": f"Bearer {api_key}"})

    create_workflow = _sends(calls.create_workflow)
    put_workflow = _sends(calls.put_workflow)
    get_workflow = _sends(calls.get_workflow)
    list_workflows = _sends(calls.list_workflows)
    create_session = _sends(calls.create_session)
    get_session = _sends(calls.get_session)
    get_transcript = _sends(calls.get_transcript)
    list_webhook_deliveries = _sends(calls.list_webhook_deliveries)
    list_sessions = _sends(calls.list_sessions)
    end_session = _sends(calls.end_session)
    erase_session = _sends(calls.erase_session)
    rewind_session = _sends(calls.rewind_session)
    fork_session = _sends(calls.fork_session)
    enqueue = _sends(calls.enqueue)
    get_turn = _sends(calls.get_turn)
    cancel_turn = _sends(calls.cancel_turn)
    retry_turn = _sends(calls.retry_turn)
    list_turns = _sends(calls.list_turns)
    list_events = _sends(calls.list_events)
    get_usage = _sends(calls.get_usage)
    get_session_usage = _sends(calls.get_session_usage)
    get_turn_usage = _sends(calls.get_turn_usage)
    create_tool = _sends(resource_calls.create_tool)
    put_tool = _sends(resource_calls.put_tool)
    get_tool = _sends(resource_calls.get_tool)
    list_tools = _sends(resource_calls.list_tools)
    delete_tool = _sends(resource_calls.delete_tool)
    create_credential = _sends(resource_calls.create_credential)
    put_credential = _sends(resource_calls.put_credential)
    get_credential = _sends(resource_calls.get_credential)
    list_credentials = _sends(resource_calls.list_credentials)
    delete_credential = _sends(resource_calls.delete_credential)
    create_recording = _sends(resource_calls.create_recording)
    get_recording = _sends(resource_calls.get_recording)
    list_recordings = _sends(resource_calls.list_recordings)
    delete_recording = _sends(resource_calls.delete_recording)
    upload_document = _sends(resource_calls.upload_document)
    get_document = _sends(resource_calls.get_document)
    list_documents = _sends(resource_calls.list_documents)
    delete_document = _sends(resource_calls.delete_document)

    async def wait(self, turn_id: UUID | str, *, timeout_seconds: float = 600.0) -> Turn:
        """Wait until a turn is completed, failed or cancelled.

        Raises:
            TurnUnfinished: when it is none of these after `timeout_seconds`.
        """
        return await self._drive(flows.wait(turn_id, timeout_seconds, self._retries))

    async def wait_for_document(self, document_id: UUID | str, *, timeout_seconds: float = 600.0) -> Document:
        """Wait until a document can be searched, or has failed.

        Raises:
            DocumentUnfinished: when it is neither after `timeout_seconds`.
        """
        return await self._drive(flows.wait_for_document(document_id, timeout_seconds, self._retries))

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        session_id: UUID | str | None = None,
        turn_id: UUID | str | None = None,
        after: int = 0,
        redis_url: str | None = None,
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        """Follow a session, or one turn, until it is over: every event once, in order, through lost connections.

        ```python
        async with client.subscribe(turn_id=turn.id) as events:
            async for event in events:
                print(event.type, event.payload)
        ```

        Args:
            session_id: the session to follow, or
            turn_id: the turn.
            after: only events with higher numbers. A session's `last_sequence` leaves out what is past.
            redis_url: hear the news from this Redis, sooner and without an HTTP connection that stays open. Events heard
                there carry no `payload`; read the turn for what came of it.

        Raises:
            RedisUnreachable: when the first connection to Redis fails.
        """
        if redis_url is None:
            stream = EventStream(calls.events_path(session_id, turn_id), after, self._retries)
            async with aclosing(self._stream(stream)) as events:
                yield events
            return
        from api_stub.client.asynchronous_news import AsyncNews  # noqa: PLC0415 -- only who uses Redis needs its package

        follower = await self._drive(flows.follow(session_id, turn_id, after, self._retries))
        async with aclosing(AsyncNews(redis_url, follower.pattern)) as news:
            await news.open()
            async with aclosing(self._news(news, follower)) as events:
                yield events

    async def stream_text(self, turn_id: UUID | str) -> AsyncGenerator[TextProgress]:
        """Read what the assistant says in a turn while it says it, until the turn is over.

        ```python
        async for said in client.stream_text(turn.id):
            print(said.new, end="", flush=True)
        ```

        Each step has all the `text` so far and what is `new` of it; at `reset` show `text` anew. The last one has the
        turn's status: `said.update.status`.
        """
        async with aclosing(self._stream(TextStream(calls.text_path(turn_id), self._retries))) as steps:
            async for said in steps:
                yield said
                if said.update.type == "end":
                    return

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    response = await self._send(step)
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _send(self, call: Call[Any]) -> httpx.Response:
        return await self._http.request(
            call.method,
            call.path,
            params=call.params,
            json=call.json,
            data=call.form,
            files=call.files,
            headers=call.headers,
            timeout=self._timeout_seconds + call.patience_seconds,
        )

    async def _stream(self, stream: Stream[T]) -> AsyncGenerator[T]:
        timeout = httpx.Timeout(self._timeout_seconds, read=SILENCE_SECONDS)
        while True:
            failure: httpx.TransportError | ApiUnavailable | None = None
            try:
                async with self._http.stream("GET", stream.path, headers=stream.connect(), timeout=timeout) as response:
                    if response.status_code != HTTPStatus.OK:
                        await response.aread()
                    if stream.is_over(response):
                        return
                    async for line in response.aiter_lines():
                        if (event := stream.feed(line)) is not None:
                            yield event
            except (httpx.TransportError, ApiUnavailable) as error:
                failure = error
            await asyncio.sleep(stream.pause(failure))

    async def _news(self, news: AsyncNews, follower: Follower) -> AsyncGenerator[Event]:
        while not follower.is_over:
            if follower.must_read:
                page = await self._drive(flows.exchange(follower.next_page(), self._retries))
                for event in follower.read(page):
                    yield event
            elif (message := await news.get()) is None:
                follower.must_read = True
            elif (heard := follower.hear(message)) is not None:
                yield heard
