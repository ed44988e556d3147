"""Migrations: idempotent, safe side by side, and equal to the models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine

from worker.storage.database import DatabaseUnavailable, sqlalchemy_url
from worker.storage.migrate import SchemaRevisions, migrate, schema_revisions
from worker.storage.schema import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded.postgres import EmbeddedPostgres

_CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'alembic_version'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'""",
    "options": """
        SELECT relname, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'""",
}


@pytest.fixture
def empty_database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    name = f"empty_{uuid4().hex}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.database_url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def catalog(url: str) -> dict[str, set[Any]]:
    with psycopg.connect(url) as connection:
        return {kind: {tuple(map(str, row)) for row in connection.execute(query)} for kind, query in _CATALOG.items()}


def test_the_models_equal_the_migrated_schema_to_the_last_constraint(
    database_url: str, empty_database_url: str
) -> None:
    engine = create_engine(sqlalchemy_url(empty_database_url))
    metadata.create_all(engine)
    engine.dispose()
    assert catalog(database_url) == catalog(empty_database_url)


def test_migrating_twice_changes_nothing_the_second_time(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == (None, schema_revisions().head)
    assert migrate(empty_database_url) == (schema_revisions().head, schema_revisions().head)


def test_a_later_releases_schema_is_left_alone(empty_database_url: str) -> None:
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    assert migrate(empty_database_url) == ("later", "later")


def test_an_older_schema_is_trouble_and_a_later_one_is_none() -> None:
    revisions = SchemaRevisions(head="0003", earlier=frozenset({"0001", "0002"}))
    assert revisions.trouble("0003") is None
    assert revisions.trouble("later") is None
    for older in ("0001", "0002", None):
        assert "needs 0003. Run `turn-worker migrate`." in str(revisions.trouble(older))


def test_migrations_run_at_the_same_time_take_turns_and_all_succeed(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(migrate, [empty_database_url] * 4))
    assert sorted(before is None for before, _ in results) == [False, False, False, True]


def test_migrating_a_server_that_does_not_answer_says_so_and_what_to_check() -> None:
    with pytest.raises(DatabaseUnavailable, match="Check DATABASE_URL"):
        migrate("postgresql://nobody@127.0.0.1:1/nothing")
