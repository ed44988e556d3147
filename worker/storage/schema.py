"""The tables. PostgreSQL is the truth: what is not here did not happen.

Conventions: every row names its organization; ids are UUIDv7, made by the program; time is the database's
(`now()`); JSON that is only kept and handed back is `json`, which returns the very text that was stored.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[object]:
    return Column("id", Uuid, primary_key=True)


def _organization_id() -> Column[object]:
    return Column("organization_id", Uuid, ForeignKey("organizations.id"), nullable=False)


def _tenant() -> Column[object]:
    # No foreign key where rows are many: each insert would lock the organization's row against the others'.
    return Column("organization_id", Uuid, nullable=False)


def _time(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _created_at() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def _count(name: str) -> Column[object]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


organizations = Table(
    "organizations",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    # The organization's ModelConfiguration; a definition's model_overrides replace it field by field.
    Column("model_defaults", JSON),
    _created_at(),
)

secrets = Table(
    "secrets",
    metadata,
    _organization_id(),
    Column("name", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    _created_at(),
    _time("updated_at", nullable=False),
    PrimaryKeyConstraint("organization_id", "name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _organization_id(),
    Column("name", Text, nullable=False),
    # SHA-256 of the key. A key has 256 random bits, so a slow password hash would protect nothing.
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    # The key's first characters, so that a person can tell one key from another.
    Column("hint", Text, nullable=False),
    _created_at(),
    _time("revoked_at"),
)

workflows = Table(
    "workflows",
    metadata,
    _id(),
    _organization_id(),
    Column("name", Text, nullable=False),
    _created_at(),
    Index(None, "organization_id", "created_at", "id"),
)

# Immutable: a change of a workflow is a new row with the next number.
workflow_definitions = Table(
    "workflow_definitions",
    metadata,
    _id(),
    _organization_id(),
    Column("workflow_id", Uuid, ForeignKey("workflows.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    _created_at(),
    UniqueConstraint("workflow_id", "number"),
)

SESSION_STATES = ("running", "completed")

# A tree of turns with a head. The row is also the lock and the counter of everything that happens in the session.
sessions = Table(
    "sessions",
    metadata,
    _id(),
    _organization_id(),
    Column("workflow_id", Uuid, ForeignKey("workflows.id"), nullable=False),
    Column("definition_id", Uuid, ForeignKey("workflow_definitions.id"), nullable=False),
    Column("external_id", Text),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default=text("'running'")),
    Column("end_reason", Text),
    Column("initial_context", JSON, nullable=False, server_default=text("'{}'")),
    # The checkpoint the session was created with; never changes. NULL is the empty one.
    Column("checkpoint", JSON),
    Column("head_turn_id", Uuid, ForeignKey("turns.id", use_alter=True)),
    _count("revision"),
    _count("last_position"),
    Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
    _created_at(),
    _time("ended_at"),
    CheckConstraint("state IN ('running', 'completed')", name="state"),
    CheckConstraint("(state = 'completed') = (ended_at IS NOT NULL)", name="ended"),
    Index(None, "organization_id", "created_at", "id"),
    Index(None, "organization_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
    Index(None, "workflow_id"),
    # Each turn updates its session's row a few times; room on the page keeps those updates off the indexes.
    postgresql_with={"fillfactor": "70"},
)

TURN_STATUSES = ("pending", "running", "completed", "failed", "cancelled")

turns = Table(
    "turns",
    metadata,
    _id(),
    _tenant(),
    Column("session_id", Uuid, ForeignKey("sessions.id"), nullable=False),
    # The place in the session's line, given at enqueue, from 1.
    Column("position", Integer, nullable=False),
    # The session's head when the turn was claimed.
    Column("parent_turn_id", Uuid, ForeignKey("turns.id")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    # An opening turn has no user message: the agent speaks first.
    Column("opening", Boolean, nullable=False, server_default=text("false")),
    Column("user_messages", JSON, nullable=False, server_default=text("'[]'")),
    Column("external_id", Text),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    # The fencing token: every write of an attempt says which attempt it is.
    _count("attempt"),
    _count("provider_failures"),
    _count("worker_losses"),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # When a sweep last rang for the turn; NULL since it last became claimable.
    _time("rung_at"),
    _time("first_claimed_at"),
    _time("claimed_at"),
    Column("claimed_by", Text),
    _time("lease_expires_at"),
    Column("assistant_text", Text),
    _time("assistant_created_at"),
    # {"code", "message", "retryable"}: why the turn failed, or why its last attempt did.
    Column("error", JSON),
    # The checkpoint after the turn without its messages, which are in `messages`.
    Column("checkpoint", JSON),
    # The turn's messages are the whole context, not an addition to its parent's.
    Column("replaces_context", Boolean, nullable=False, server_default=text("false")),
    _created_at(),
    _time("ended_at"),
    UniqueConstraint("session_id", "position"),
    CheckConstraint("status IN ('pending', 'running', 'completed', 'failed', 'cancelled')", name="status"),
    CheckConstraint("(status = 'running') = (lease_expires_at IS NOT NULL)", name="lease"),
    CheckConstraint("(status IN ('completed', 'failed', 'cancelled')) = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="error"),
    Index("uq_turns_one_running_per_session", "session_id", unique=True, postgresql_where=text("status = 'running'")),
    Index("ix_turns_line", "session_id", "position", postgresql_where=text("status IN ('pending', 'running')")),
    Index("ix_turns_pending", "available_at", postgresql_where=text("status = 'pending'")),
    Index(None, "organization_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
    Index(None, "parent_turn_id", postgresql_where=text("parent_turn_id IS NOT NULL")),
    postgresql_with={"fillfactor": "70"},
)

# What a completed turn added to the context, in the provider's own form.
messages = Table(
    "messages",
    metadata,
    _tenant(),
    Column("turn_id", Uuid, ForeignKey("turns.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("message", JSON, nullable=False),
    PrimaryKeyConstraint("turn_id", "ordinal"),
)

# The session's numbered event log, and the transactional outbox of the channel: `published_at IS NULL` is still to be sent.
outbox = Table(
    "outbox",
    metadata,
    _tenant(),
    Column("session_id", Uuid, ForeignKey("sessions.id"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("turn_id", Uuid, ForeignKey("turns.id")),
    Column("type", Text, nullable=False),
    Column("payload", JSON, nullable=False, server_default=text("'{}'")),
    # The session's revision since this event, if the event raised it.
    Column("revision", Integer),
    _created_at(),
    _time("published_at"),
    PrimaryKeyConstraint("session_id", "sequence"),
    Index(None, "turn_id", "sequence"),
    Index("ix_outbox_unpublished", "created_at", postgresql_where=text("published_at IS NULL")),
)

# Insert-only ledger: what was paid for, also by attempts that failed, were cancelled or lost.
usage_entries = Table(
    "usage_entries",
    metadata,
    _tenant(),
    Column("turn_id", Uuid, ForeignKey("turns.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    # The LLM call's number within the attempt, from 1.
    Column("call", Integer, nullable=False),
    Column("processor", Text, nullable=False),
    Column("model", Text, nullable=False),
    _count("prompt_tokens"),
    _count("completion_tokens"),
    _count("total_tokens"),
    _count("cache_read_input_tokens"),
    _count("cache_creation_input_tokens"),
    _created_at(),
    PrimaryKeyConstraint("turn_id", "attempt", "call"),
)

# What a POST with an Idempotency-Key was answered, so that a repeated one is answered the same.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _tenant(),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("key", Text, nullable=False),
    # SHA-256 of the request's body.
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status_code", Integer),
    Column("headers", JSON),
    Column("body", JSON),
    _created_at(),
    PrimaryKeyConstraint("organization_id", "method", "path", "key"),
    Index(None, "created_at"),
)
