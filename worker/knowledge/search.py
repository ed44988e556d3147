"""Search in an organization's documents: by words and by vectors side by side, in one ranking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from worker.engine.tools.knowledge_base import Findings, Passage
from worker.knowledge.embeddings import EmbeddingsFailed
from worker.knowledge.fusion import fuse
from worker.storage.search import has_vector_extension, search_by_vectors, search_by_words
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from worker.knowledge.embeddings import Embedder
    from worker.storage.database import Database
    from worker.storage.search import FoundChunk

log = structlog.get_logger(__name__)

# How deep each ranking goes: what is last in one may still be the best of both.
_RANKED: Final = 20
# A turn waits for it: rather words alone than a pause that a person notices.
_EMBEDDING_SECONDS: Final = 5.0


class KnowledgeBase:
    """What all searches of a process share."""

    def __init__(self, database: Database, embedder: Embedder | None) -> None:
        self._database = database
        self._embedder = embedder
        self._extension: bool | None = None

    def of(self, organization_id: UUID) -> OrganizationDocuments:
        """The documents of one organization."""
        return OrganizationDocuments(self, organization_id)

    async def search(self, organization_id: UUID, document_ids: Sequence[UUID], query: str, *, limit: int) -> Findings:
        """Find what fits a query best. Without vectors it goes on by words alone, and says why.

        Raises:
            DatabaseUnavailable: when the documents could not be read.
        """
        by_words, (by_vectors, degraded) = await asyncio.gather(
            self._by_words(organization_id, document_ids, query),
            self._by_vectors(organization_id, document_ids, query),
        )
        rankings = [ranking for ranking in (by_words, by_vectors) if ranking]
        passages = [Passage(chunk.document, chunk.text, score) for chunk, score in fuse(rankings)[:limit]]
        return Findings(passages, degraded)

    async def _by_words(self, organization_id: UUID, document_ids: Sequence[UUID], query: str) -> list[FoundChunk]:
        async with self._database.statement() as connection:
            return await search_by_words(
                connection,
                organization_id=organization_id,
                document_ids=document_ids,
                query=query,
                limit=_RANKED,
            )

    async def _by_vectors(
        self, organization_id: UUID, document_ids: Sequence[UUID], query: str
    ) -> tuple[list[FoundChunk], str | None]:
        if self._embedder is None:
            return [], None
        try:
            async with asyncio.timeout(_EMBEDDING_SECONDS):
                (embedding,) = await self._embedder.embed([query])
        except (EmbeddingsFailed, TimeoutError) as error:
            reason = str(error) or f"The embeddings service did not answer within {_EMBEDDING_SECONDS:g} seconds."
            log.warning(names.EMBEDDINGS_FAILED, error=reason)
            return [], reason
        async with self._database.statement() as connection:
            if self._extension is None:
                self._extension = await has_vector_extension(connection)
            found = await search_by_vectors(
                connection,
                organization_id=organization_id,
                document_ids=document_ids,
                embedding=embedding,
                embedding_model=self._embedder.model,
                limit=_RANKED,
                extension=self._extension,
            )
        return found, None


class OrganizationDocuments:
    """The documents of one organization; this is the engine's `Documents`."""

    def __init__(self, knowledge_base: KnowledgeBase, organization_id: UUID) -> None:
        self._knowledge_base = knowledge_base
        self._organization_id = organization_id

    async def search(self, document_ids: Sequence[UUID], query: str, *, limit: int) -> Findings:
        """Find the passages of these documents that fit a query best."""
        return await self._knowledge_base.search(self._organization_id, document_ids, query, limit=limit)
