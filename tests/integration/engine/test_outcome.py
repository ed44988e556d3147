"""What a turn comes to: usage, contexts, provider's own content, and that turns keep out of each other's way."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.integration.engine.talk import ANTHROPIC, EVERY_PROTOCOL, OPENAI, THERE_AND_BACK
from worker.conversation.checkpoint import Checkpoint
from worker.conversation.event import REPLY_STOPPED_EARLY
from worker.conversation.usage import LLMUsage
from worker.conversation.user_message import Image, UserMessage

if TYPE_CHECKING:
    from tests.integration.engine.talk import Talk

USAGE = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5}


@ANTHROPIC
async def test_usage_is_counted_for_each_call_and_summed_under_processor_and_model(talk: Talk) -> None:
    talk.at("start")
    talk.script({"times": 1, "reply": [{"tool": "book"}], "usage": USAGE}, {"reply": "When?", "usage": USAGE})

    outcome = await talk.turn("A date")

    one = LLMUsage(100, 20, 155, 30, 5)
    assert [(call.number, call.processor, call.model, call.usage) for call in talk.ledger.calls] == [
        (1, "AnthropicLLMService", "claude-sonnet-5", one),
        (2, "AnthropicLLMService", "claude-sonnet-5", one),
    ]
    assert outcome.usage.llm == {"AnthropicLLMService|||claude-sonnet-5": one + one}
    assert 0 < outcome.usage.call_duration_seconds < 60


@OPENAI
async def test_openai_counts_the_cached_tokens_among_the_prompts(talk: Talk) -> None:
    talk.script({"reply": "Yes.", "usage": USAGE})

    outcome = await talk.turn("Hi")

    (used,) = outcome.usage.llm.values()
    assert list(outcome.usage.llm) == ["OpenAILLMService|||claude-sonnet-5"]
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens
    assert used.cache_read_input_tokens == 30


async def test_the_outcome_says_which_model_ran(talk: Talk) -> None:
    outcome = await talk.turn("Hi")

    assert talk.model is not None
    assert outcome.initial_context == {
        "name": "Ada",
        "runtime_configuration": {"llm_provider": talk.model.provider, "llm_model": talk.model.model},
    }
    assert talk.initial_context == {"name": "Ada"}


@EVERY_PROTOCOL
async def test_everything_of_an_outcome_is_json(talk: Talk) -> None:
    talk.script(
        {"times": 1, "reply": [{"thinking": "Hm."}, {"text": "Moment."}, {"tool": "leave"}]}, {"reply": "Goodbye."}
    )

    outcome = await talk.turn("Bye")

    for value in (
        outcome.checkpoint.to_json(),
        outcome.usage.to_json(),
        outcome.initial_context,
        outcome.gathered_context,
        [event.to_json() for event in outcome.events],
    ):
        assert json.loads(json.dumps(value)) == value


async def test_the_checkpoint_is_anchored_at_the_turn_and_keeps_what_it_does_not_know(talk: Talk) -> None:
    talk.checkpoint = Checkpoint(tool_state={"counter": 3}, extras={"from_the_future": True})
    request = talk.request("Hi", turn_id=uuid4())

    outcome = await talk.run(request)

    assert outcome.checkpoint.anchor_turn_id == str(request.turn_id)
    assert outcome.checkpoint.tool_state == {"counter": 3}
    assert outcome.checkpoint.extras == {"from_the_future": True}


async def test_the_checkpoint_a_turn_starts_from_is_never_changed(talk: Talk) -> None:
    talk.at(
        "start",
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
        {"role": "assistant", "content": "Hello."},
    )
    start = replace(talk.checkpoint, gathered_context={"seen": ["a"], "nodes_visited": ["Reception"]})
    talk.checkpoint = start
    before = copy.deepcopy(start.to_json())
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("A date")

    assert start.to_json() == before
    assert outcome.checkpoint.messages[:2] == start.messages
    assert outcome.gathered_context["nodes_visited"] == ["Reception", "Booking"]


@ANTHROPIC
async def test_thinking_goes_back_to_the_provider_exactly_as_it_came(talk: Talk) -> None:
    assert talk.model is not None
    talk.model = replace(
        talk.model, max_tokens=4096, parameters={"thinking": {"type": "enabled", "budget_tokens": 1024}}
    )
    talk.at("start")
    talk.script(
        {
            "times": 1,
            "reply": [{"thinking": "They want a date."}, {"text": "Sure."}, {"tool": "book"}, {"tool": "fly"}],
        },
        {"reply": [{"thinking": "Ask when."}, {"text": "When?"}]},
    )

    outcome = await talk.turn("A date")
    await talk.turn("Monday")

    assert outcome.assistant_text == "Sure.\n\nOne moment, Ada.\n\nWhen?"
    stored: Any = outcome.checkpoint.messages[1]
    assert stored["llm"] == "anthropic"
    assert [block["type"] for block in stored["message"]["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    sent = talk.llm.requests[-1].body["messages"]
    assert sent[1] == stored["message"]
    assert [request.refused for request in talk.llm.requests] == [None, None, None]


@ANTHROPIC
async def test_images_and_blocks_nobody_knows_survive_the_checkpoint(talk: Talk) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    own = {"llm": "anthropic", "message": {"role": "user", "content": [picture, {"type": "text", "text": "See?"}]}}
    talk.at("start", own, {"role": "assistant", "content": "I see."})

    outcome = await talk.turn("Well?")

    assert outcome.checkpoint.messages[0] == own
    first, second = talk.llm.requests[0].body["messages"][0]["content"]
    assert (first, second["text"]) == (picture, "See?")


@ANTHROPIC
async def test_a_conversation_goes_on_with_another_provider(talk: Talk) -> None:
    assert talk.model is not None
    anthropic, openai = talk.model, replace(talk.model, provider="openai", base_url=f"{talk.llm.base_url}/v1")
    talk.at("start")
    talk.script(*THERE_AND_BACK)
    await talk.turn("A date")

    talk.model = openai
    await talk.turn("Back, please")
    talk.model = anthropic
    outcome = await talk.turn("Hello?")

    assert outcome.assistant_text == "Here we are."
    assert [request.refused for request in talk.llm.requests] == [None] * 5
    to_openai, to_anthropic = talk.llm.requests[2].body["messages"], talk.llm.requests[4].body["messages"]
    assert to_openai[2]["content"] == "Sure."
    assert to_openai[2]["tool_calls"][0]["function"]["name"] == "book"
    assert [block["type"] for block in to_anthropic[5]["content"]] == ["text", "tool_use"]


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
async def test_a_reply_that_stops_early_is_an_event_with_its_reason(talk: Talk, reason: str) -> None:
    talk.script({"reply": "I was about to", "stop_reason": reason})

    outcome = await talk.turn("Go on")

    assert outcome.assistant_text == "Hello Ada.\n\nI was about to"
    (stopped,) = [event for event in outcome.events if event.type == REPLY_STOPPED_EARLY]
    assert stopped.payload["reason"] == reason


async def test_a_refusal_without_a_word_is_an_event_and_no_text(talk: Talk) -> None:
    talk.at("start")
    talk.script({"times": 1, "reply": [], "stop_reason": "refusal"}, {"reply": "Yes."})

    outcome = await talk.turn("Do harm")

    assert outcome.assistant_text is None
    assert outcome.assistant_created_at is None
    assert [event.type for event in outcome.events] == [REPLY_STOPPED_EARLY]
    assert (await talk.turn("Hello")).assistant_text == "Yes."


@EVERY_PROTOCOL
@pytest.mark.parametrize("reply", [[{"thinking": "Hm."}], [{"thinking": "Hm."}, {"tool": "book"}]])
async def test_the_conversation_goes_on_after_a_reply_that_was_cut_short_while_thinking(
    talk: Talk, reply: list[dict[str, Any]]
) -> None:
    talk.at("start")
    talk.script({"times": 1, "reply": reply, "stop_reason": "max_tokens"}, {"reply": "When?"})

    cut_short = await talk.turn("A date")

    assert [event.type for event in cut_short.events] == [REPLY_STOPPED_EARLY]
    assert (await talk.turn("Well?")).assistant_text == "When?"


@EVERY_PROTOCOL
async def test_a_tool_call_that_was_cut_short_is_not_made(talk: Talk) -> None:
    talk.at("start")
    talk.script({"reply": [{"text": "I will"}, {"tool": "book"}], "stop_reason": "max_tokens"})

    outcome = await talk.turn("A date")

    assert outcome.assistant_text == "I will"
    assert outcome.checkpoint.messages[-1] == {"role": "assistant", "content": "I will"}
    assert outcome.checkpoint.current_node_id == "start"


async def test_the_model_configuration_reaches_the_provider(talk: Talk) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, max_tokens=77, temperature=0.25, parameters={"top_p": 0.5, "made_up": [1]})

    await talk.turn("Hi")

    body = talk.llm.requests[0].body
    assert body["model"] == talk.model.model
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["made_up"]) == (77, 0.25, 0.5, [1])


async def test_one_client_serves_all_turns_of_a_credential(talk: Talk) -> None:
    assert talk.model is not None
    async with talk.clients.lend(talk.model) as (_, first):
        await talk.turn("Hi")
    async with talk.clients.lend(replace(talk.model)) as (_, second):
        assert first is second
    async with talk.clients.lend(replace(talk.model, api_key=None)) as (_, other):
        assert other is not first


async def test_turns_that_begin_at_once_share_one_client(talk: Talk) -> None:
    assert talk.model is not None
    model = talk.model

    async def borrowed() -> object:
        async with talk.clients.lend(model) as (_, client):
            return client

    first, *others = await asyncio.gather(*(borrowed() for _ in range(5)))

    assert all(other is first for other in others)


@EVERY_PROTOCOL
async def test_many_turns_at_once_do_not_mix(talk: Talk) -> None:
    many = 40
    talk.at("start")
    talk.script(
        {"when": {"tool_offered": "book"}, "reply": [{"text": "I am {user}."}, {"tool": "book"}]},
        {"when": {"user_matches": "number (?P<n>\\d+)"}, "reply": "{n}", "hold": "all together"},
    )
    start = talk.checkpoint
    turns = [
        asyncio.create_task(talk.run(talk.request(f"number {n}", checkpoint=start, initial_context={"name": str(n)})))
        for n in range(many)
    ]
    await talk.llm.wait_for_request(lambda request: "booked" in request.tools, count=many)

    talk.llm.release("all together")
    outcomes = await asyncio.gather(*turns)

    for n, outcome in enumerate(outcomes):
        assert outcome.assistant_text == f"I am number {n}.\n\nOne moment, {n}.\n\n{n}"
        assert len(outcome.checkpoint.messages) == 4
        assert len(outcome.events) == 3


@EVERY_PROTOCOL
async def test_a_conversation_is_out_of_memory_as_soon_as_its_turn_is_over(talk: Talk) -> None:
    """And not when garbage is next collected: until then, every turn of a long conversation would hold all of it."""
    said: dict[str, Any] = {"role": "user", "content": "Good morning."}
    talk.script({"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]}, {"reply": "When?"})
    talk.checkpoint = Checkpoint(
        current_node_id="start", messages=[said, {"role": "assistant", "content": "Good morning, Ada."}]
    )
    gc.disable()
    try:
        await talk.turn("A date")
        talk.checkpoint = Checkpoint()
        assert [holder for holder in gc.get_referrers(said) if isinstance(holder, list)] == []
    finally:
        gc.enable()


async def test_images_of_the_user_reach_the_provider_and_stay_in_the_conversation(talk: Talk) -> None:
    talk.at("start")
    picture = Image(media_type="image/png", data="iVBORw0KGgo=")

    await talk.turn(UserMessage("What is this?", (picture, Image(url="https://a.example/b.png"))))
    await talk.turn("And now?")

    for request in talk.llm.requests:
        (first, *_) = request.body["messages"] if "system" in request.body else request.body["messages"][1:]
        sources = [part.get("source") or part.get("image_url") for part in first["content"][:2]]
        assert sources in (
            [
                {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                {"type": "url", "url": "https://a.example/b.png"},
            ],
            [{"url": "data:image/png;base64,iVBORw0KGgo="}, {"url": "https://a.example/b.png"}],
        )
    assert (
        talk.checkpoint.messages[0]["content"]
        == UserMessage("What is this?", (picture, Image(url="https://a.example/b.png"))).content
    )
