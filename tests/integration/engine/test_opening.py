"""How a turn begins: greeting, opening by the model, and going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.talk import CLINIC
from worker.conversation.event import NODE_TRANSITION
from worker.engine.failures import BlankUserMessage, LLMNotConfigured
from worker.engine.prompts import NEUTRAL_USER_MESSAGE
from worker.workflow.graph import UnknownNode

if TYPE_CHECKING:
    from tests.integration.engine.talk import Talk

WITHOUT_GREETING: dict[str, Any] = {
    **CLINIC,
    "nodes": [{**CLINIC["nodes"][0], "data": {**CLINIC["nodes"][0]["data"], "greeting": ""}}, *CLINIC["nodes"][1:]],
}
SPOKEN_GREETING: dict[str, Any] = {
    **CLINIC,
    "nodes": [
        {**CLINIC["nodes"][0], "data": {**CLINIC["nodes"][0]["data"], "greeting_type": "audio"}},
        *CLINIC["nodes"][1:],
    ],
}


async def test_a_greeting_opens_the_conversation_without_the_model(talk: Talk) -> None:
    outcome = await talk.turn()

    assert outcome.assistant_text == "Hello Ada."
    assert outcome.assistant_created_at is not None
    assert talk.llm.requests == []
    assert outcome.checkpoint.messages == [{"role": "assistant", "content": "Hello Ada."}]
    assert outcome.checkpoint.current_node_id == "start"
    assert outcome.session_state == "running"
    assert not outcome.completed


@pytest.mark.parametrize("graph", [CLINIC, WITHOUT_GREETING, SPOKEN_GREETING])
async def test_a_session_may_have_a_greeting_of_its_own(talk: Talk, graph: dict[str, Any]) -> None:
    talk.draw(graph)
    talk.initial_context["greeting_override"] = {"type": "text", "text": "Good morning, Dr. {{ name }}!"}

    outcome = await talk.turn()

    assert outcome.assistant_text == "Good morning, Dr. Ada!"
    assert talk.llm.requests == []
    assert outcome.checkpoint.messages == [{"role": "assistant", "content": "Good morning, Dr. Ada!"}]


async def test_a_greeting_of_its_own_that_cannot_be_read_leaves_the_workflows(talk: Talk) -> None:
    talk.initial_context["greeting_override"] = {"type": "song"}

    assert (await talk.turn()).assistant_text == "Hello Ada."


async def test_a_delayed_start_is_for_voice_and_does_not_hold_a_text_turn_up(talk: Talk) -> None:
    start, *others = CLINIC["nodes"]
    delayed = {**start, "data": {**start["data"], "delayed_start": True, "delayed_start_duration": 3600}}
    talk.draw({**CLINIC, "nodes": [delayed, *others]})

    assert (await talk.turn()).assistant_text == "Hello Ada."  # a turn that slept would fail with its time limit


async def test_a_greeting_needs_no_model_at_all(talk: Talk) -> None:
    talk.model = None

    outcome = await talk.turn()

    assert outcome.assistant_text == "Hello Ada."
    assert "runtime_configuration" not in outcome.initial_context


async def test_the_model_is_told_of_the_greeting_so_that_it_does_not_greet_twice(talk: Talk) -> None:
    await talk.turn()

    await talk.turn("Hi")

    (request,) = talk.llm.requests
    assert "Hello Ada." in str(request.body)
    assert request.user_text == "Hi"


async def test_a_session_that_begins_with_the_user_gets_greeting_and_answer(talk: Talk) -> None:
    talk.script({"reply": "Of course."})

    outcome = await talk.turn("A date, please")

    assert outcome.assistant_text == "Hello Ada.\n\nOf course."
    assert [message["role"] for message in outcome.checkpoint.messages] == ["assistant", "user", "assistant"]


async def test_without_a_greeting_the_model_opens(talk: Talk) -> None:
    talk.draw(WITHOUT_GREETING)
    talk.script({"reply": "Welcome!"})

    outcome = await talk.turn()

    assert outcome.assistant_text == "Welcome!"
    assert outcome.checkpoint.messages == [{"role": "assistant", "content": "Welcome!"}]
    assert talk.llm.requests[0].user_text == NEUTRAL_USER_MESSAGE


async def test_a_greeting_that_renders_to_nothing_is_none(talk: Talk) -> None:
    node = CLINIC["nodes"][0]
    talk.draw(
        {**CLINIC, "nodes": [{**node, "data": {**node["data"], "greeting": "{{ nothing }}"}}, *CLINIC["nodes"][1:]]}
    )
    talk.script({"reply": "Welcome!"})

    assert (await talk.turn()).assistant_text == "Welcome!"


async def test_a_turn_without_a_message_on_an_open_node_lets_the_model_go_on(talk: Talk) -> None:
    talk.at("start", {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."})
    talk.script({"reply": "Are you still there?"})

    outcome = await talk.turn()

    assert outcome.assistant_text == "Are you still there?"
    assert outcome.events == ()
    assert talk.llm.requests[0].user_text == NEUTRAL_USER_MESSAGE
    assert NEUTRAL_USER_MESSAGE not in str(outcome.checkpoint.messages)


async def test_entering_the_start_node_is_an_event_and_standing_on_a_node_is_none(talk: Talk) -> None:
    opening = await talk.turn()
    second = await talk.turn("Hi")

    (entered,) = opening.events
    assert entered.type == NODE_TRANSITION
    assert entered.payload == {
        "node_id": "start",
        "node_name": "Reception",
        "previous_node_id": None,
        "previous_node_name": None,
        "allow_interrupt": False,
    }
    assert second.events == ()
    assert second.gathered_context == {"nodes_visited": ["Reception"]}


async def test_the_system_prompt_is_the_global_prompt_a_blank_line_and_the_nodes_own(talk: Talk) -> None:
    await talk.turn("Hi")

    assert talk.llm.requests[0].system == "Be kind.\n\nReceive Ada."


async def test_user_text_is_trimmed_and_several_messages_are_answered_once(talk: Talk) -> None:
    talk.at("start")
    talk.script({"reply": "Yes."})

    outcome = await talk.turn("  Hi ", "\nAre you there?")

    assert outcome.assistant_text == "Yes."
    assert len(talk.llm.requests) == 1
    assert outcome.checkpoint.messages[:2] == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Are you there?"},
    ]


async def test_blank_user_text_never_means_an_opening(talk: Talk) -> None:
    with pytest.raises(BlankUserMessage):
        await talk.turn("  \n")

    assert talk.llm.requests == []


async def test_a_turn_that_needs_a_model_fails_when_none_is_configured(talk: Talk) -> None:
    talk.model = None

    with pytest.raises(LLMNotConfigured) as failed:
        await talk.turn("Hi")

    assert failed.value.code == "llm_not_configured"
    assert not failed.value.retryable


async def test_a_checkpoint_on_a_node_that_is_gone_is_an_error(talk: Talk) -> None:
    talk.at("nowhere")

    with pytest.raises(UnknownNode, match="nowhere"):
        await talk.turn("Hi")
