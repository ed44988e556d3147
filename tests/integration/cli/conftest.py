"""The command line inside the test process, on a database of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from worker.cli.app import turn_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


@pytest.fixture
def secret_key() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def command(database_url: str, secret_key: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls `turn-worker` with the given arguments."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TURN_WORKER_SECRET_KEY", secret_key)
    monkeypatch.delenv("TURN_WORKER_LOG_LEVEL", raising=False)

    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(turn_worker, arguments, input=stdin, prog_name="turn-worker")

    return call


@pytest.fixture
def done(command: Callable[..., Result]) -> Callable[..., str]:
    """Calls `turn-worker`, which has to succeed, and returns what it printed."""

    def call(*arguments: str, stdin: str | None = None) -> str:
        result = command(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call
