"""The real API over real servers, a caller with a key, and an agent whose turns the test itself plays.

Every answer is checked against the OpenAPI document, so every test of the API is also one of its documentation.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import psycopg
from jsonschema import Draft202012Validator
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import make_url

from api_stub.app import create_app
from api_stub.server import ApiServer
from tests.world import World
from worker.settings import Settings
from worker.storage.organizations import create_api_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from fastapi import FastAPI

    from api_stub.services import Services
    from worker.channel.listener import Listener
    from worker.channel.subscriber import Subscriber
    from worker.embedded.postgres import EmbeddedPostgres
    from worker.storage.completions import SessionReference
    from worker.storage.database import Database
    from worker.storage.documents import DocumentReference
    from worker.storage.outbox import RecordedEvent
    from worker.turns.dispatch import TurnReference


@dataclass
class Bell:
    """A doorbell that notes for which turns, documents and ended sessions it was rung."""

    rung: list[UUID] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[UUID] = field(default_factory=list)

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        self.rung.extend(turn.turn_id for turn in turns)
        self._changed.set()

    async def ringing_for(self, turn_id: UUID) -> None:
        """Until it was rung for this turn."""
        async with asyncio.timeout(10):
            while turn_id not in self.rung:
                self._changed.clear()
                await self._changed.wait()

    async def ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        self.ended.extend(session.session_id for session in sessions)

    async def ring_for_document(self, document: DocumentReference) -> None:
        self.rung.append(document.document_id)


class Ears:
    """Tells when a request of the API has begun to listen for news, and when it has ceased."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._listen = subscriber.listen
        self._begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._ceased: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        subscriber.listen = self._noting  # type: ignore[method-assign] # it does what it did, and notes it

    async def listening(self, about: str) -> None:
        """Until some request listens for news about this session or turn."""
        await self._begun[about].wait()

    async def ceased(self, about: str) -> None:
        """Until some request listens no longer for news about this session or turn."""
        await self._ceased[about].wait()

    @asynccontextmanager
    async def _noting(self, about: UUID | None) -> AsyncGenerator[Listener]:
        try:
            async with self._listen(about) as listener:
                self._begun[str(about)].set()
                yield listener
        finally:
            self._ceased[str(about)].set()


@dataclass
class Tenant:
    """An organization in the database, and a caller with one of its keys."""

    world: World
    key: str
    http: httpx.AsyncClient
    app: FastAPI
    ears: Ears

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def session(self, **body: Any) -> dict[str, Any]:
        """A new session, which begins with the user."""
        path = f"/v1/workflows/{self.world.workflow_id}/sessions"
        return await self.made(self.http.post(path, json={"begins_with": "user", **body}))

    async def turn(self, session_id: str, text: str = "Hi.", **body: Any) -> dict[str, Any]:
        """A new pending turn."""
        return await self.made(self.http.post(f"/v1/sessions/{session_id}/turns", json={"text": text, **body}))

    async def get(self, path: str, **params: Any) -> Any:
        """What is at a path."""
        response = await self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def made(self, posted: Any) -> dict[str, Any]:
        response = await posted
        assert response.is_success, response.text
        result: dict[str, Any] = response.json()
        return result

    async def answer(self, turn: dict[str, Any], **completion: Any) -> None:
        """Play a worker that claims the turn and completes it, and publish what it recorded."""
        claimed = await self.world.claim(UUID(turn["id"]))
        self.publish(claimed.events)
        self.publish(await self.world.complete(claimed.attempt, **completion))

    async def claim(self, turn: dict[str, Any]) -> Any:
        """Play a worker that begins the turn, and publish what it recorded."""
        claimed = await self.world.claim(UUID(turn["id"]))
        self.publish(claimed.events)
        return claimed.attempt

    def publish(self, events: Sequence[RecordedEvent]) -> None:
        """Let the world know of events that were committed."""
        self.services.dispatch.after_commit(events)


@contextmanager
def out_of_order(server: EmbeddedPostgres, database_url: str) -> Iterator[None]:
    """For the time being, the database refuses every connection and has ended those there were."""
    name = make_url(database_url).database or ""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


async def tenant(
    database: Database, app: FastAPI, transport: httpx.AsyncBaseTransport | None, base_url: str, name: str = "Acme"
) -> Tenant:
    """Make an organization and its caller."""
    world = await World.make(database, name)
    async with database.transaction() as connection:
        key = await create_api_key(connection, organization_id=world.organization_id, name="test")
    http = httpx.AsyncClient(
        transport=transport,
        base_url=base_url,
        headers={"Authorization": f"Bearer {key.key}"},
        event_hooks={"response": [contract().check]},
        timeout=30,
    )
    return Tenant(world, key.key, http, app, Ears(app.state.services.subscriber))


@asynccontextmanager
async def serving(settings: Settings, bell: Bell | None = None) -> AsyncIterator[ApiServer]:
    """The API on a socket of its own."""
    server = ApiServer(settings, bell or Bell())
    running = asyncio.create_task(server.run())
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield server
    finally:
        server.stop()
        await running


@cache
def contract() -> Contract:
    """What the API has promised, whatever its settings. Made once: it takes longer than most tests."""
    unused = Settings(database_url=SecretStr("postgresql://unused"), redis_url=SecretStr("redis://unused"))
    return Contract(create_app(unused, Bell()).openapi())


class Contract:
    """Checks answers against the API's OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._paths = [
            (re.compile(re.sub(r"{\w+}", "[^/]+", path) + r"\Z"), operations)
            for path, operations in self._document["paths"].items()
        ]

    async def check(self, response: httpx.Response) -> None:
        operation = self._operation(response.request)
        if operation is None:
            assert response.status_code in {404, 405}
            return
        documented = operation["responses"].get(str(response.status_code))
        assert documented, f"{response.request.method} {response.request.url.path}: undocumented {response.status_code}"
        for name in documented.get("headers", {}):
            assert name in response.headers
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if media_type in {"text/event-stream", "text/plain"}:
            assert media_type in documented["content"]
            return
        await response.aread()
        if not response.content:
            assert "content" not in documented
            return
        schema = documented.get("content", {}).get(media_type, {}).get("schema")
        assert schema is not None, f"undocumented {media_type}"
        Draft202012Validator({**schema, "components": self._document["components"]}).validate(response.json())

    def _operation(self, request: httpx.Request) -> Any:
        for pattern, operations in self._paths:
            if pattern.match(request.url.path) and request.method.lower() in operations:
                return operations[request.method.lower()]
        return None
