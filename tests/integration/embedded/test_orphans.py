"""What becomes of a server when the program that started it ends, in whatever way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis

from tests.integration.embedded.processes import has_ended

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVE = str(Path(__file__).with_name("serve.py"))

both = pytest.mark.parametrize("kind", ["postgres", "redis"])


@contextmanager
def served(kind: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    command = [sys.executable, SERVE, kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0) as program:
        try:
            assert program.stdout is not None
            yield program, json.loads(program.stdout.readline())
        finally:
            program.kill()


@both
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_cleanly_with_the_program_that_started_it(kind: str, how: signal.Signals, tmp_path: Path) -> None:
    with served(kind, tmp_path) as (program, server):
        program.send_signal(how)
        assert has_ended(server["pid"])
    last_words = {"postgres": "database system is shut down", "redis": "ready to exit, bye bye"}
    assert last_words[kind] in (tmp_path / "server.log").read_text().splitlines()[-1]


@both
def test_a_program_started_right_after_another_was_killed_waits_for_the_data(kind: str, tmp_path: Path) -> None:
    with served(kind, tmp_path) as (program, server):
        if kind == "postgres":
            with psycopg.connect(server["url"]) as connection:
                connection.execute("CREATE TABLE kept ()")
        else:
            with redis.Redis.from_url(server["url"]) as client:
                client.set("kept", 1)
        program.kill()
        with served(kind, tmp_path) as (_, successor):
            assert "error" not in successor
            if kind == "postgres":
                with psycopg.connect(successor["url"]) as connection:
                    connection.execute("SELECT FROM kept")
            else:
                with redis.Redis.from_url(successor["url"]) as client:
                    assert client.exists("kept")


@both
def test_a_second_program_on_the_same_folder_is_told_who_holds_it(kind: str, tmp_path: Path) -> None:
    with served(kind, tmp_path) as (program, _), served(kind, tmp_path) as (_, second):
        assert f"{tmp_path} is in use by process {program.pid}." in second["error"]
