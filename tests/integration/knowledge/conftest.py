"""A knowledge base on a real database, and the inside of the worker that fills it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from pydantic import SecretStr

from worker.channel.publisher import Publisher
from worker.embedded.scripted_llm import ScriptedLLM
from worker.knowledge.embeddings import Embedder
from worker.knowledge.ingestion import IngestionWorker
from worker.settings import Settings
from worker.storage import documents as storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from uuid import UUID

    from tests.world import World
    from worker.storage.database import Database


@dataclass
class Library:
    """The documents of one organization, and workers that read them."""

    world: World
    redis_url: str

    @property
    def database(self) -> Database:
        return self.world.database

    async def upload(self, content: bytes | str, *, media_type: str = "text/markdown", **values: Any) -> UUID:
        """A document that nobody has read yet."""
        async with self.database.transaction() as connection:
            document = await storage.create_document(
                connection,
                organization_id=self.world.organization_id,
                media_type=media_type,
                content=content.encode() if isinstance(content, str) else content,
                **{"name": "manual.md", **values},
            )
        return document.id

    async def read(self, content: bytes | str, *, embedder: Embedder | None = None, **values: Any) -> UUID:
        """A document that was read."""
        document_id = await self.upload(content, **values)
        async with self.worker(embedder) as worker:
            assert (await worker.ingest(self.reference(document_id))).value == "ready"
        return document_id

    def reference(self, document_id: UUID) -> storage.DocumentReference:
        return storage.DocumentReference(self.world.organization_id, document_id)

    async def document(self, document_id: UUID) -> storage.Document:
        async with self.database.statement() as connection:
            return await storage.get_document(
                connection, organization_id=self.world.organization_id, document_id=document_id
            )

    async def texts(self, document_id: UUID) -> list[str]:
        rows = await self.world.rows("SELECT text FROM chunks WHERE document_id = :id ORDER BY ordinal", id=document_id)
        return [row.text for row in rows]

    @asynccontextmanager
    async def worker(self, embedder: Embedder | None = None, **settings: Any) -> AsyncIterator[IngestionWorker]:
        """The inside of a worker process; it looks for nothing by itself unless it is started."""
        publisher = Publisher(self.redis_url)
        worker = IngestionWorker(
            Settings(**{"retry_base_seconds": 0.001, "lease_renewal_seconds": 0.05, **settings}),
            self.database,
            publisher,
            embedder,
            worker_name="worker",
        )
        try:
            yield worker
        finally:
            await worker.drain()
            await publisher.close()


@pytest.fixture
def embeddings() -> Iterator[ScriptedLLM]:
    """A service that makes vectors."""
    with ScriptedLLM() as server:
        yield server


@pytest.fixture
async def embedder(embeddings: ScriptedLLM) -> AsyncIterator[Embedder]:
    """What asks that service, through the real SDK."""
    embedder = Embedder.of(embeddings_settings(embeddings))
    assert embedder is not None
    yield embedder
    await embedder.close()


def embeddings_settings(embeddings: ScriptedLLM, **changes: Any) -> Settings:
    """Settings that name that service."""
    return Settings(
        embeddings_model="words-1",
        embeddings_base_url=f"{embeddings.base_url}/v1",
        embeddings_api_key=SecretStr("sk-embeddings"),
        **changes,
    )


@pytest.fixture
def library(world: World, redis_url: str) -> Library:
    return Library(world, redis_url)


@pytest.fixture
async def news(redis_url: str) -> AsyncIterator[Any]:
    """What is published about documents."""
    async with (
        redis.asyncio.Redis.from_url(redis_url) as client,
        client.pubsub(ignore_subscribe_messages=True) as pubsub,
    ):
        await pubsub.psubscribe("documents.*")
        await pubsub.get_message(timeout=5)
        yield pubsub
