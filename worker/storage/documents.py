"""Documents of the knowledge base: uploaded, read, listed, deleted. How they become chunks is `worker.storage.ingestions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import bindparam, delete, func, select, text, tuple_
from uuid_utils.compat import uuid7

from worker.errors import TurnWorkerError
from worker.storage.database import to_json
from worker.storage.schema import documents

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

SIMPLE = "simple"
"""The language of documents in no particular one: words are compared as they are written, or by how they begin."""


class DocumentNotFound(TurnWorkerError):
    """The organization has no such document."""

    code = "document_not_found"

    def __init__(self, document_id: UUID) -> None:
        super().__init__(document_id)
        self.document_id = document_id

    def __str__(self) -> str:
        return f"There is no document {self.document_id}."


class UnknownLanguage(TurnWorkerError):
    """The database has no text search configuration of that name."""

    code = "unknown_language"

    def __init__(self, language: str, known: tuple[str, ...]) -> None:
        super().__init__(language, known)
        self.language = language
        self.known = known

    def __str__(self) -> str:
        return f"The database knows no language {self.language!r}. It knows {', '.join(self.known)}."


@dataclass(frozen=True, slots=True)
class DocumentReference:
    """All that a message of the queue carries about a document."""

    organization_id: UUID
    document_id: UUID


@dataclass(frozen=True, slots=True)
class DocumentError:
    """Why a document, or its last attempt, failed, or what a ready one has to do without."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document without what is in it.

    Attributes:
        language: How its words are read: a text search configuration of PostgreSQL.
        chunks_total: How many chunks it has; None until it has been read.
        chunks_done: How many of them can be searched.
        ended_at: When it became ready or failed.
    """

    id: UUID
    organization_id: UUID
    name: str
    media_type: str
    language: str
    size_bytes: int
    metadata: dict[str, Any]
    status: Literal["pending", "processing", "ready", "failed"]
    error: DocumentError | None
    chunks_total: int | None
    chunks_done: int
    created_at: datetime
    ended_at: datetime | None


_COLUMNS = (
    documents.c.id,
    documents.c.organization_id,
    documents.c.name,
    documents.c.media_type,
    documents.c.language,
    documents.c.size_bytes,
    documents.c.metadata,
    documents.c.status,
    documents.c.error,
    documents.c.chunks_total,
    documents.c.chunks_done,
    documents.c.created_at,
    documents.c.ended_at,
)
_CREATE = text("""
    WITH document AS (
        INSERT INTO documents (id, organization_id, name, media_type, charset, language, size_bytes, metadata)
        SELECT :id, :organization_id, :name, :media_type, :charset, cfgname, octet_length(:content), CAST(:metadata AS json)
        FROM pg_ts_config WHERE cfgname = :language AND pg_ts_config_is_visible(oid)
        RETURNING id, organization_id, created_at
    )
    INSERT INTO document_sources (document_id, organization_id, content)
    SELECT id, organization_id, :content FROM document
    RETURNING (SELECT created_at FROM document)
""")
_LANGUAGES = text("SELECT DISTINCT cfgname FROM pg_ts_config WHERE pg_ts_config_is_visible(oid) ORDER BY cfgname")
_OWN = documents.c.organization_id == bindparam("organization_id")
_GET = select(*_COLUMNS).where(_OWN, documents.c.id == bindparam("document_id"))
_DELETE = delete(documents).where(_OWN, documents.c.id == bindparam("document_id")).returning(documents.c.id)
_LIST = (
    select(*_COLUMNS)
    .where(_OWN)
    .order_by(documents.c.created_at.desc(), documents.c.id.desc())
    .limit(bindparam("limit"))
)
_LIST_AFTER = _LIST.where(
    tuple_(documents.c.created_at, documents.c.id) < tuple_(bindparam("created_at"), bindparam("id"))
)
_EXISTING = select(documents.c.id).where(_OWN, documents.c.id == func.any(bindparam("document_ids")))


async def create_document(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    name: str,
    media_type: str,
    content: bytes,
    charset: str | None = None,
    language: str = SIMPLE,
    metadata: Mapping[str, JsonValue] | None = None,
) -> Document:
    """Store a document, pending: whoever claims it makes chunks of it.

    Raises:
        UnknownLanguage: when the database has no text search configuration of that name.
    """
    document_id: UUID = uuid7()
    values = {
        "id": document_id,
        "organization_id": organization_id,
        "name": name,
        "media_type": media_type,
        "charset": charset,
        "language": language,
        "content": content,
        "metadata": to_json(dict(metadata or {})),
    }
    created_at = await connection.scalar(_CREATE, values)
    if created_at is None:
        raise UnknownLanguage(language, tuple(await connection.scalars(_LANGUAGES)))
    return Document(
        id=document_id,
        organization_id=organization_id,
        name=name,
        media_type=media_type,
        language=language,
        size_bytes=len(content),
        metadata=dict(metadata or {}),
        status="pending",
        error=None,
        chunks_total=None,
        chunks_done=0,
        created_at=created_at,
        ended_at=None,
    )


async def get_document(connection: AsyncConnection, *, organization_id: UUID, document_id: UUID) -> Document:
    """Read a document.

    Raises:
        DocumentNotFound: when the organization has no such one.
    """
    result = await connection.execute(_GET, {"organization_id": organization_id, "document_id": document_id})
    row = result.one_or_none()
    if row is None:
        raise DocumentNotFound(document_id)
    return _document(row)


async def list_documents(
    connection: AsyncConnection, *, organization_id: UUID, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[Document]:
    """The organization's documents, newest first; `after` is the last one's `(created_at, id)` of the page before."""
    values: dict[str, object] = {"organization_id": organization_id, "limit": limit}
    if after is None:
        result = await connection.execute(_LIST, values)
    else:
        result = await connection.execute(_LIST_AFTER, {**values, "created_at": after[0], "id": after[1]})
    return [_document(row) for row in result]


async def delete_document(connection: AsyncConnection, *, organization_id: UUID, document_id: UUID) -> None:
    """Delete a document with its chunks. Nodes that may search it find nothing of it from now on.

    Raises:
        DocumentNotFound: when the organization has no such one.
    """
    values = {"organization_id": organization_id, "document_id": document_id}
    if await connection.scalar(_DELETE, values) is None:
        raise DocumentNotFound(document_id)


async def existing_documents(
    connection: AsyncConnection, *, organization_id: UUID, document_ids: Collection[UUID]
) -> set[UUID]:
    """Which of these documents the organization has, ready or not."""
    values = {"organization_id": organization_id, "document_ids": list(document_ids)}
    return set(await connection.scalars(_EXISTING, values))


def _document(row: Any) -> Document:
    fields = row._asdict()
    return Document(**fields | {"error": fields["error"] and DocumentError(**fields["error"])})
