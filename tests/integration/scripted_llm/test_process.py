"""`python -m worker.embedded.scripted_llm`, steered over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest

from tests.integration.scripted_llm.talk import HELLO, MODEL, streamed, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "worker.embedded.scripted_llm"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found
            yield process, found[0]
        finally:
            process.kill()


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_answers_by_its_script_and_stops_cleanly(
    tmp_path: Path, stop_signal: signal.Signals
) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"rules": [{"reply": "From the file"}]}))

    with running("--script", str(script)) as (process, address):
        with anthropic.Anthropic(api_key="k", base_url=address) as claude:
            message = claude.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
        process.send_signal(stop_signal)

        assert process.wait(timeout=10) == 0
        assert text_of(message) == "From the file"


async def test_another_process_can_steer_it() -> None:
    with running() as (_, address):
        async with (
            httpx2.AsyncClient(base_url=address) as control,
            anthropic.AsyncAnthropic(api_key="secret", base_url=address) as claude,
        ):
            script: dict[str, Any] = {"rules": [{"name": "held", "reply": "Released", "hold": "gate"}]}
            assert (await control.put("/scripted/script", json=script)).status_code == 204
            held = asyncio.create_task(streamed(claude))
            waited = await control.get("/scripted/requests", params={"count": 1, "timeout_seconds": 10})
            assert (await control.post("/scripted/release/gate")).status_code == 204
            assert text_of(await held) == "Released"
            assert (await control.delete("/scripted/requests")).status_code == 204
            emptied = await control.get("/scripted/requests")

    (request,) = waited.json()["requests"]
    assert (request["number"], request["rule"], request["user_text"]) == (1, "held", "Hello")
    assert "secret" not in waited.text
    assert emptied.json() == {"requests": []}


async def test_bad_steering_is_answered_with_what_is_wrong() -> None:
    with running() as (_, address):
        async with httpx2.AsyncClient(base_url=address) as control:
            refused = await control.put("/scripted/script", json={"rules": [{"when": {"mood": "good"}}]})
            in_vain = await control.get("/scripted/requests", params={"count": 1, "timeout_seconds": 0.01})
            wrong = await control.get("/scripted/requests", params={"count": "some"})

    assert refused.status_code == 400
    assert "rules.0.when.mood: Extra inputs are not permitted" in refused.json()["detail"]
    assert in_vain.status_code == 408
    assert wrong.status_code == 400


def test_a_bad_script_is_one_clear_message(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{"reply": 5}]}')

    ended = subprocess.run([*COMMAND, "--script", script], capture_output=True, text=True, check=False, timeout=30)

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"Error: The script {script} cannot be used:\n  rules.0.reply: ")
    assert "Traceback" not in ended.stderr
