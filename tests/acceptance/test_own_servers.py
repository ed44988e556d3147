"""From an empty database of one's own to a conversation, one command after the other, as an operator goes."""

from __future__ import annotations

import re
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from api_stub.client import InvalidApiKey, TurnWorkerClient
from tests.acceptance.commands import running, turn_worker
from worker.embedded.scripted_llm import ScriptedLLM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AGENT = {"nodes": [{"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Be brief."}}], "edges": []}


@pytest.fixture
def database_template() -> str:
    """An empty database: the schema is for the operator to make."""
    return "template1"


@pytest.fixture
def operator(database_url: str, redis_url: str) -> dict[str, str]:
    """The operator's environment."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "TURN_WORKER_SECRET_KEY": Fernet.generate_key().decode(),
        "TURN_WORKER_LOG_FORMAT": "json",
    }


@pytest.fixture
def command(operator: dict[str, str]) -> Callable[..., str]:
    """Runs a command, which has to succeed, and returns what it printed."""

    def run(*arguments: str, stdin: str = "") -> str:
        done = turn_worker(*arguments, stdin=stdin, **operator)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM() as llm:
        yield llm


def test_an_organization_holds_a_conversation_with_its_own_key_to_the_llm(
    command: Callable[..., str], operator: dict[str, str], llm: ScriptedLLM
) -> None:
    command("migrate")
    command("org", "create", "acme")
    key = command("keys", "create", "--org", "acme")
    command(
        "config", "set", "--org", "acme", "--base-url", llm.base_url, "--model", "claude-acme",
        "--secret", "acme-key", "--api-key-secret", "acme-key", stdin="sk-ant-of-acme-0123456789\n",
    )  # fmt: skip
    with ExitStack() as processes:
        api = processes.enter_context(running("api", "--port", "0", **operator))
        worker = processes.enter_context(running("worker", "--concurrency", "4", **operator))
        url = api.complained("^The API listens on ").split()[-1]
        with TurnWorkerClient(url, key, retries=12) as client:
            session = client.create_session(client.create_workflow("Hello", AGENT).id, begins_with="user")
            turn = client.wait(client.enqueue(session.id, "Good morning").id, timeout_seconds=60)
            assert turn.assistant_text == "You said: Good morning"
            key_id = command("keys", "list", "--org", "acme").splitlines()[1].split()[0]
            command("keys", "revoke", "--org", "acme", key_id)
            with pytest.raises(InvalidApiKey):
                client.get_turn(turn.id)
        assert [(request.api_key, request.model) for request in llm.requests] == [
            ("sk-ant-of-acme-0123456789", "claude-acme")
        ]
        assert api.end(signal.SIGTERM) == 0
        assert worker.end(signal.SIGTERM) == 0
        for process in (api, worker):
            written = "\n".join(line["event"] for line in process.err.lines())
            assert "Traceback" not in written
            assert "sk-ant-of-acme" not in written


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_processes_end_with_status_0_when_they_are_asked_to(
    command: Callable[..., str], operator: dict[str, str], how: signal.Signals
) -> None:
    command("migrate")
    with running("api", "--port", "0", **operator) as api, running("worker", **operator) as worker:
        api.complained("^The API listens on ")
        worker.complained(r"ready\.$")
        assert api.end(how) == 0
        assert worker.end(how) == 0


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_process_on_a_database_without_the_schema_says_what_to_do(operator: dict[str, str], name: str) -> None:
    done = turn_worker(name, **operator)
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: The database's schema is at revision none, .*Run `turn-worker migrate`\.\n", done.stderr
    )


def test_a_worker_that_could_not_decrypt_what_organizations_stored_does_not_start(
    command: Callable[..., str], operator: dict[str, str]
) -> None:
    """It would fail their turns for good, for want of one line in a deployment."""
    command("migrate")
    command("org", "create", "acme")
    command("config", "set", "--org", "acme", "--secret", "llm", stdin="sk-ant-of-acme-0123456789\n")
    done = turn_worker("worker", **operator | {"TURN_WORKER_SECRET_KEY": ""})
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: Secrets can be neither stored nor read: TURN_WORKER_SECRET_KEY is not set\..*\n", done.stderr
    )


def test_a_port_that_is_taken_is_one_message(command: Callable[..., str], operator: dict[str, str]) -> None:
    command("migrate")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = turn_worker("api", "--port", port, **operator)
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert message.startswith(f"Error: The API cannot listen on 127.0.0.1:{port}: Address already in use")


def test_the_api_starts_without_redis_and_says_so(command: Callable[..., str], operator: dict[str, str]) -> None:
    """Redis may be away: turns are taken all the same."""
    command("migrate")
    away = operator | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    with running("api", "--port", "0", **away) as api:
        api.complained("^The API listens on ")
        assert api.err.lines("channel.lost", level="warning")
        assert api.end(signal.SIGTERM) == 0
