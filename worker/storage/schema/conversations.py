"""Sessions, their turns, and everything that turns leave behind."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from worker.storage.schema.base import (
    count_column,
    created_at_column,
    id_column,
    metadata,
    organization_column,
    tenant_column,
    time_column,
)

# A tree of turns with a head. The row is also the lock and the counter of everything that happens in the session.
sessions = Table(
    "sessions",
    metadata,
    id_column(),
    organization_column(),
    Column("workflow_id", Uuid, ForeignKey("workflows.id"), nullable=False),
    Column("definition_id", Uuid, ForeignKey("workflow_definitions.id"), nullable=False),
    Column("external_id", Text),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default=text("'running'")),
    # Why the session is over; while it is still running, why it will be once its running turn is: it takes no more turns.
    Column("end_reason", Text),
    # What came of the conversation, as whoever ended it said.
    Column("disposition", Text),
    # What a further message does while the session is busy, if the message itself does not say.
    Column("on_busy", Text, nullable=False, server_default=text("'enqueue'")),
    # How long a merged turn waits for more messages, in seconds.
    Column("merge_window_seconds", Float, nullable=False, server_default=text("2")),
    # The definition's limits, in seconds: without a word, and in all. NULL is none.
    Column("idle_limit_seconds", Float),
    Column("duration_limit_seconds", Float),
    # When to look next whether a limit is exceeded. It may come too early, never too late, so activity need not move it.
    time_column("check_limits_at"),
    # Where a fork comes from. No foreign keys: it does not depend on its source.
    Column("forked_from_session_id", Uuid),
    Column("forked_from_turn_id", Uuid),
    Column("initial_context", JSON, nullable=False, server_default=text("'{}'")),
    # When further initial context was fetched, or the attempt to do so failed: it is made once.
    time_column("fetched_at"),
    # The checkpoint the session was created with; never changes. NULL is the empty one.
    Column("checkpoint", JSON),
    # No foreign key: it would look through all sessions for each turn that is erased.
    Column("head_turn_id", Uuid),
    count_column("revision"),
    count_column("last_position"),
    Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
    created_at_column(),
    time_column("ended_at"),
    CheckConstraint("state IN ('running', 'completed')", name="state"),
    CheckConstraint("(state = 'completed') = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("on_busy IN ('enqueue', 'reject', 'interrupt', 'replace', 'merge')", name="on_busy"),
    Index(None, "organization_id", "created_at", "id"),
    Index(None, "organization_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
    Index(None, "workflow_id"),
    Index("ix_sessions_limited", "check_limits_at", postgresql_where=text("state = 'running'")),
    Index("ix_sessions_ending", "id", postgresql_where=text("state = 'running' AND end_reason IS NOT NULL")),
    # Each turn updates its session's row a few times; room on the page keeps those updates off the indexes.
    postgresql_with={"fillfactor": "70"},
)

TURN_STATUSES = ("scheduled", "pending", "running", "completed", "failed", "cancelled")

turns = Table(
    "turns",
    metadata,
    id_column(),
    tenant_column(),
    Column("session_id", Uuid, ForeignKey("sessions.id"), nullable=False),
    # The place in the session's line, from 1; given at enqueue, or when a scheduled turn's time comes.
    Column("position", Integer),
    # The session's head when the turn was claimed.
    Column("parent_turn_id", Uuid, ForeignKey("turns.id")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    # An opening turn has no user message: the agent speaks first.
    Column("opening", Boolean, nullable=False, server_default=text("false")),
    # [{"text"}], and "turn_id" if the message was taken over: the turn that it was first said to.
    Column("user_messages", JSON, nullable=False, server_default=text("'[]'")),
    # The turn that this one tries again, and the first of the chain if that one was a retry itself (or else the same).
    Column("retry_of_turn_id", Uuid, ForeignKey("turns.id")),
    Column("retry_root_turn_id", Uuid),
    # The turn in whose place this one stands, retried or interrupted: its finished tool calls need not be made again.
    Column("carries_over_turn_id", Uuid, ForeignKey("turns.id")),
    # A scheduled turn stands in no line before this time.
    time_column("not_before"),
    Column("external_id", Text),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    # The fencing token: every write of an attempt says which attempt it is.
    count_column("attempt"),
    count_column("provider_failures"),
    count_column("worker_losses"),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Of two turns of one organization that wait for a worker, the one with the higher number goes first.
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    # Nothing stands before it in its line, and no worker was rung for it yet: the backlog.
    Column("waiting", Boolean, nullable=False, server_default=text("false")),
    # When a worker was last rung for it; NULL while nobody is expected to take it.
    time_column("rung_at"),
    # Which of the places it takes, of those its organization has for turns that run at once; NULL without such a limit.
    Column("running_slot", Integer),
    time_column("first_claimed_at"),
    time_column("claimed_at"),
    Column("claimed_by", Text),
    time_column("lease_expires_at"),
    Column("assistant_text", Text),
    time_column("assistant_created_at"),
    # {"code", "message", "retryable"}: why the turn failed, or why its last attempt did.
    Column("error", JSON),
    # The checkpoint after the turn without its messages, which are in `messages`.
    Column("checkpoint", JSON),
    # The W3C trace context of whoever asked for it: {"traceparent", "tracestate"}.
    Column("trace_context", JSON),
    # The turn's messages are the whole context, not an addition to its parent's.
    Column("replaces_context", Boolean, nullable=False, server_default=text("false")),
    created_at_column(),
    time_column("ended_at"),
    UniqueConstraint("session_id", "position"),
    CheckConstraint("status IN ('scheduled', 'pending', 'running', 'completed', 'failed', 'cancelled')", name="status"),
    CheckConstraint("position IS NOT NULL OR status IN ('scheduled', 'cancelled')", name="position"),
    CheckConstraint("status <> 'scheduled' OR (position IS NULL AND not_before IS NOT NULL)", name="schedule"),
    CheckConstraint("(status = 'running') = (lease_expires_at IS NOT NULL)", name="lease"),
    CheckConstraint("(status IN ('completed', 'failed', 'cancelled')) = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="error"),
    Index("uq_turns_one_running_per_session", "session_id", unique=True, postgresql_where=text("status = 'running'")),
    Index("ix_turns_line", "session_id", "position", postgresql_where=text("status IN ('pending', 'running')")),
    Index("ix_turns_scheduled", "not_before", postgresql_where=text("status = 'scheduled'")),
    Index(None, "session_id", postgresql_where=text("status = 'scheduled'")),
    Index(
        "uq_turns_running_slot",
        "organization_id",
        "running_slot",
        unique=True,
        postgresql_where=text("status = 'running' AND running_slot IS NOT NULL"),
    ),
    Index("ix_turns_pending", "organization_id", "available_at", postgresql_where=text("status = 'pending'")),
    Index("ix_turns_rung", "rung_at", postgresql_where=text("status = 'pending' AND rung_at IS NOT NULL")),
    Index(
        "ix_turns_waiting",
        "organization_id",
        text("priority DESC"),
        "available_at",
        "id",
        postgresql_where=text("status = 'pending' AND waiting"),
    ),
    Index(None, "organization_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
    Index(None, "parent_turn_id", postgresql_where=text("parent_turn_id IS NOT NULL")),
    Index(None, "retry_of_turn_id", postgresql_where=text("retry_of_turn_id IS NOT NULL")),
    Index(None, "carries_over_turn_id", postgresql_where=text("carries_over_turn_id IS NOT NULL")),
    postgresql_with={"fillfactor": "70"},
)

# What a completed turn added to the context, in the provider's own form.
messages = Table(
    "messages",
    metadata,
    tenant_column(),
    Column("turn_id", Uuid, ForeignKey("turns.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("message", JSON, nullable=False),
    PrimaryKeyConstraint("turn_id", "ordinal"),
)

# The session's numbered event log, and the transactional outbox of the channel: `published_at IS NULL` is still to be sent.
outbox = Table(
    "outbox",
    metadata,
    tenant_column(),
    Column("session_id", Uuid, ForeignKey("sessions.id"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("turn_id", Uuid, ForeignKey("turns.id")),
    Column("type", Text, nullable=False),
    Column("payload", JSON, nullable=False, server_default=text("'{}'")),
    # The session's revision since this event, if the event raised it.
    Column("revision", Integer),
    created_at_column(),
    time_column("published_at"),
    PrimaryKeyConstraint("session_id", "sequence"),
    Index(None, "turn_id", "sequence"),
    # Events come in the order of time, so a few bytes for every hundred pages find the old ones.
    Index("ix_outbox_created_at", "created_at", postgresql_using="brin"),
    Index("ix_outbox_unpublished", "created_at", postgresql_where=text("published_at IS NULL")),
)

# Insert-only ledger: what was paid for, also by attempts that failed, were cancelled or lost.
usage_entries = Table(
    "usage_entries",
    metadata,
    tenant_column(),
    # No foreign key: what was paid for stays in the books when the conversation is erased.
    Column("turn_id", Uuid, nullable=False),
    Column("attempt", Integer, nullable=False),
    # The LLM call's number within the attempt, from 1.
    Column("call", Integer, nullable=False),
    Column("processor", Text, nullable=False),
    Column("model", Text, nullable=False),
    count_column("prompt_tokens"),
    count_column("completion_tokens"),
    count_column("total_tokens"),
    count_column("cache_read_input_tokens"),
    count_column("cache_creation_input_tokens"),
    # What the call was for: conversation, extraction, compaction ...
    Column("purpose", Text, nullable=False, server_default=text("'conversation'")),
    created_at_column(),
    PrimaryKeyConstraint("turn_id", "attempt", "call"),
    Index("ix_usage_entries_organization_id_created_at", "organization_id", "created_at"),
)
