"""The steps of turns that are not over yet."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Uuid

from worker.storage.schema.base import created_at_column, metadata, tenant_column

# What a turn has done so far, written before it goes on, so that another attempt need not do it again. Insert-only.
journal_steps = Table(
    "journal_steps",
    metadata,
    tenant_column(),
    Column("turn_id", Uuid, ForeignKey("turns.id"), nullable=False),
    # The step's place in its turn, from 1, whichever attempt wrote it.
    Column("number", Integer, nullable=False),
    # The attempt that wrote it; its fence.
    Column("attempt", Integer, nullable=False),
    Column("step", JSON, nullable=False),
    created_at_column(),
    PrimaryKeyConstraint("turn_id", "number"),
    # As the outbox has it: what has grown old is found by time.
    Index("ix_journal_steps_created_at", "created_at", postgresql_using="brin"),
)
