from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from worker.storage.migrate import schema_revisions

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from worker.embedded.postgres import EmbeddedPostgres


class TestOnAnEmptyDatabase:
    @pytest.fixture
    def database_template(self) -> str:
        return "template1"

    def test_migrating_says_from_where_to_where_and_then_that_there_is_nothing_to_do(
        self, done: Callable[..., str]
    ) -> None:
        revision = schema_revisions().head
        assert done("migrate") == f"The schema was at revision none and is now at {revision}.\n"
        assert done("migrate") == f"The schema is up to date, at revision {revision}.\n"
        assert done("migrate", "--check") == "The schema is up to date.\n"

    @pytest.mark.parametrize("arguments", [("migrate", "--check"), ("org", "list"), ("keys", "list", "--org", "Acme")])
    def test_a_missing_schema_is_an_error_that_names_the_command(
        self, command: Callable[..., Result], arguments: tuple[str, ...]
    ) -> None:
        result = command(*arguments)
        assert result.exit_code == 1
        assert "schema is at revision none" in result.stderr
        assert "Run `turn-worker migrate`." in result.stderr


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("arguments", [("migrate",), ("migrate", "--check"), ("org", "list"), ("api",), ("worker",)])
def test_a_server_that_is_not_there_is_one_message(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, free_port: int, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:hunter2@127.0.0.1:{free_port}/none")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port}/0")
    result = command(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PostgreSQL is not available: ")
    assert result.stderr.endswith("Check DATABASE_URL and the server.\n")
    assert "hunter2" not in result.stderr


def test_a_password_that_is_wrong_is_one_message(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedPostgres
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_server.url.replace("turn_worker:", "turn_worker:x", 1))
    result = command("migrate")
    assert result.exit_code == 1
    assert "password authentication failed" in result.stderr


def test_a_worker_without_redis_is_one_message(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:hunter2@127.0.0.1:{free_port}/0")
    result = command("worker")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Redis is not available: ")
    assert result.stderr.endswith("Check REDIS_URL and the server.\n")
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_process_without_the_address_of_redis_names_the_variable(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    result = command(name)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: REDIS_URL is not set. ")
