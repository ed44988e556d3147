"""Alembic's entry point. The connection comes from `worker.storage.migrate`, inside its transaction."""

from __future__ import annotations

from alembic import context

from worker.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
