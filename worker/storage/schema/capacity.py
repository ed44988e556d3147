"""How much there is to share: the worker processes that live, and what each organization may still enqueue."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Float, Integer, PrimaryKeyConstraint, Table, Text, func

from worker.storage.schema.base import metadata, tenant_column, time_column

# A worker process says every second that it lives. Belongs to no organization: all share them.
worker_processes = Table(
    "worker_processes",
    metadata,
    Column("name", Text, primary_key=True),
    # How many turns it runs at once.
    Column("concurrency", Integer, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    time_column("seen_at", nullable=False),
    # One row per process, updated each second: room on the page keeps the table small.
    postgresql_with={"fillfactor": "50"},
)

# A token bucket for each organization whose rate of enqueueing is limited.
enqueue_rates = Table(
    "enqueue_rates",
    metadata,
    tenant_column(),
    # How many turns could be enqueued at once, at `refilled_at`.
    Column("available", Float, nullable=False),
    time_column("refilled_at", nullable=False),
    PrimaryKeyConstraint("organization_id"),
)
