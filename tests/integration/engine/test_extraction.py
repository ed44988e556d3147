"""Learning a node's variables before the node is left and before the session ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.talk import ANTHROPIC, OPENAI, MemoryJournal, tool
from worker.conversation.event import (
    NODE_TRANSITION,
    SESSION_END,
    TOOL_CALL_RESULT,
    VARIABLE_EXTRACTION_FAILED,
    VARIABLES_EXTRACTED,
)
from worker.engine.failures import LLMOverloaded
from worker.engine.prompts import EXTRACTION_INSTRUCTIONS
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.embedded.scripted_llm.recorder import RecordedRequest
    from worker.engine.outcome import TurnOutcome

VARIABLES: list[dict[str, str]] = [
    {"name": "day", "type": "string", "prompt": "the day {{ name }} wants"},
    {"name": "persons", "type": "number"},
    {"name": "insured", "type": "boolean", "prompt": ""},
]
ASKED = {"system_contains": "note down"}
FOUND = {"when": ASKED, "reply": '{"day": "Monday", "persons": "2", "insured": null}'}


def extracting(talk: Talk, *node_ids: str) -> None:
    for node_id in node_ids:
        talk.node(
            node_id,
            extraction_enabled=True,
            extraction_prompt="Read what {{ name }} wants.",
            extraction_variables=VARIABLES,
        )


def questions(talk: Talk) -> list[RecordedRequest]:
    return [request for request in talk.llm.requests if request.system == EXTRACTION_INSTRUCTIONS]


def events(outcome: TurnOutcome, kind: str) -> list[dict[str, Any]]:
    return [event.payload for event in outcome.events if event.type == kind]


def kinds(outcome: TurnOutcome) -> list[str]:
    return [event.type for event in outcome.events]


async def test_the_variables_of_a_node_are_learned_before_it_is_left(talk: Talk) -> None:
    extracting(talk, "start")
    talk.node("book", prompt="Book for {{ gathered_context.day }}.")
    talk.at("start", {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."})
    talk.script(FOUND, {"when": {"tool_offered": "leave"}, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("Monday, for two")

    assert outcome.gathered_context["day"] == "Monday"
    assert outcome.gathered_context["persons"] == 2
    assert "insured" not in outcome.gathered_context
    assert outcome.gathered_context["extracted_variables"] == {"day": "Monday", "persons": 2}
    assert talk.llm.requests[-1].system == "Be kind.\n\nBook for Monday."
    assert kinds(outcome)[1:] == [VARIABLES_EXTRACTED, NODE_TRANSITION, TOOL_CALL_RESULT]
    assert events(outcome, VARIABLES_EXTRACTED) == [
        {
            "node_id": "start",
            "node_name": "Reception",
            "variables": {"day": "Monday", "persons": 2},
            "unknown": ["insured"],
            "rejected": [],
        }
    ]


async def test_the_question_holds_the_rendered_prompt_the_typed_variables_and_the_history(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start", {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."})
    talk.script(FOUND, {"when": {"tool_offered": "leave"}, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    await talk.turn("Monday, for two")

    (question,) = questions(talk)
    assert question.tools == frozenset()
    assert question.user_text == (
        "Read what Ada wants.\n\n# Variables\n\n- day (string): the day Ada wants\n- persons (number)\n- insured (boolean)"
        "\n\n# Conversation\n\nUser: Hi\n\nAssistant: Hello.\n\nUser: Monday, for two"
    )


async def test_tool_results_are_in_the_history_those_of_the_same_reply_too_and_transitions_are_not(talk: Talk) -> None:
    async def free_times(_: Mapping[str, JsonValue]) -> JsonValue:
        return {"free": ["ten"]}

    extracting(talk, "start", "book")
    talk.at("start")
    talk.tools.by_node["book"] = [tool("free_times", free_times)]
    talk.script(
        FOUND,
        {"times": 1, "reply": [{"tool": "book"}]},
        {"times": 1, "reply": [{"tool": "free_times"}, {"tool": "booked"}]},
        {"reply": "Goodbye."},
    )

    await talk.turn("Monday")

    leaving_start, leaving_book = (request.user_text for request in questions(talk))
    assert "Tool result" not in leaving_start
    assert leaving_book.endswith('User: Monday\n\nTool result (free_times): {"free": ["ten"]}')


async def test_an_end_node_learns_after_its_closing_reply_and_before_the_disposition(talk: Talk) -> None:
    extracting(talk, "end")
    talk.node("end", extraction_variables=[{"name": "call_disposition"}, {"name": "persons", "type": "number"}])
    talk.at("book")
    talk.script(
        {"when": ASKED, "reply": '{"call_disposition": "booked", "persons": 2}'},
        {"when": {"tool_offered": "booked"}, "reply": [{"tool": "booked"}]},
        {"reply": "See you."},
    )

    outcome = await talk.turn("Yes")

    assert outcome.completed
    assert questions(talk)[0].user_text.endswith("User: Yes\n\nAssistant: See you.")
    assert kinds(outcome)[-2:] == [VARIABLES_EXTRACTED, SESSION_END]
    assert outcome.events[-1].payload == {"reason": "user_qualified"}
    assert outcome.gathered_context["call_disposition"] == "booked"
    assert outcome.gathered_context["mapped_call_disposition"] == "booked"
    assert outcome.gathered_context["call_tags"] == ["booked"]
    assert outcome.gathered_context["extracted_variables"] == {"call_disposition": "booked", "persons": 2}


async def test_a_tool_that_ends_the_session_lets_the_node_it_leaves_learn_first(talk: Talk) -> None:
    async def hang_up(_: ToolInvocation) -> ToolResult:
        return ToolResult(result="over", message="Bye.", end_reason="bored")

    extracting(talk, "book")
    talk.at("book")
    talk.tools.by_node["book"] = [Tool(name="hang_up", description="Ends it.", run=hang_up)]
    talk.script(FOUND, {"reply": [{"tool": "hang_up"}]})

    outcome = await talk.turn("On Monday, not today")

    assert outcome.completed
    assert questions(talk)[0].user_text.endswith('Tool result (hang_up): "over"')
    assert kinds(outcome)[-2:] == [VARIABLES_EXTRACTED, SESSION_END]
    assert outcome.gathered_context["day"] == "Monday"
    assert outcome.gathered_context["call_disposition"] == "bored"


@pytest.mark.parametrize(
    "data", [{"extraction_enabled": False}, {"extraction_variables": []}], ids=["switched off", "nothing to extract"]
)
async def test_a_node_that_wants_to_know_nothing_asks_nothing(talk: Talk, data: dict[str, Any]) -> None:
    extracting(talk, "start")
    talk.node("start", **data)
    talk.at("start")
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("Monday")

    assert len(talk.llm.requests) == 2
    assert VARIABLES_EXTRACTED not in kinds(outcome)


async def test_a_turn_that_stays_on_its_node_asks_nothing(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")

    await talk.turn("Monday")

    assert len(talk.llm.requests) == 1


async def test_what_has_the_wrong_type_is_reported_and_not_learned(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.checkpoint.gathered_context.update({"persons": 4})
    talk.script(
        {"when": ASKED, "reply": '```json\n{"day": "Monday", "persons": "two or three", "insured": true,}\n```'},
        {"times": 1, "reply": [{"tool": "book"}]},
        {"reply": "When?"},
    )

    outcome = await talk.turn("Monday")

    assert outcome.gathered_context["persons"] == 4
    assert outcome.gathered_context["extracted_variables"] == {"day": "Monday", "insured": True}
    (extracted,) = events(outcome, VARIABLES_EXTRACTED)
    assert extracted["rejected"] == [
        {"name": "persons", "value": '"two or three"', "reason": "It is not one plain number."}
    ]


async def test_what_is_learned_on_several_nodes_adds_up(talk: Talk) -> None:
    extracting(talk, "start", "book")
    talk.at("start")
    talk.script(
        {"when": ASKED, "times": 1, "reply": '{"day": "Monday", "persons": 2}'},
        {"when": ASKED, "reply": '{"day": "Tuesday", "insured": true}'},
        {"times": 1, "reply": [{"tool": "book"}]},
        {"times": 1, "reply": [{"tool": "booked"}]},
        {"reply": "Goodbye."},
    )

    outcome = await talk.turn("Monday; no, Tuesday")

    assert outcome.gathered_context["extracted_variables"] == {"day": "Tuesday", "persons": 2, "insured": True}


async def test_a_variable_named_like_something_of_the_engines_does_not_overwrite_it(talk: Talk) -> None:
    extracting(talk, "start")
    talk.node("start", extraction_variables=[{"name": "nodes_visited"}, {"name": "call_tags"}])
    talk.at("start")
    talk.script(
        {"when": ASKED, "reply": '{"nodes_visited": "none", "call_tags": "vip"}'},
        {"times": 1, "reply": [{"tool": "leave"}]},
        {"reply": "Bye."},
    )

    outcome = await talk.turn("Bye")

    assert outcome.gathered_context["nodes_visited"] == ["Goodbye"]
    assert outcome.gathered_context["call_tags"] == ["user_qualified"]
    assert outcome.gathered_context["extracted_variables"] == {"nodes_visited": "none", "call_tags": "vip"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"reply": "I would rather not."}, "extraction_unreadable"),
        ({"reply": '{"day": "Mon', "stop_reason": "max_tokens"}, "llm_reply_cut_short"),
        ({"reply": []}, "llm_empty_reply"),
        ({"error": {"status": 400}}, "llm_invalid_request"),
        ({"error": {"status": 529}}, "llm_overloaded"),
        ({"error": {"status": 429, "retry_after": 1}}, "llm_rate_limited"),
        ({"reply": '{"day": "Monday"}', "break_after": 1}, "llm_stream_broken"),
        ({"reset": True}, "llm_connection_failed"),
    ],
)
async def test_an_extraction_that_fails_is_an_event_and_the_conversation_goes_on(
    talk: Talk, answer: dict[str, Any], code: str
) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.script({"when": ASKED, **answer}, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("Monday")

    assert outcome.assistant_text == "One moment, Ada.\n\nWhen?"
    assert outcome.checkpoint.current_node_id == "book"
    (failed,) = events(outcome, VARIABLE_EXTRACTION_FAILED)
    assert failed["code"] == code
    assert failed["node_id"] == "start"
    assert failed["message"]
    assert "extracted_variables" not in outcome.gathered_context


@pytest.mark.parametrize("trouble", [{"error": {"status": 529}}, {"error": {"status": 429, "retry_after": 0.01}}])
async def test_a_provider_that_cannot_answer_at_the_moment_is_asked_once_more(
    talk: Talk, trouble: dict[str, Any]
) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.script(
        {"when": ASKED, "times": 1, **trouble}, FOUND, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"}
    )

    outcome = await talk.turn("Monday")

    assert outcome.gathered_context["day"] == "Monday"
    assert VARIABLE_EXTRACTION_FAILED not in kinds(outcome)
    assert len(questions(talk)) == 2


async def test_a_silent_provider_is_given_up_and_the_conversation_goes_on(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.script(
        {"when": ASKED, "hold": "never", "reply": "{}"}, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"}
    )

    outcome = await talk.turn("Monday", time_limit_seconds=4)

    assert outcome.assistant_text == "One moment, Ada.\n\nWhen?"
    (failed,) = events(outcome, VARIABLE_EXTRACTION_FAILED)
    assert failed["code"] == "llm_timeout"
    assert "half of the time" in failed["message"]


@pytest.mark.parametrize("fails", [False, True])
async def test_its_tokens_are_counted_under_a_number_of_their_own(talk: Talk, *, fails: bool) -> None:
    extracting(talk, "start")
    talk.at("start")
    found = {"break_after": 1, "reply": "{"} if fails else {"reply": '{"day": "Monday"}'}
    usage = {"input_tokens": 1000, "output_tokens": 50}
    talk.script(
        {"when": ASKED, "usage": usage, **found},
        {"times": 1, "reply": [{"tool": "book"}], "usage": {"input_tokens": 20, "output_tokens": 3}},
        {"reply": "When?", "usage": {"input_tokens": 30, "output_tokens": 2}},
    )

    outcome = await talk.turn("Monday")

    numbers = [call.number for call in talk.ledger.calls]
    assert "extraction" in {call.purpose for call in talk.ledger.calls}
    assert numbers == list(range(1, len(numbers) + 1))
    (used,) = outcome.usage.llm.values()
    assert used.total_tokens == sum(call.usage.total_tokens for call in talk.ledger.calls)
    if not fails:
        assert [call.usage.total_tokens for call in talk.ledger.calls] == [23, 1050, 32]


async def test_questions_do_not_use_up_the_calls_of_the_conversation(talk: Talk) -> None:
    extracting(talk, "start", "book")
    talk.at("start")
    talk.script(
        FOUND, {"times": 1, "reply": [{"tool": "book"}]}, {"times": 1, "reply": [{"tool": "booked"}]}, {"reply": "Bye."}
    )

    outcome = await talk.turn("Monday", max_llm_calls=3)

    assert outcome.completed
    assert len(questions(talk)) == 2


async def test_the_question_and_its_answer_leave_no_trace_in_the_context(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.script(FOUND, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("Monday, for two")

    assert "persons" not in json.dumps(outcome.checkpoint.messages)
    assert "persons" not in str(outcome.assistant_text)
    assert [message["role"] for message in outcome.checkpoint.messages] == ["user", "assistant", "tool", "assistant"]


@ANTHROPIC
async def test_with_anthropic_a_question_asked_once_is_not_put_into_the_cache(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.script(FOUND, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    await talk.turn("Monday")

    assert "cache_control" not in json.dumps(questions(talk)[0].body)
    assert "cache_control" in json.dumps(talk.llm.requests[-1].body)


@OPENAI
async def test_with_openai_a_question_is_streamed_with_its_usage(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")
    talk.script(FOUND, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    await talk.turn("Monday")

    (question,) = questions(talk)
    assert question.body["stream"] is True
    assert question.body["stream_options"] == {"include_usage": True}


async def test_what_was_learned_before_a_worker_was_lost_is_not_asked_for_again(talk: Talk) -> None:
    extracting(talk, "start")
    talk.at("start")
    busy: dict[str, Any] = {"error": {"status": 529}}
    talk.script(FOUND, {"times": 1, "reply": [{"tool": "book"}]}, busy)
    request, journal = talk.request("Monday, for two"), MemoryJournal()
    with pytest.raises(LLMOverloaded):
        await talk.run(request, journal)
    talk.llm.clear()
    talk.script({"reply": "When?"})

    outcome = await talk.run(request, MemoryJournal(journal.lines))

    assert questions(talk) == []
    assert outcome.gathered_context["extracted_variables"] == {"day": "Monday", "persons": 2}
    assert len(events(outcome, VARIABLES_EXTRACTED)) == 1


async def test_a_session_that_had_ended_when_its_worker_was_lost_is_still_learned_from(talk: Talk) -> None:
    async def hang_up(_: ToolInvocation) -> ToolResult:
        return ToolResult(result="over", message="Bye.", end_reason="bored")

    extracting(talk, "book")
    talk.at("book")
    talk.tools.by_node["book"] = [Tool(name="hang_up", description="Ends it.", run=hang_up)]
    talk.script(FOUND, {"reply": [{"tool": "hang_up"}]})
    request, journal = talk.request("Monday"), MemoryJournal()
    await talk.run(request, journal)
    talk.llm.clear()

    outcome = await talk.run(request, MemoryJournal(journal.lines))

    assert [question.system for question in talk.llm.requests] == [EXTRACTION_INSTRUCTIONS]
    assert outcome.gathered_context["day"] == "Monday"
    assert kinds(outcome)[-2:] == [VARIABLES_EXTRACTED, SESSION_END]
