"""Recordings: what voice plays, and what text shows in its place."""

from __future__ import annotations

from sqlalchemy import JSON, Column, PrimaryKeyConstraint, Table, Text, text

from worker.storage.schema.base import created_at_column, metadata, organization_column

# Workflows refer to a recording by the id that its owner gave it, which is text and unique within the organization.
recordings = Table(
    "recordings",
    metadata,
    organization_column(),
    Column("id", Text, nullable=False),
    Column("transcript", Text, nullable=False),
    Column("name", Text),
    Column("url", Text),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    created_at_column(),
    PrimaryKeyConstraint("organization_id", "id"),
)
