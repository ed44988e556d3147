"""How a document becomes chunks: claimed like a turn, written in batches, each write fenced by the attempt.

    pending --claim--> processing --+--> ready
       ^                            +--> failed
       +------ retry, give back ----+

A document whose worker died is claimed again when its lease has expired, and goes on behind the chunks that are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.errors import TurnWorkerError
from worker.storage.database import to_json
from worker.storage.search_text import searchable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.storage.documents import DocumentReference


class IngestionLost(TurnWorkerError):
    """The attempt is no longer the document's current one, or the document was deleted: nothing was written."""

    code = "ingestion_lost"

    def __init__(self, document_id: UUID, attempt: int) -> None:
        super().__init__(document_id, attempt)
        self.document_id = document_id
        self.attempt = attempt

    def __str__(self) -> str:
        return f"Attempt {self.attempt} at document {self.document_id} is over; what it wrote was not kept."


@dataclass(frozen=True, slots=True)
class Ingestion:
    """One attempt at one document. Its number is the fencing token of everything it writes."""

    organization_id: UUID
    document_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class ClaimedDocument:
    """What a worker gets to know by claiming a document.

    Attributes:
        content: What was uploaded.
        chunks_total: How many chunks an earlier attempt found; None when none has.
        chunks_done: How many of them it stored.
        failures: How often an earlier attempt failed for a reason that may pass.
        worker_losses: How many workers it has lost so far, the one before this claim included.
    """

    ingestion: Ingestion
    media_type: str
    charset: str | None
    language: str
    content: bytes
    chunks_total: int | None
    chunks_done: int
    failures: int
    worker_losses: int


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A piece of a document's text.

    Attributes:
        embedding: A vector of length 1; None for none.
        embedding_model: What made it.
    """

    ordinal: int
    text: str
    embedding: Sequence[float] | None = None
    embedding_model: str | None = None


# Of all that can be claimed, the oldest of the organization that has the fewest in work: a thousand documents of one do not
# hold up the one document of another.
_CLAIM = text("""
    WITH claimable AS (
        SELECT DISTINCT ON (organization_id) organization_id, id, available_at FROM documents
        WHERE (CAST(:document_id AS uuid) IS NULL OR (id = :document_id AND organization_id = :organization_id))
          AND (
            (status = 'pending' AND available_at <= now() - make_interval(secs => :overdue_seconds))
            OR (
                status = 'processing'
                AND lease_expires_at < now()
                AND now() > pg_postmaster_start_time() + make_interval(secs => :lease_seconds)
            )
          )
        ORDER BY organization_id, available_at, id
    ), chosen AS (
        SELECT documents.id, documents.organization_id FROM claimable JOIN documents USING (organization_id, id)
        ORDER BY (
            SELECT count(*) FROM documents AS others
            WHERE others.organization_id = claimable.organization_id AND others.status = 'processing'
        ), claimable.available_at
        LIMIT 1
        FOR UPDATE OF documents SKIP LOCKED
    )
    UPDATE documents
    SET status = 'processing',
        attempt = attempt + 1,
        worker_losses = worker_losses + CASE WHEN status = 'processing' THEN 1 ELSE 0 END,
        claimed_by = :claimed_by,
        lease_expires_at = now() + make_interval(secs => :lease_seconds)
    FROM chosen JOIN document_sources
        ON document_sources.document_id = chosen.id AND document_sources.organization_id = chosen.organization_id
    WHERE documents.id = chosen.id
      AND documents.organization_id = chosen.organization_id
      AND (documents.status = 'pending' OR documents.lease_expires_at < now())
    RETURNING documents.*, document_sources.content
""")
_MINE = "id = :document_id AND organization_id = :organization_id AND attempt = :attempt AND status = 'processing'"
_RENEW = text(f"""
    UPDATE documents SET lease_expires_at = now() + make_interval(secs => :lease_seconds) WHERE {_MINE} RETURNING id
""")
_BEGIN = text(f"""
    WITH mine AS (
        UPDATE documents SET chunks_total = :total, chunks_done = 0 WHERE {_MINE} RETURNING id, organization_id
    ), emptied AS (
        DELETE FROM chunks USING mine WHERE document_id = mine.id AND chunks.organization_id = mine.organization_id
    )
    SELECT id FROM mine
""")
_PROGRESS = text(f"UPDATE documents SET chunks_done = chunks_done + :count WHERE {_MINE} RETURNING id")
_INSERT_CHUNK = text("""
    INSERT INTO chunks (organization_id, document_id, ordinal, text, words, embedding, embedding_model)
    VALUES (
        :organization_id, :document_id, :ordinal, :text,
        to_tsvector(CAST(:language AS regconfig), :searchable), CAST(:embedding AS real[]), :embedding_model
    )
