"""Recordings, which a text conversation shows as what is said in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.engine.talk import Recorded
from tests.integration.engine.tool_calls import call
from worker.conversation.event import RECORDING_MISSING
from worker.engine.prompts import RECORDING_INSTRUCTIONS
from worker.engine.tools.speech import speaking
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult
from worker.storage.database import DatabaseUnavailable

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.engine.outcome import TurnOutcome


def missing(outcome: TurnOutcome) -> list[JsonValue]:
    return [event.payload["recording_id"] for event in outcome.events if event.type == RECORDING_MISSING]


def on_a_node_with_recordings(talk: Talk) -> None:
    talk.node("book", prompt="Book. RECORDING_ID: hours1 says when we are open.")
    talk.recorded.transcripts = {"hours1": "We are open from nine to five.", "welcome": "Welcome to the clinic."}
    talk.at("book")


async def test_a_greeting_that_was_recorded_is_shown_as_its_transcript_and_is_in_the_context(talk: Talk) -> None:
    talk.node("start", greeting_type="audio", greeting_recording_id="welcome")
    talk.recorded.transcripts = {"welcome": "Welcome to the clinic."}

    outcome = await talk.turn()

    assert outcome.assistant_text == "Welcome to the clinic."
    assert outcome.checkpoint.messages == [{"role": "assistant", "content": "Welcome to the clinic."}]
    assert talk.llm.requests == []


async def test_a_greeting_recording_that_is_missing_is_an_event_and_the_model_opens(talk: Talk) -> None:
    talk.node("start", greeting_type="audio", greeting_recording_id="lost")
    talk.script({"reply": "Welcome!"})

    outcome = await talk.turn()

    assert outcome.assistant_text == "Welcome!"
    assert missing(outcome) == ["lost"]


async def test_with_a_user_message_a_missing_greeting_recording_leaves_just_the_answer(talk: Talk) -> None:
    talk.node("start", greeting_type="audio", greeting_recording_id="lost")
    talk.script({"reply": "Of course."})

    outcome = await talk.turn("A date, please")

    assert outcome.assistant_text == "Of course."
    assert [message["role"] for message in outcome.checkpoint.messages] == ["user", "assistant"]
    assert len(talk.llm.requests) == 1


async def test_a_session_may_be_greeted_with_a_recording_of_its_own(talk: Talk) -> None:
    talk.initial_context["greeting_override"] = {"type": "recording", "recording_id": "welcome"}
    talk.recorded.transcripts = {"welcome": "Welcome back!"}

    assert (await talk.turn()).assistant_text == "Welcome back!"


async def test_a_greeting_recording_of_its_own_that_is_missing_leaves_the_opening_to_the_model(talk: Talk) -> None:
    talk.initial_context["greeting_override"] = {"type": "recording", "recording_id": "lost"}
    talk.script({"reply": "Welcome!"})

    outcome = await talk.turn()

    assert outcome.assistant_text == "Welcome!"
    assert missing(outcome) == ["lost"]


async def test_a_transition_speech_that_was_recorded_is_shown_and_not_told_to_the_model(talk: Talk) -> None:
    talk.edge("start-book", transition_speech_type="audio", transition_speech_recording_id="wait")
    talk.recorded.transcripts = {"wait": "Please hold the line."}
    talk.at("start")
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("A date, please")

    assert outcome.assistant_text == "Please hold the line.\n\nWhen?"
    assert "hold the line" not in str(talk.llm.requests[-1].body)


async def test_a_missing_transition_recording_is_an_event_and_the_node_changes_all_the_same(talk: Talk) -> None:
    talk.edge("start-book", transition_speech_type="audio", transition_speech_recording_id="lost")
    talk.at("start")
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("A date, please")

    assert outcome.assistant_text == "When?"
    assert outcome.checkpoint.current_node_id == "book"
    assert missing(outcome) == ["lost"]


@pytest.mark.parametrize(
    "reply",
    ["● hours1", "●hours1", "● [hours1]", "● RECORDING_ID: hours1", "● `hours1`", "● hours1\nWe are open all day."],
)
async def test_a_reply_that_names_a_recording_is_shown_as_its_transcript(talk: Talk, reply: str) -> None:
    on_a_node_with_recordings(talk)
    talk.script({"reply": reply})

    outcome = await talk.turn("When are you open?")

    assert outcome.assistant_text == "We are open from nine to five."


async def test_a_recording_that_cannot_be_read_for_now_hands_the_turn_back(talk: Talk) -> None:
    on_a_node_with_recordings(talk)
    talk.script({"reply": "● hours1"})
    talk.recorded.trouble = DatabaseUnavailable("It restarts.")

    with pytest.raises(DatabaseUnavailable):
        await talk.turn("When are you open?")


async def test_a_tool_does_not_run_while_the_recording_that_goes_with_it_cannot_be_read() -> None:
    ran: list[ToolInvocation] = []

    async def run(invocation: ToolInvocation) -> ToolResult:
        ran.append(invocation)
        return ToolResult(result="done")

    tool = speaking(
        Tool(name="book", description="Books.", run=run), "wait", Recorded(trouble=DatabaseUnavailable("It restarts."))
    )
    with pytest.raises(DatabaseUnavailable):
        await call(tool)
    assert ran == []


@pytest.mark.parametrize("reply", ["▸ At ten.", "▸At ten.", " ▸  At ten. "])
async def test_a_reply_in_the_models_own_words_is_shown_without_its_marker(talk: Talk, reply: str) -> None:
    on_a_node_with_recordings(talk)
    talk.script({"reply": reply})

    assert (await talk.turn("When?")).assistant_text == "At ten."


@pytest.mark.parametrize("reply", ["● hours1", "▸ At ten."])
async def test_the_context_keeps_what_the_model_said_with_its_marker(talk: Talk, reply: str) -> None:
    on_a_node_with_recordings(talk)
    talk.script({"reply": reply})

    outcome = await talk.turn("When?")

    assert outcome.checkpoint.messages[-1] == {"role": "assistant", "content": reply}


async def test_a_recording_the_model_made_up_is_an_event_and_what_it_wrote_beside_is_shown(talk: Talk) -> None:
    on_a_node_with_recordings(talk)
    talk.script({"reply": "● prices9 It costs nothing."})

    outcome = await talk.turn("What does it cost?")

    assert outcome.assistant_text == "It costs nothing."
    assert missing(outcome) == ["prices9"]


async def test_the_instructions_are_appended_where_the_prompt_names_a_recording(talk: Talk) -> None:
    on_a_node_with_recordings(talk)

    await talk.turn("When?")

    prompt = "Be kind.\n\nBook. RECORDING_ID: hours1 says when we are open."
    assert talk.llm.requests[-1].system == f"{prompt}\n\n{RECORDING_INSTRUCTIONS}"


async def test_a_rendered_value_may_name_the_recording(talk: Talk) -> None:
    talk.node("book", prompt="Book. {{ recordings }}")
    talk.initial_context["recordings"] = "RECORDING_ID: hours1"
    talk.recorded.transcripts = {"hours1": "We are open."}
    talk.at("book")

    await talk.turn("When?")

    assert RECORDING_INSTRUCTIONS in talk.llm.requests[-1].system


async def test_without_recordings_in_the_organization_a_prompt_that_names_one_changes_nothing(talk: Talk) -> None:
    on_a_node_with_recordings(talk)
    talk.recorded.transcripts = {}
    talk.script({"reply": "● hours1"})

    outcome = await talk.turn("When?")

    assert RECORDING_INSTRUCTIONS not in talk.llm.requests[-1].system
    assert outcome.assistant_text == "● hours1"
    assert missing(outcome) == []


async def test_a_prompt_that_names_no_recording_costs_no_look_at_the_recordings(talk: Talk) -> None:
    talk.recorded.transcripts = {"hours1": "We are open."}
    talk.at("book")

    await talk.turn("When?")

    assert RECORDING_INSTRUCTIONS not in talk.llm.requests[-1].system
    assert talk.recorded.asked == 0


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("▸ At ten.", "At ten."),
        ("● hours1", "We are open."),
        ("● Cleaning\n● Filling", "● Cleaning\n● Filling"),
    ],
)
async def test_where_recordings_are_not_on_offer_markers_vanish_and_lists_stay(
    talk: Talk, reply: str, shown: str
) -> None:
    talk.recorded.transcripts = {"hours1": "We are open."}
    talk.at("book")
    talk.script({"reply": reply})

    outcome = await talk.turn("What do you do?")

    assert outcome.assistant_text == shown
    assert missing(outcome) == []
