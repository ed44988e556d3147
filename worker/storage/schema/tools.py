"""Tools with their numbered versions."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Uuid,
)

from worker.storage.schema.base import (
    created_at_column,
    metadata,
    organization_column,
    tenant_column,
    time_column,
)

# An organization may choose a tool's id, to keep that of an exported workflow; so ids are unique only within it.
tools = Table(
    "tools",
    metadata,
    organization_column(),
    Column("id", Uuid, nullable=False),
    created_at_column(),
    # Since then no new definition may use it; those that pin it go on.
    time_column("deleted_at"),
    PrimaryKeyConstraint("organization_id", "id"),
    Index(None, "organization_id", "created_at", "id"),
)

# Immutable: a change of a tool is a new row with the next version number.
tool_versions = Table(
    "tool_versions",
    metadata,
    tenant_column(),
    Column("tool_id", Uuid, nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    created_at_column(),
    PrimaryKeyConstraint("organization_id", "tool_id", "version"),
    ForeignKeyConstraint(["organization_id", "tool_id"], ["tools.organization_id", "tools.id"]),
)
