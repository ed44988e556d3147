"""What is done once when a session ends, and whom it was told to."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from worker.storage.schema.base import (
    count_column,
    created_at_column,
    id_column,
    metadata,
    tenant_column,
    time_column,
)

# One for each session that ended, written by the transaction that ended it. Its id names everything it does to others.
session_completions = Table(
    "session_completions",
    metadata,
    id_column(),
    tenant_column(),
    Column("session_id", Uuid, ForeignKey("sessions.id"), nullable=False, unique=True),
    # The turn that ended the session; NULL where it was ended from outside, and nothing was extracted at its end.
    Column("turn_id", Uuid),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    # The fencing token, as of turns.
    count_column("attempt"),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    time_column("rung_at"),
    Column("claimed_by", Text),
    time_column("lease_expires_at"),
    # What the conversation had learned once the final extraction was done; NULL until then.
    Column("gathered_context", JSON),
    # {"code", "message"}: why it was given up.
    Column("error", JSON),
    created_at_column(),
    time_column("ended_at"),
    CheckConstraint("status IN ('pending', 'running', 'completed', 'failed')", name="status"),
    CheckConstraint("(status = 'running') = (lease_expires_at IS NOT NULL)", name="lease"),
    CheckConstraint("(status IN ('completed', 'failed')) = (ended_at IS NOT NULL)", name="ended"),
    Index("ix_session_completions_open", "available_at", postgresql_where=text("status IN ('pending', 'running')")),
)

# How the webhook of one node fared. No row: it was not tried yet.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    tenant_column(),
    Column("completion_id", Uuid, ForeignKey("session_completions.id"), nullable=False),
    Column("node_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    count_column("attempts"),
    # The status code of the last answer; NULL if there was none.
    Column("status_code", Integer),
    # Why the last attempt failed.
    Column("error", Text),
    time_column("updated_at", nullable=False),
    # When it is due again; NULL if it is over, or due at once.
    time_column("next_attempt_at"),
    PrimaryKeyConstraint("completion_id", "node_id"),
    CheckConstraint("status IN ('retrying', 'delivered', 'failed')", name="status"),
)
