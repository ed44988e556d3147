from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from worker.cli.app import _COMMANDS, turn_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

_RUN_AND_TELL = """
import json, sys
from click.testing import CliRunner
from worker.cli.app import turn_worker
result = CliRunner().invoke(turn_worker, sys.argv[1:])
print(json.dumps([result.exit_code, sorted({name.partition('.')[0] for name in sys.modules})]))
"""


def loaded_by(*arguments: str) -> set[str]:
    """The packages that a command loads in a fresh process; it has to succeed."""
    command = [sys.executable, "-c", _RUN_AND_TELL, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    status, modules = json.loads(done.stdout)
    assert status == 0
    return set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("validate", "--help")])
def test_the_overview_and_validation_load_no_server_and_no_engine(arguments: tuple[str, ...]) -> None:
    heavy = {"pipecat", "celery", "fastapi", "sqlalchemy", "httpx", "redis", "aiohttp", "structlog"}
    assert loaded_by(*arguments) & heavy == set()


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_help_of_no_command_loads_the_engine_or_celery(name: str) -> None:
    assert loaded_by(name, "--help") & {"pipecat", "celery", "fastapi"} == set()


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_overview_names_commands_that_exist(name: str) -> None:
    command = turn_worker.get_command(click.Context(turn_worker), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str() != ""


def test_the_overview_lists_every_command_with_what_it_does(turn_worker_command: Callable[..., Result]) -> None:
    overview = turn_worker_command("--help").stdout
    for name, place in _COMMANDS.items():
        assert f"  {name} " in overview
        assert place.summary.split()[0] in overview


def test_a_command_that_does_not_exist_is_a_wrong_use(turn_worker_command: Callable[..., Result]) -> None:
    result = turn_worker_command("fly")
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.stderr


def test_the_version_is_that_of_the_distribution(turn_worker_command: Callable[..., Result]) -> None:
    assert turn_worker_command("--version").stdout.startswith("turn-worker, version ")


def test_an_error_is_one_message_without_a_traceback(turn_worker_command: Callable[..., Result]) -> None:
    result = turn_worker_command("validate", "/no/such/file.json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: /no/such/file.json cannot be read: No such file or directory.\n"


def test_the_traceback_is_shown_on_request(turn_worker_command: Callable[..., Result]) -> None:
    result = turn_worker_command("--debug", "validate", "/no/such/file.json")
    assert result.exception is not None
    assert type(result.exception).__name__ == "UnreadableDocument"


def test_the_traceback_is_shown_at_the_log_level_debug(
    turn_worker_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURN_WORKER_LOG_LEVEL", "DEBUG")
    result = turn_worker_command("validate", "/no/such/file.json")
    assert type(result.exception).__name__ == "UnreadableDocument"


def test_a_setting_that_cannot_be_used_is_named(
    turn_worker_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURN_WORKER_PORT", "many")
    result = turn_worker_command("org", "list")
    assert result.exit_code == 1
    assert "TURN_WORKER_PORT: " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("api",),
        ("worker",),
        ("migrate",),
        ("migrate", "--check"),
        ("org", "list"),
        ("org", "create", "acme"),
        ("keys", "create", "--org", "acme"),
        ("keys", "list", "--org", "acme"),
        ("keys", "revoke", "--org", "acme", "01a20aff-2b0a-7654-a816-3c17ff0f3182"),
        ("config", "show", "--org", "acme"),
        ("config", "set", "--org", "acme", "--model", "m"),
    ],
)
def test_a_command_without_its_database_names_the_variable_and_the_alternative(
    turn_worker_command: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    result = turn_worker_command(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: DATABASE_URL is not set. ")
    assert "`turn-worker up`" in result.stderr


@pytest.mark.parametrize("url", ["mysql://localhost/db", "localhost:5432", "sqlite://"])
def test_an_address_that_is_none_of_postgresql_is_refused(
    turn_worker_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    result = turn_worker_command("migrate")
    assert result.exit_code == 1
    assert "DATABASE_URL is not an address this program understands" in result.stderr


def test_an_address_is_not_shown_when_it_is_refused(
    turn_worker_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://me:hunter2@localhost/db")
    assert "hunter2" not in turn_worker_command("migrate").output
