"""The knowledge base: documents, and the chunks they are cut into for searching."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    REAL,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

from worker.storage.schema.base import (
    count_column,
    created_at_column,
    id_column,
    metadata,
    organization_column,
    tenant_column,
    time_column,
)

DOCUMENT_STATUSES = ("pending", "processing", "ready", "failed")

documents = Table(
    "documents",
    metadata,
    id_column(),
    organization_column(),
    Column("name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    # Of its text, declared by a `charset`; NULL when nobody said.
    Column("charset", Text),
    # The text search configuration of PostgreSQL that its words are read by.
    Column("language", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    # {"code", "message"}: why it failed or why its last attempt did; of a ready one, what it has to do without.
    Column("error", JSON),
    # NULL until the document has been read.
    Column("chunks_total", Integer),
    count_column("chunks_done"),
    # The fencing token, as that of a turn.
    count_column("attempt"),
    count_column("failures"),
    count_column("worker_losses"),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("claimed_by", Text),
    time_column("lease_expires_at"),
    created_at_column(),
    time_column("ended_at"),
    CheckConstraint("status IN ('pending', 'processing', 'ready', 'failed')", name="status"),
    CheckConstraint("(status = 'processing') = (lease_expires_at IS NOT NULL)", name="lease"),
    CheckConstraint("(status IN ('ready', 'failed')) = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="error"),
    Index(None, "organization_id", "created_at", "id"),
    Index(
        "ix_documents_unfinished",
        "organization_id",
        "available_at",
        postgresql_where=text("status IN ('pending', 'processing')"),
    ),
)

# What was uploaded, apart from the row that changes, and only for as long as it has not become chunks.
document_sources = Table(
    "document_sources",
    metadata,
    Column("document_id", Uuid, ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    tenant_column(),
    Column("content", LargeBinary, nullable=False),
)

chunks = Table(
    "chunks",
    metadata,
    tenant_column(),
    Column("document_id", Uuid, ForeignKey("documents.id", ondelete="CASCADE"), nullable=False),
    # Its place in the document, from 0.
    Column("ordinal", Integer, nullable=False),
    Column("text", Text, nullable=False),
    # No generated column: it is made of the text as `searchable` prepares it, by the configuration of its document.
    Column("words", TSVECTOR, nullable=False),
    # Of length 1, so that the inner product of two is their cosine; NULL when it was stored without one.
    Column("embedding", ARRAY(REAL)),
    # The model that made the embedding. Only those of one model and one length are ever compared.
    Column("embedding_model", Text),
    PrimaryKeyConstraint("document_id", "ordinal"),
    CheckConstraint("(embedding IS NULL) = (embedding_model IS NULL)", name="embedding"),
    Index("ix_chunks_words", "words", postgresql_using="gin"),
)
