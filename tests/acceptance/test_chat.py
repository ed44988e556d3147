"""`turn-worker chat`: an agent of one's own in the terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from tests.acceptance.commands import environment, turn_worker

EXAMPLES = Path(str(resources.files("worker.embedded"))) / "examples"
CLINIC = EXAMPLES / "clinic.json"


def test_a_conversation_that_is_piped_in_comes_out_as_a_transcript() -> None:
    said = "I have a question: where are you?\nNo, that is all.\n"
    done = turn_worker("chat", CLINIC, "--script", EXAMPLES / "clinic_script.json", stdin=said)
    assert done.returncode == 0, done.stderr
    spoken = re.findall(r"^(?:You|Agent) .*", done.stdout, re.MULTILINE)
    assert [line.split()[0] for line in spoken] == ["Agent", "You", "Agent", "You", "Agent"]
    assert "12 Mill Lane" in done.stdout
    assert "Goodbye, and all the best!" in re.sub(r"\s+", " ", done.stdout)


def test_an_agent_is_given_its_tools_in_a_file_beside_it() -> None:
    done = turn_worker(
        "chat", EXAMPLES / "billing.json", "--tools", EXAMPLES / "billing_tools.json",
        "--script", EXAMPLES / "billing_script.json", stdin="What do three visits cost?\nI want to speak to someone.\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = re.sub(r"\s+", " ", done.stdout)
    assert "Three visits come to 174.573 with VAT" in told
    assert "I am passing you on to a colleague" in told


def test_tools_that_are_missing_are_named_with_the_node_that_mentions_them() -> None:
    done = turn_worker("chat", EXAMPLES / "billing.json", stdin="Hello.\n")
    assert done.returncode == 1
    assert "There is no tool '5f0a6a5e-6d0f-4c53-9d57-0f7c0d1c9a01'" in done.stderr
    assert "Traceback" not in done.stderr


def test_values_for_the_agent_are_given_by_name_and_the_user_may_leave() -> None:
    done = turn_worker(
        "chat", CLINIC, "--context", "patient_name=Grace", "--context", "clinic_name=Hillside",
        stdin="\nHow are you?\n/quit\nnever heard\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Hello Grace, this is Hillside." in done.stdout
    assert "You said: How are you?" in done.stdout
    assert "never heard" not in done.stdout


def test_a_failed_turn_is_explained_and_the_next_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(
        json.dumps(
            {"rules": [{"when": {"user_contains": "wrong"}, "error": {"status": 400, "message": "No such thing."}}]}
        )
    )
    said = "Something wrong.\nSomething that is far too long.\nGood.\n"
    arguments = ("chat", CLINIC, "--script", tmp_path / "script.json")
    done = turn_worker(*arguments, stdin=said, TURN_WORKER_MAX_TEXT_CHARS="20")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Error Turn 2 failed \(llm_\w+\): .*No such thing", re.sub(r"\s+", " ", done.stdout))
    assert "Error: This was not accepted. It has 31 characters; at most 20 are accepted." in done.stderr
    assert "You said: Good." in done.stdout
    assert "Traceback" not in done.stderr


def test_a_conversation_whose_last_turn_failed_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('{"rules": [{"error": {"status": 401}}]}')
    done = turn_worker("chat", CLINIC, "--script", tmp_path / "script.json", stdin="Hello?\n")
    assert done.returncode == 1
    assert "failed (llm_" in done.stdout


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"nodes": []}', "The workflow has "),
        ("{", "is not JSON: line 1, column 2"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_workflow_that_cannot_be_used_is_refused_before_anything_starts(
    tmp_path: Path, content: str | None, complaint: str
) -> None:
    file = tmp_path / "workflow.json"
    if content is not None:
        file.write_text(content)
    done = turn_worker("chat", file)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Starting" not in done.stderr


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, *arguments: str | Path, **given: str) -> None:
        self._screen, inside = pty.openpty()
        command = [sys.executable, "-P", "-m", "worker", *arguments]
        self.program = subprocess.Popen(
            command, stdin=inside, stdout=inside, stderr=inside, env=environment(TERM="dumb", **given), process_group=0
        )
        os.close(inside)
        self.shown = ""

    def read_until(self, pattern: str) -> None:
        while re.search(pattern, self.shown) is None:
            self.shown += os.read(self._screen, 4096).decode()

    def type(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    def close(self) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._screen)


def test_on_a_terminal_one_types_at_a_prompt_and_sees_that_the_agent_is_thinking(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('{"rules": [{"delay_seconds": 0.8, "reply": "Well: {user}"}]}')
    terminal = Terminal("chat", CLINIC, "--script", tmp_path / "script.json", NO_COLOR="1")
    try:
        terminal.read_until(r"You     $")
        terminal.type("What do you think?")
        terminal.read_until(r"the agent is thinking \(\d s\)")
        terminal.read_until(r"Well: What do you think\?[\s\S]*You     $")
        terminal.type("/quit")
        terminal.read_until("Stopping")
        assert terminal.program.wait(30) == 0
    finally:
        terminal.close()
    assert "\x1b[" not in terminal.shown, "NO_COLOR is respected"


def test_ctrl_c_calls_off_what_the_agent_is_answering_and_the_conversation_goes_on(tmp_path: Path) -> None:
    rule = '{"when": {"user_contains": "story"}, "reply": "Once upon a time.", "hold": "for ever"}'
    (tmp_path / "script.json").write_text(f'{{"rules": [{rule}]}}')
    terminal = Terminal("chat", CLINIC, "--script", tmp_path / "script.json", NO_COLOR="1")
    try:
        terminal.read_until(r"You     $")
        terminal.type("Tell me a story.")
        terminal.read_until(r"story\.[\s\S]*the agent is thinking \(1 s\)")
        os.killpg(terminal.program.pid, signal.SIGINT)
        terminal.read_until(r"Turn 2 was cancelled[\s\S]*You     $")
        terminal.type("Something else, then.")
        terminal.read_until(r"You said: Something else, then\.[\s\S]*You     $")
        terminal.type("/quit")
        assert terminal.program.wait(30) == 0
    finally:
        terminal.close()


def test_a_terminal_shows_colours_and_ctrl_d_ends_the_conversation() -> None:
    terminal = Terminal("chat", CLINIC)
    try:
        terminal.read_until(r"You     $")
        terminal.type("\x04")
        terminal.read_until("Stopping")
        assert terminal.program.wait(30) == 0
    finally:
        terminal.close()
    assert "\x1b[32m" in terminal.shown


@pytest.mark.local_llm
def test_the_local_model_talks(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="install it with: make local-llm")
    done = turn_worker("chat", CLINIC, "--llm", "local", stdin="Good morning!\n")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  LLM +real +a very small model", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^Agent ", done.stdout, re.MULTILINE)) == 2
