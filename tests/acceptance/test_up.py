"""`turn-worker up`: a whole system with one command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from api_stub.client import TurnWorkerClient
from tests.acceptance.commands import Running, environment, running, turn_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AGENT = {"nodes": [{"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Be brief."}}], "edges": []}


def address(up: Running) -> str:
    return up.said(r"^  API  ").split()[-1]


def key(up: Running) -> str:
    return up.said(r"^  API key  ").split()[2]


def client(up: Running) -> TurnWorkerClient:
    return TurnWorkerClient(address(up), key(up), retries=12)


def conversation(client: TurnWorkerClient, text: str) -> str | None:
    """What a new agent answers."""
    workflow = client.create_workflow("Hello", AGENT)
    session = client.create_session(workflow.id, begins_with="user")
    return client.wait(client.enqueue(session.id, text).id, timeout_seconds=60).assistant_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Running]:
    """One for all tests that leave it as it was, or let it mend itself."""
    with running("up", "--port", "0", "--data-dir", folder) as up:
        up.said("Ctrl-C stops everything")
        yield up
        assert up.end(signal.SIGTERM) == 0


def test_it_says_what_is_real_and_what_is_a_stand_in(up: Running, folder: Path) -> None:
    assert f"real      a server of our own, its data in {folder}" in up.said("^  PostgreSQL")
    assert f"real      a server of our own, its data in {folder}" in up.said("^  Redis")
    assert "STAND-IN  a script behind Anthropic's API, no model" in up.said("^  LLM")
    assert len(up.out.lines("real  ")) == 2


def test_it_says_what_it_is_starting_and_for_how_long_it_took(up: Running) -> None:
    for step in ("scripted LLM", "PostgreSQL", "Redis", "API and 1 worker process"):
        up.complained(rf"^Starting (the )?{step} \.\.\.$")
    up.complained(r"^Ready after \d+\.\d s\.$")


def test_the_key_it_prints_opens_the_address_it_prints(up: Running) -> None:
    with client(up) as caller:
        assert conversation(caller, "Good morning") == "You said: Good morning"
    assert httpx.get(f"{address(up)}/docs").status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_line_it_prints_works_when_it_is_pasted(up: Running) -> None:
    answer = subprocess.run(up.said("^  curl "), shell=True, check=True, capture_output=True, text=True, timeout=30)
    assert json.loads(answer.stdout)["name"] == "Hello"


def test_the_other_commands_work_on_it_in_another_terminal(up: Running) -> None:
    source = up.said(r"^  \. ").strip()
    command = f"{source} && exec {sys.executable} -P -m worker"
    for arguments, expected in [
        ("org list", "default"),
        ("keys list --org default", key(up)[:10]),
        ("config set --org default --secret mine --from-env HOME", "Set."),
        ("migrate", "up to date"),
    ]:
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} {arguments}"],
            check=True, capture_output=True, text=True, env=environment(), timeout=60,
        )  # fmt: skip
        assert expected in done.stdout


def test_what_it_keeps_is_for_its_owner_alone(up: Running, folder: Path) -> None:
    files = ["api_key", "secret_key", "environment"]
    assert {name: stat.S_IMODE((folder / name).stat().st_mode) for name in files} == dict.fromkeys(files, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_one_on_the_same_data_is_told_who_has_it(up: Running, folder: Path) -> None:
    done = turn_worker("up", "--port", "0", "--data-dir", folder)
    assert done.returncode == 1
    assert f"Error: The data folder {folder} is in use by process {up.process.pid}." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "command"), [("Worker 1", "worker"), ("The API", "api")], ids=["worker", "api"])
def test_a_process_that_is_killed_is_started_again(up: Running, name: str, command: str) -> None:
    reports = len(up.err.lines(f"^{name} ended unexpectedly"))
    (victim,) = up.programs(command)
    os.kill(victim.pid, signal.SIGKILL)
    up.complained(f"^{name} ended unexpectedly", count=reports + 1)
    with client(up) as caller:
        assert conversation(caller, "Still there?") == "You said: Still there?"


@pytest.mark.parametrize(
    ("server", "programs"), [("PostgreSQL", ["postgres"]), ("Redis", ["valkey-server", "redis-server"])]
)
def test_a_server_that_is_killed_is_started_again_with_its_data(up: Running, server: str, programs: list[str]) -> None:
    with client(up) as caller:
        workflow = caller.create_workflow("Kept", AGENT)
        (victim,) = up.servers(*programs)
        os.kill(victim.pid, signal.SIGKILL)
        up.complained(f"^{server} ended unexpectedly")
        assert conversation(caller, "Still there?") == "You said: Still there?"
        assert caller.get_workflow(workflow.id).name == "Kept"


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = turn_worker("up", "--port", port, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert f"Error: The API cannot listen on 127.0.0.1:{port}: Address already in use." in done.stderr


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = turn_worker("up", "--port", "0", "--data-dir", tmp_path / "file" / "data")
    assert done.returncode == 1
    assert f"Error: The data folder {tmp_path}/file/data cannot be used: Not a directory." in done.stderr


def test_a_script_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{}]}')
    done = turn_worker("up", "--port", "0", "--data-dir", tmp_path, "--script", script)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: The script {script} cannot be used:\n  rules.0: ")


def test_it_ends_cleanly_and_the_next_one_knows_the_same_key_and_data(tmp_path: Path) -> None:
    with running("up", "--port", "0", "--data-dir", tmp_path, "--workers", "2") as first:
        first.said("Ctrl-C stops everything")
        assert len(first.programs("worker")) == 2
        with client(first) as caller:
            workflow = caller.create_workflow("Kept", AGENT)
        printed = key(first)
        assert first.end(signal.SIGINT) == 0
        assert first.complained("Stopped")
    assert not (tmp_path / "environment").exists()
    with running("up", "--port", "0", "--data-dir", tmp_path) as second:
        assert key(second) == printed
        with client(second) as caller:
            assert caller.get_workflow(workflow.id).name == "Kept"
        assert second.end(signal.SIGTERM) == 0


def test_nothing_outlives_it_when_it_is_killed(tmp_path: Path) -> None:
    # What it keeps in the temporary folder, it cannot remove any more.
    with running("up", "--port", "0", "--data-dir", tmp_path / "data", TMPDIR=tmp_path) as up:
        up.said("Ctrl-C stops everything")
        assert up.end(signal.SIGKILL) == -signal.SIGKILL


def test_it_can_be_called_off_while_it_starts(tmp_path: Path) -> None:
    with running("up", "--port", "0", "--data-dir", tmp_path) as up:
        up.complained("^Starting PostgreSQL")
        assert up.end(signal.SIGTERM) == 0
