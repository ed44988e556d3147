"""Recording, waiting, holding, releasing, and a script exchanged while it plays."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anthropic
import pytest

from tests.integration.scripted_llm.talk import MODEL, play, streamed, text_of
from worker.embedded.scripted_llm import Script, ScriptedLLM, ScriptedLLMFailed

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI


async def test_requests_are_recorded_in_order_without_their_credentials(
    llm: ScriptedLLM, claude: AsyncAnthropic, gpt: AsyncOpenAI
) -> None:
    play(llm, {"name": "greeting", "when": {"user_contains": "HELLO"}, "reply": "Hi"})

    await streamed(claude, "Hello", system="Be nice")
    await gpt.chat.completions.create(
        model="gpt-5",
        messages=[{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Bye"}],
        tools=[{"type": "function", "function": {"name": "look"}}],
    )

    first, second = llm.requests
    assert (first.number, first.path, first.rule) == (1, "/v1/messages", "greeting")
    assert (first.model, first.system, first.user_text) == (MODEL, "Be nice", "Hello")
    assert first.body["messages"] == [{"role": "user", "content": "Hello"}]
    assert first.api_key == "test-key"
    assert first.headers["anthropic-version"] == "2023-06-01"
    assert (second.number, second.path, second.rule) == (2, "/v1/chat/completions", "built-in.echo")
    assert (second.model, second.system, second.user_text) == ("gpt-5", "Be kind", "Bye")
    assert second.tools == {"look"}
    for request in (first, second):
        assert "test-key" not in str(request.headers)
        assert "test-key" not in repr(request)
        assert "test-key" not in str(request.as_json())


async def test_only_the_latest_requests_are_kept() -> None:
    with ScriptedLLM(keep_requests=2) as llm:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=llm.base_url) as claude:
            for text in ("one", "two", "three"):
                await streamed(claude, text)

        assert [(request.number, request.user_text) for request in llm.requests] == [(2, "two"), (3, "three")]


async def test_after_clear_recording_begins_anew(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    await streamed(claude, "one")
    llm.clear()
    await streamed(claude, "two")

    assert [(request.number, request.user_text) for request in llm.requests] == [(1, "two")]


async def test_a_held_reply_waits_for_its_release(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"when": {"user_contains": "slow"}, "reply": "At last", "hold": "gate"})

    held = asyncio.create_task(streamed(claude, "slow"))
    arrived = await llm.wait_for_request(lambda request: request.user_text == "slow")
    assert text_of(await streamed(claude, "quick")) == "You said: quick"
    assert not held.done()

    llm.release("gate")

    assert text_of(await held) == "At last"
    assert arrived.rule == "rules.0"
    assert text_of(await streamed(claude, "slow")) == "At last"


async def test_an_error_can_be_held_too(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"error": {"status": 500}, "hold": "gate"})

    held = asyncio.create_task(streamed(claude))
    await llm.wait_for_request()
    llm.release("gate")

    with pytest.raises(anthropic.InternalServerError):
        await held


async def test_a_reply_held_in_mid_stream_is_held_whole_without_a_stream(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(llm, {"when": {"user_contains": "slow"}, "reply": "At last", "hold": "gate", "hold_after": 1})

    held = asyncio.create_task(
        claude.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "slow"}])
    )
    await llm.wait_for_request()
    await streamed(claude, "quick")
    assert not held.done()
    llm.release("gate")

    assert text_of(await held) == "At last"


async def test_a_new_script_holds_again_what_the_old_one_released(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    script = Script.model_validate({"rules": [{"reply": "Go", "hold": "gate"}]})
    llm.set_script(script)
    llm.release("gate")
    await streamed(claude)

    llm.set_script(script)
    held = asyncio.create_task(streamed(claude))
    await llm.wait_for_request(count=2)
    llm.set_script(Script())  # the reply under way stays held, and can still be released
    assert text_of(await streamed(claude, "quick")) == "You said: quick"
    assert not held.done()
    llm.release("gate")

    assert text_of(await held) == "Go"


async def test_a_rule_applies_as_often_as_it_says_and_a_new_script_counts_from_zero(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    script = Script.model_validate({"rules": [{"times": 1, "reply": "First"}, {"times": 2, "reply": "Second"}]})
    for _ in range(2):
        llm.set_script(script)
        replies = [text_of(await streamed(claude)) for _ in range(4)]
        assert replies == ["First", "Second", "Second", "You said: Hello"]


async def test_waiting_finds_a_request_that_came_before_and_one_that_comes_later(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    await streamed(claude, "one")
    assert (await llm.wait_for_request()).user_text == "one"

    waiting = asyncio.create_task(llm.wait_for_request(lambda request: request.user_text != "two", count=2))
    await streamed(claude, "two")
    assert not waiting.done()
    await streamed(claude, "three")

    assert (await waiting).user_text == "three"


async def test_waiting_in_vain_ends_with_what_was_seen(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    await streamed(claude)

    with pytest.raises(
        ScriptedLLMFailed, match=r"Waited 0\.01 s for matching request number 2; 1 requests are recorded"
    ):
        await llm.wait_for_request(count=2, timeout_seconds=0.01)


async def test_a_caller_that_leaves_is_noticed(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    play(llm, {"reply": "abcdef", "chunk_characters": 2, "hold": "gate", "hold_after": 1})

    async with claude.messages.stream(
        model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        await anext(stream)

    assert (await llm.wait_for_request(lambda request: request.client_gone)).number == 1


@pytest.mark.timeout(300)
async def test_many_slow_replies_run_at_once(llm: ScriptedLLM) -> None:
    play(llm, {"reply": "{user} {user}", "chunk_characters": 8, "seconds_per_chunk": 0.2, "hold": "all in"})
    callers = 500
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=llm.base_url, max_retries=0, timeout=240, http_client=anthropic.DefaultAioHttpClient()
    ) as claude:
        replies = [asyncio.create_task(streamed(claude, f"caller {number}")) for number in range(callers)]
        await llm.wait_for_request(count=callers, timeout_seconds=240)
        llm.release("all in")

        texts = [text_of(message) for message in await asyncio.gather(*replies)]

    assert texts == [f"caller {number} caller {number}" for number in range(callers)]


async def test_it_can_be_started_again_on_the_same_port(llm: ScriptedLLM, claude: AsyncAnthropic) -> None:
    await streamed(claude)
    llm.stop()
    with pytest.raises(anthropic.APIConnectionError):
        await streamed(claude)
    llm.stop()

    llm.start()

    assert text_of(await streamed(claude)) == "You said: Hello"


async def test_stopping_cuts_off_what_is_under_way_without_waiting_for_it(
    llm: ScriptedLLM, claude: AsyncAnthropic
) -> None:
    play(llm, {"reply": "Never", "hold": "gate"})
    held = asyncio.create_task(streamed(claude))
    await llm.wait_for_request()

    started = time.monotonic()
    llm.stop()

    assert time.monotonic() - started < 10
    with pytest.raises(anthropic.APIConnectionError):
        await held


def test_a_script_set_before_the_start_is_played_and_releasing_nothing_is_harmless() -> None:
    llm = ScriptedLLM()
    llm.set_script(Script.model_validate({"rules": [{"reply": "Set early"}]}))
    llm.release("nothing")

    with llm, anthropic.Anthropic(api_key="k", base_url=llm.base_url) as claude:
        message = claude.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hello"}])

    assert text_of(message) == "Set early"


def test_a_port_in_use_is_a_clear_error(llm: ScriptedLLM) -> None:
    port = int(llm.base_url.rpartition(":")[2])

    with pytest.raises(ScriptedLLMFailed, match=f"cannot listen on 127.0.0.1:{port}: .*Name another port"):
        ScriptedLLM(port=port).start()
