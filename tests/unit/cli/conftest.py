"""The command line inside the test process, without servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from worker.cli.app import turn_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


@pytest.fixture
def turn_worker_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls `turn-worker` with the given arguments, and with nothing configured."""
    for name in ("DATABASE_URL", "REDIS_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "TURN_WORKER_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(turn_worker, arguments, input=stdin, prog_name="turn-worker")

    return call
