"""Alembic migrations, applied by `worker.storage.migrate`."""
