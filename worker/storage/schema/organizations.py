"""Organizations with their secrets and keys, their workflows, and the answers they were given."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from worker.storage.schema.base import (
    created_at_column,
    id_column,
    metadata,
    organization_column,
    tenant_column,
    time_column,
)

organizations = Table(
    "organizations",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    # The organization's ModelConfiguration; a definition's model_overrides replace it field by field.
    Column("model_defaults", JSON),
    # The organization's OrganizationSettings, as far as they are not the defaults.
    Column("settings", JSON, nullable=False, server_default=text("'{}'")),
    created_at_column(),
)

secrets = Table(
    "secrets",
    metadata,
    organization_column(),
    Column("name", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    created_at_column(),
    time_column("updated_at", nullable=False),
    # `plain`: a key such as an LLM provider's. Else the kind of credential that is encrypted, as JSON.
    Column("kind", Text, nullable=False, server_default=text("'plain'")),
    PrimaryKeyConstraint("organization_id", "name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    id_column(),
    organization_column(),
    Column("name", Text, nullable=False),
    # SHA-256 of the key. A key has 256 random bits, so a slow password hash would protect nothing.
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    # The key's first characters, so that a person can tell one key from another.
    Column("hint", Text, nullable=False),
    created_at_column(),
    time_column("revoked_at"),
)

workflows = Table(
    "workflows",
    metadata,
    id_column(),
    organization_column(),
    Column("name", Text, nullable=False),
    created_at_column(),
    Index(None, "organization_id", "created_at", "id"),
)

# Immutable: a change of a workflow is a new row with the next version number.
workflow_definitions = Table(
    "workflow_definitions",
    metadata,
    id_column(),
    organization_column(),
    Column("workflow_id", Uuid, ForeignKey("workflows.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    created_at_column(),
    # The version of each tool that the definition was stored with, by the tool's id.
    Column("tool_pins", JSON, nullable=False, server_default=text("'{}'")),
    UniqueConstraint("workflow_id", "number"),
)

# What a POST with an Idempotency-Key was answered, so that a repeated one is answered the same.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    tenant_column(),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("key", Text, nullable=False),
    # SHA-256 of the request's body.
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status_code", Integer),
    Column("headers", JSON),
    Column("body", JSON),
    created_at_column(),
    PrimaryKeyConstraint("organization_id", "method", "path", "key"),
    Index(None, "created_at"),
)