""")
_FINISH = text(f"""
    WITH mine AS (
        UPDATE documents
        SET status = :status, error = CAST(:error AS json), lease_expires_at = NULL, ended_at = now()
        WHERE {_MINE}
        RETURNING id, organization_id
    ), source AS (
        DELETE FROM document_sources USING mine
        WHERE document_id = mine.id AND document_sources.organization_id = mine.organization_id
    ), unfinished AS (
        DELETE FROM chunks USING mine
        WHERE document_id = mine.id AND chunks.organization_id = mine.organization_id AND :status = 'failed'
    )
    SELECT id FROM mine
""")
_RELEASE = text(f"""
    UPDATE documents
    SET status = 'pending',
        lease_expires_at = NULL,
        failures = failures + :failures,
        error = coalesce(CAST(:error AS json), error),
        available_at = now() + make_interval(secs => :delay_seconds)
    WHERE {_MINE}
    RETURNING id
""")


async def claim_document(
    connection: AsyncConnection,
    *,
    claimed_by: str,
    lease_seconds: float,
    document: DocumentReference | None = None,
    overdue_seconds: float = 0.0,
) -> ClaimedDocument | None:
    """Take a document to make chunks of it: a pending one, or one in work whose lease has expired.

    Args:
        document: this one; None for whichever organization's turn it is.
        overdue_seconds: of pending ones, only those that could have been claimed for so long.

    Returns:
        None when there is none to be had.
    """
    result = await connection.execute(
        _CLAIM,
        {
            "document_id": document and document.document_id,
            "organization_id": document and document.organization_id,
            "overdue_seconds": overdue_seconds,
            "claimed_by": claimed_by,
            "lease_seconds": lease_seconds,
        },
    )
    row = result.one_or_none()
    if row is None:
        return None
    return ClaimedDocument(
        ingestion=Ingestion(row.organization_id, row.id, row.attempt),
        media_type=row.media_type,
        charset=row.charset,
        language=row.language,
        content=row.content,
        chunks_total=row.chunks_total,
        chunks_done=row.chunks_done,
        failures=row.failures,
        worker_losses=row.worker_losses,
    )


async def renew_ingestion(connection: AsyncConnection, ingestion: Ingestion, *, lease_seconds: float) -> None:
    """Extend the attempt's lease.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _RENEW, ingestion, lease_seconds=lease_seconds)


async def begin_chunks(connection: AsyncConnection, ingestion: Ingestion, *, total: int) -> None:
    """Note how many chunks there will be, and forget those of an earlier attempt.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _BEGIN, ingestion, total=total)


async def store_chunks(
    connection: AsyncConnection, ingestion: Ingestion, *, language: str, chunks: Sequence[NewChunk]
) -> None:
    """Store the next chunks; to be called in a transaction, so that the progress it notes is what is stored.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _PROGRESS, ingestion, count=len(chunks))
    await connection.execute(
        _INSERT_CHUNK,
        [
            {
                "organization_id": ingestion.organization_id,
                "document_id": ingestion.document_id,
                "ordinal": chunk.ordinal,
                "text": chunk.text,
                "searchable": searchable(chunk.text, language),
                "language": language,
                "embedding": None if chunk.embedding is None else list(chunk.embedding),
                "embedding_model": chunk.embedding_model,
            }
            for chunk in chunks
        ],
    )


async def finish_document(
    connection: AsyncConnection, ingestion: Ingestion, *, lacking: dict[str, JsonValue] | None = None
) -> None:
    """Let the document be searched: every chunk is stored, and what was uploaded is not needed any more.

    Args:
        lacking: as an error, what it has to do without.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _FINISH, ingestion, status="ready", error=lacking and to_json(lacking))


async def fail_document(connection: AsyncConnection, ingestion: Ingestion, *, error: dict[str, JsonValue]) -> None:
    """Give the document up.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _FINISH, ingestion, status="failed", error=to_json(error))


async def retry_document(
    connection: AsyncConnection, ingestion: Ingestion, *, error: dict[str, JsonValue], delay_seconds: float
) -> None:
    """Let the document be claimed again after a while, because what went wrong may pass.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _RELEASE, ingestion, failures=1, error=to_json(error), delay_seconds=delay_seconds)


async def give_back_document(connection: AsyncConnection, ingestion: Ingestion) -> None:
    """Let the document be claimed again at once: its worker ends.

    Raises:
        IngestionLost: when the attempt is over.
    """
    await _write(connection, _RELEASE, ingestion, failures=0, error=None, delay_seconds=0.0)


async def _write(connection: AsyncConnection, statement: Any, ingestion: Ingestion, **values: object) -> None:
    written = await connection.scalar(
        statement,
        {
            "organization_id": ingestion.organization_id,
            "document_id": ingestion.document_id,
            "attempt": ingestion.attempt,
            **values,
        },
    )
    if written is None:
        raise IngestionLost(ingestion.document_id, ingestion.attempt)
