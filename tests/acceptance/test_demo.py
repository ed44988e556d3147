"""`turn-worker demo`: what a stranger sees first."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import chdir
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.commands import running, turn_worker
from worker.cli.servers import transaction
from worker.embedded.scripted_llm import Script, ScriptedLLM
from worker.storage.organizations import find_organization, list_api_keys

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], float, Path]:
    """The demo on a machine with nothing, how long it took in seconds, and where it put its temporary files."""
    folder, elsewhere = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("project")
    (elsewhere / "worker.py").write_text("raise ImportError('a module of the same name in the working folder')")
    began = time.monotonic()
    with chdir(elsewhere):
        done = turn_worker("demo", TMPDIR=folder)
    return done, time.monotonic() - began, folder


def test_it_holds_a_whole_conversation_in_half_a_minute(
    demo: tuple[subprocess.CompletedProcess[str], float, Path],
) -> None:
    done, seconds, _ = demo
    assert done.returncode == 0, done.stderr
    assert seconds < 30
    assert "The conversation is over: 7 turns, ended by the agent, 6 nodes visited" in done.stdout


def test_the_agent_goes_round_its_loops_and_says_what_it_was_told(
    demo: tuple[subprocess.CompletedProcess[str], float, Path],
) -> None:
    transcript = re.sub(r"\s+", " ", demo[0].stdout)
    for said in (
        "Hello Ada, this is Riverside Clinic.",
        "Which of these suits you?",
        "you can park for free behind the building",
        "Good choice, I am holding that time for you.",
        "for Ada Marlow, born on 12 May 1986",
        "I have corrected that: born on 21 May 1986",
        "Your appointment is booked.",
        "Thank you, and goodbye!",
    ):
        assert said in transcript
    ways = re.findall(r"^ +(-> .*)$", demo[0].stdout, re.MULTILINE)
    assert ways == [
        "-> Reception",
        "-> Choose a time",
        "-> Answer questions",
        "-> Choose a time -> Patient details",
        "-> Confirm",
        "-> Patient details -> Confirm",
        "-> Goodbye",
    ]


def test_every_turn_is_timed_by_what_is_heard_over_redis(
    demo: tuple[subprocess.CompletedProcess[str], float, Path],
) -> None:
    assert len(re.findall(r"enqueued after \d+ ms, started after \d+ ms, completed after \d+ ms", demo[0].stdout)) == 7


def test_it_says_what_is_a_stand_in_and_where_to_look_next(
    demo: tuple[subprocess.CompletedProcess[str], float, Path],
) -> None:
    output = demo[0].stdout
    assert len(re.findall(r"^  (PostgreSQL|Redis) +real ", output, re.MULTILINE)) == 2
    assert re.search(r"^  LLM +STAND-IN ", output, re.MULTILINE)
    assert "Where to look next:" in output
    assert "\x1b" not in output, "nothing is coloured where nobody looks"


def test_it_leaves_nothing_behind(demo: tuple[subprocess.CompletedProcess[str], float, Path]) -> None:
    assert list(demo[2].iterdir()) == []


def test_it_can_be_called_off_at_any_time() -> None:
    with running("demo") as demo:
        demo.complained("^Starting the API")
        assert demo.end(signal.SIGTERM) == 1


def test_ones_own_servers_are_used_and_the_key_to_them_is_revoked(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    own = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    done = turn_worker("demo", "--llm", "scripted", TURN_WORKER_DATA_DIR=tmp_path, **own)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  PostgreSQL +real +yours, postgresql://turn_worker:\*\*\*@127", done.stdout, re.MULTILINE)
    assert re.search(r"^  Redis +real +yours, redis://:\*\*\*@127", done.stdout, re.MULTILINE)
    assert "Starting PostgreSQL" not in done.stderr

    async def keys_in_use() -> int:
        async with transaction(database_url) as connection:
            owner = await find_organization(connection, name="demo")
            keys = await list_api_keys(connection, organization_id=owner.id)
            return sum(key.revoked_at is None for key in keys)

    assert asyncio.run(keys_in_use()) == 0
    assert not (tmp_path / "secret_key").exists(), "what is encrypted in one's own database needs no folder here"


def test_a_key_that_is_refused_is_one_message() -> None:
    with ScriptedLLM(Script.model_validate({"rejected_keys": ["sk-ant-wrong"]})) as anthropic:
        done = turn_worker("demo", ANTHROPIC_API_KEY="sk-ant-wrong", ANTHROPIC_BASE_URL=anthropic.base_url)
    assert done.returncode == 1
    assert re.search(r"^  LLM +real ", done.stdout, re.MULTILINE)
    assert re.search(r"^Error: Turn 2 failed \(llm_authentication\w*\): ", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert "sk-ant-wrong" not in done.stdout + done.stderr


def test_a_real_model_that_does_not_follow_the_graph_comes_to_an_end_too() -> None:
    with ScriptedLLM() as anthropic:  # it repeats what it hears
        done = turn_worker("demo", ANTHROPIC_API_KEY="sk-ant-0123456789", ANTHROPIC_BASE_URL=anthropic.base_url)
    assert done.returncode == 0, done.stderr
    assert "The conversation is over: 7 turns, ended by the user, 1 node visited (Reception)." in done.stdout


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"TURN_WORKER_LLM": "anthropic"}, "Error: There is no key for Anthropic's API."),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, "Error: DATABASE_URL names a database of yours."),
        (
            {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "TURN_WORKER_LLM": "scripted"},
            "Error: PostgreSQL is not available: ",
        ),
        ({"REDIS_URL": "redis://127.0.0.1:1"}, "Error: Redis is not available: "),
        ({"REDIS_URL": "http://localhost"}, "Error: REDIS_URL is not an address this program understands."),
        ({"TURN_WORKER_DATA_DIR": "/dev/null/data"}, "Error: The data folder /dev/null/data cannot be used: "),
    ],
)
def test_what_it_cannot_start_with_is_one_message(given: dict[str, str], complaint: str) -> None:
    done = turn_worker("demo", **given)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
