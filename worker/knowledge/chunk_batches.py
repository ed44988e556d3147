"""The chunks of one attempt at a document, gathered to be embedded and stored together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from worker.knowledge.embeddings import EmbeddingsFailed, EmbeddingsUnavailable
from worker.storage.ingestions import NewChunk, store_chunks
from worker.telemetry import names

if TYPE_CHECKING:
    from pydantic import JsonValue

    from worker.knowledge.embeddings import Embedder
    from worker.storage.database import Database
    from worker.storage.ingestions import ClaimedDocument

log = structlog.get_logger(__name__)

BATCH_CHUNKS: Final = 64
"""Chunks that are embedded by one request and stored by one transaction."""


class ChunkBatches:
    """Stores chunks, each batch with the progress that it is.

    Args:
        embedder: What makes vectors; None for nothing.
        may_try_again: Whether a later attempt may find the embeddings where this one does not; else it goes without.

    Attributes:
        lacking: Why some of them have no embedding; None when nothing is lacking.
    """

    def __init__(
        self, database: Database, embedder: Embedder | None, claimed: ClaimedDocument, *, may_try_again: bool
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._claimed = claimed
        self._may_try_again = may_try_again
        self._texts: list[str] = []
        self._first = 0
        self.lacking: dict[str, JsonValue] | None = None

    async def add(self, ordinal: int, text: str) -> None:
        """Take the next chunk, and store a batch if that is one.

        Raises:
            IngestionLost: The attempt is over.
            EmbeddingsUnavailable: There are no vectors now, and there may be later.
        """
        if not self._texts:
            self._first = ordinal
        self._texts.append(text)
        if len(self._texts) == BATCH_CHUNKS:
            await self.store()

    async def store(self) -> None:
        """Store what was taken and is not stored yet. It raises what `add` does."""
        texts, self._texts = self._texts, []
        if not texts:
            return
        vectors, model = await self._vectors(texts)
        chunks = [
            NewChunk(self._first + number, text, vector, model)
            for number, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        ]
        async with self._database.transaction() as connection:
            await store_chunks(connection, self._claimed.ingestion, language=self._claimed.language, chunks=chunks)

    async def _vectors(self, texts: list[str]) -> tuple[list[list[float]] | list[None], str | None]:
        if self._embedder is None or self.lacking is not None:
            return [None] * len(texts), None
        try:
            return await self._embedder.embed(texts), self._embedder.model
        except EmbeddingsFailed as error:
            if isinstance(error, EmbeddingsUnavailable) and self._may_try_again:
                raise
            # A document that is found by its words is worth more than one that is not found.
            log.warning(names.EMBEDDINGS_FAILED, code=error.code, error=str(error))
            self.lacking = {"code": error.code, "message": f"{error} The document is searched by its words alone."}
            return [None] * len(texts), None
