"""Summarising what was said before, once the conversation has moved to another node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.talk import EVERY_PROTOCOL
from worker.conversation.event import CONTEXT_COMPACTED, CONTEXT_COMPACTION_FAILED
from worker.conversation.tool_calls import unpaired_tool_calls
from worker.engine.prompts import SUMMARY_HEADING, SUMMARY_INSTRUCTIONS

if TYPE_CHECKING:
    from tests.integration.engine.talk import Talk
    from worker.conversation.history import Message
    from worker.embedded.scripted_llm.recorder import RecordedRequest
    from worker.engine.outcome import TurnOutcome

ASKED = {"system_contains": "summarise the earlier part"}
SUMMARY = {"when": ASKED, "reply": "Ada wants a date on Monday."}
MOVE = {"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]}
OLDER: list[Message] = [
    {"role": "user", "content": "Long ago. " * 300},
    {
        "role": "assistant",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": '{"found": "Monday at ten"}'},
    {"role": "assistant", "content": "There is Monday. " * 100},
]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
COMPACTED: Message = {"role": "user", "content": f"{SUMMARY_HEADING}\n\nAda wants a date on Monday."}


def events(outcome: TurnOutcome, kind: str) -> list[dict[str, Any]]:
    return [event.payload for event in outcome.events if event.type == kind]


def questions(talk: Talk) -> list[RecordedRequest]:
    return [request for request in talk.llm.requests if request.system == SUMMARY_INSTRUCTIONS]


async def test_after_a_transition_what_was_said_before_the_turn_becomes_a_summary(talk: Talk) -> None:
    talk.at("start", *OLDER)
    talk.script(SUMMARY, MOVE, {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=True)

    assert outcome.checkpoint.messages[0] == COMPACTED
    assert [message["role"] for message in outcome.checkpoint.messages] == [
        "user",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert outcome.checkpoint.messages[1] == {"role": "user", "content": "I want a date"}
    assert outcome.checkpoint.messages[-1] == {"role": "assistant", "content": "When?"}
    assert unpaired_tool_calls(outcome.checkpoint.messages) == ()
    (compacted,) = events(outcome, CONTEXT_COMPACTED)
    assert compacted["messages"] == 4
    assert compacted["characters_before"] > 4_000 > compacted["characters_after"]


async def test_the_model_reads_everything_said_before_and_tool_results_with_it(talk: Talk) -> None:
    talk.at("start", *OLDER)
    talk.script(SUMMARY, MOVE, {"reply": "When?"})

    await talk.turn("I want a date", compact_context=True)

    (question,) = questions(talk)
    assert question.user_text.startswith("User: Long ago.")
    assert 'Tool result (look): {"found": "Monday at ten"}' in question.user_text
    assert "I want a date" not in question.user_text
    assert question.tools == frozenset()


@EVERY_PROTOCOL
async def test_the_next_turn_goes_on_from_the_summary(talk: Talk) -> None:
    talk.at("start", *OLDER)
    talk.script(SUMMARY, MOVE, {"reply": "When?"})
    await talk.turn("I want a date", compact_context=True)

    await talk.turn("On Monday", compact_context=True)

    sent = json.dumps(talk.llm.requests[-1].body)
    assert "Ada wants a date on Monday." in sent
    assert "Long ago." not in sent
    assert len(questions(talk)) == 1


async def test_a_summary_of_a_summary_takes_its_place(talk: Talk) -> None:
    talk.at("start", COMPACTED, {"role": "assistant", "content": "And then? " * 500})
    talk.script({"when": ASKED, "reply": "Ada still wants Monday."}, MOVE, {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=True)

    assert "Ada wants a date on Monday." in questions(talk)[0].user_text
    assert str(outcome.checkpoint.messages).count(SUMMARY_HEADING) == 1


@pytest.mark.parametrize(
    ("older", "compact", "moves"),
    [(OLDER, False, True), (OLDER, True, False), (OLDER[:1], True, True), ([], True, True)],
    ids=["not wanted", "no transition", "too little", "nothing at all"],
)
async def test_otherwise_the_context_stays_as_it_is(
    talk: Talk, older: list[Message], *, compact: bool, moves: bool
) -> None:
    talk.at("start", *older)
    talk.script(SUMMARY, *([MOVE] if moves else []), {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=compact)

    assert outcome.checkpoint.messages[: len(older)] == older
    assert questions(talk) == []
    assert events(outcome, CONTEXT_COMPACTED) == []


async def test_what_the_user_showed_stays(talk: Talk) -> None:
    picture: Message = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "text", "text": "My tooth."},
        ],
    }
    talk.at("start", picture, *OLDER)
    talk.script(SUMMARY, MOVE, {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=True)

    assert outcome.checkpoint.messages[:2] == [COMPACTED, picture]
    assert events(outcome, CONTEXT_COMPACTED)[0]["messages"] == 4
    assert questions(talk)[0].user_text.startswith("User: [image]\n    My tooth.")
    await talk.turn("On Monday", compact_context=True)
    sent = json.dumps(talk.llm.requests[-1].body).translate(str.maketrans("-_", "+/"))  # Google's base64 is for URLs
    assert PIXEL in sent


async def test_a_large_picture_is_no_reason_to_summarise_a_short_conversation(talk: Talk) -> None:
    picture: Message = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 8_000}"}}],
    }
    talk.at("start", picture, {"role": "assistant", "content": "I see."})
    talk.script(SUMMARY, MOVE, {"reply": "When?"})

    await talk.turn("I want a date", compact_context=True)

    assert questions(talk) == []


async def test_entering_the_start_node_is_no_transition(talk: Talk) -> None:
    talk.at(None, *OLDER)

    await talk.turn("Hi", compact_context=True)

    assert questions(talk) == []


async def test_a_session_that_ends_is_not_compacted(talk: Talk) -> None:
    talk.at("start", *OLDER)
    talk.script(SUMMARY, {"when": {"tool_offered": "leave"}, "reply": [{"tool": "leave"}]}, {"reply": "Bye."})

    outcome = await talk.turn("Bye", compact_context=True)

    assert outcome.completed
    assert questions(talk) == []
    assert outcome.checkpoint.messages[:4] == OLDER


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": {"status": 500}}, "llm_unavailable"),
        ({"error": {"status": 401}}, "llm_authentication_failed"),
        ({"reply": "Ada wa", "stop_reason": "max_tokens"}, "llm_reply_cut_short"),
        ({"reply": []}, "llm_empty_reply"),
        ({"reply": "Blah. " * 2_000, "chunk_characters": 4_000}, "summary_not_shorter"),
    ],
)
async def test_when_it_fails_the_full_context_is_kept_and_an_event_says_so(
    talk: Talk, answer: dict[str, Any], code: str
) -> None:
    talk.at("start", *OLDER)
    talk.script({"when": ASKED, **answer}, MOVE, {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=True)

    assert outcome.assistant_text == "One moment, Ada.\n\nWhen?"
    assert outcome.checkpoint.messages[:4] == OLDER
    (failed,) = events(outcome, CONTEXT_COMPACTION_FAILED)
    assert failed["code"] == code
    assert events(outcome, CONTEXT_COMPACTED) == []


async def test_its_tokens_are_counted(talk: Talk) -> None:
    talk.at("start", *OLDER)
    talk.script({**SUMMARY, "usage": {"input_tokens": 900, "output_tokens": 99}}, MOVE, {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=True)

    assert [call.number for call in talk.ledger.calls] == [1, 2, 3]
    assert talk.ledger.calls[-1].usage.total_tokens == 999
    assert [call.purpose for call in talk.ledger.calls] == ["conversation", "conversation", "compaction"]
    (used,) = outcome.usage.llm.values()
    assert used.total_tokens == sum(call.usage.total_tokens for call in talk.ledger.calls)


async def test_the_checkpoint_it_began_with_is_not_changed(talk: Talk) -> None:
    talk.at("start", *OLDER)
    before = talk.checkpoint
    talk.script(SUMMARY, MOVE, {"reply": "When?"})

    await talk.turn("I want a date", compact_context=True)

    assert before.messages == OLDER


async def test_a_summary_that_takes_too_long_is_given_up_within_the_limit_of_the_turn(talk: Talk) -> None:
    talk.at("start", *OLDER)
    talk.script({**SUMMARY, "hold": "never"}, MOVE, {"reply": "When?"})

    outcome = await talk.turn("I want a date", compact_context=True, time_limit_seconds=4)

    assert outcome.assistant_text == "One moment, Ada.\n\nWhen?"
    assert events(outcome, CONTEXT_COMPACTION_FAILED)[0]["code"] == "llm_timeout"
