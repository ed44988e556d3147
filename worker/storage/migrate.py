"""Bring a database to the schema this program needs."""

from __future__ import annotations

from dataclasses import dataclass
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
    """The database lacks migrations that this program needs."""

    code = "schema_outdated"


@dataclass(frozen=True, slots=True)
class SchemaRevisions:
    """The revisions of the schema that this program knows.

    Attributes:
        head: The one it was written for.
        earlier: Those before it.
    """

    head: str
    earlier: frozenset[str]

    def trouble(self, found: str | None) -> str | None:
        """Say what is wrong with a database at the revision `found`; None when this program can use it.

        A revision unknown here is a later release's. Its migrations run while this release does (`pre`), or after the
        last process of it is gone (`post`), so it is safe: refusing it would take down every process that starts anew
        in the middle of an upgrade.
        """
        if found is not None and found not in self.earlier:
            return None
        return (
            f"The database's schema is at revision {found or 'none'}, and this program needs {self.head}. "
            "Run `turn-worker migrate`."
        )


def migrate(database_url: str) -> tuple[str | None, str]:
    """Apply every migration the database does not have yet, in one transaction.

    Idempotent, and safe when several run at once: they take turns behind an advisory lock, and all but the first
    find nothing to do. A migration that fails leaves the database as it was, and a later release's schema stays.

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
            revisions = schema_revisions()
            if before is not None and revisions.trouble(before) is None:
                return before, before
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return before, revisions.head
    except OperationalError as error:
        raise unavailable(error) from error
    finally:
        engine.dispose()


def schema_revisions() -> SchemaRevisions:
    """Read the revisions from the migrations that this program ships."""
    scripts = ScriptDirectory.from_config(_config())
    head = scripts.get_current_head()
    if head is None:
        raise AssertionError("the package ships no migrations")
    return SchemaRevisions(head, frozenset(script.revision for script in scripts.walk_revisions()) - {head})


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
