"""Bring a database to the schema this program needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from worker.errors import TurnWorkerError
from worker.storage.database import sqlalchemy_url, unavailable

# An arbitrary constant: whoever holds this advisory lock is migrating.
_MIGRATION_LOCK = 7_305_881_246_051


class SchemaOutdated(TurnWorkerError):
    """The database's schema is not the one this program was written for."""

    code = "schema_outdated"


def migrate(database_url: str) -> tuple[str | None, str]:
    """Apply every migration the database does not have yet, in one transaction.

    Idempotent, and safe when several run at once: they take turns behind an advisory lock, and all but the first
    find nothing to do. A migration that fails leaves the database as it was.

    Returns:
        The schema revision before (None: an empty database) and after.

    Raises:
        DatabaseUnavailable: when the server cannot be reached or refuses the login.
    """
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            before = _revision(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return before, expected_revision()
    except OperationalError as error:
        raise unavailable(error) from error
    finally:
        engine.dispose()


def expected_revision() -> str:
    """The schema revision this program was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise AssertionError("the package ships no migrations")
    return head


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
