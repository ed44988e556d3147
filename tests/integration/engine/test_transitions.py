"""Moving from node to node, and the end of a session."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from tests.integration.engine.talk import CLINIC, tool
from worker.conversation.event import NODE_TRANSITION, SESSION_CANCELLED, SESSION_END

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.engine.outcome import TurnOutcome


def results(outcome: TurnOutcome) -> list[Any]:
    return [json.loads(str(message["content"])) for message in outcome.checkpoint.messages if message["role"] == "tool"]


def moves(outcome: TurnOutcome) -> list[JsonValue]:
    return [event.payload["node_id"] for event in outcome.events if event.type == NODE_TRANSITION]


async def test_a_transition_changes_prompt_and_tools_and_the_model_runs_again_once(talk: Talk) -> None:
    talk.at("start")
    talk.script({"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]}, {"reply": "When would you like?"})

    outcome = await talk.turn("A date, please")

    first, second = talk.llm.requests
    assert first.system == "Be kind.\n\nReceive Ada."
    assert first.tools == {"book", "leave"}
    assert second.system == "Be kind.\n\nBook."
    assert second.tools == {"back", "booked"}
    assert outcome.checkpoint.current_node_id == "book"
    assert results(outcome) == [{"status": "done"}]
    assert outcome.gathered_context["nodes_visited"] == ["Booking"]


async def test_the_transition_event_names_both_nodes(talk: Talk) -> None:
    talk.at("start")
    talk.script({"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    outcome = await talk.turn("A date, please")

    (moved,) = [event for event in outcome.events if event.type == NODE_TRANSITION]
    assert moved.payload == {
        "node_id": "book",
        "node_name": "Booking",
        "previous_node_id": "start",
        "previous_node_name": "Reception",
        "allow_interrupt": True,
    }


async def test_transition_speech_is_shown_between_the_replies_and_not_told_to_the_model(talk: Talk) -> None:
    talk.at("start")
    talk.script(
        {"when": {"tool_offered": "book"}, "reply": [{"text": "Gladly."}, {"tool": "book"}]}, {"reply": "When?"}
    )

    outcome = await talk.turn("A date, please")

    assert outcome.assistant_text == "Gladly.\n\nOne moment, Ada.\n\nWhen?"
    assert "One moment" not in str(outcome.checkpoint.messages)
    assert "One moment" not in str(talk.llm.requests[-1].body)


async def test_a_transition_speech_that_is_a_recording_is_not_read_out_as_text(talk: Talk) -> None:
    edge = CLINIC["edges"][0]
    spoken = {**edge, "data": {**edge["data"], "transition_speech_type": "audio"}}
    talk.draw({**CLINIC, "edges": [spoken, *CLINIC["edges"][1:]]})
    talk.at("start")
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    assert (await talk.turn("A date, please")).assistant_text == "When?"


async def test_ordinary_tools_of_the_same_reply_finish_first_in_the_old_node(talk: Talk) -> None:
    order = []
    let_go = asyncio.Event()

    async def note(_: Mapping[str, JsonValue]) -> JsonValue:
        await let_go.wait()
        order.append(talk.llm.requests[-1].system)
        return "noted"

    async def open_the_gate(_: Mapping[str, JsonValue]) -> JsonValue:
        let_go.set()
        return "open"

    talk.at("start")
    talk.tools.by_node["start"] = [
        tool("note", note),
        tool("gate", open_the_gate),
    ]
    talk.script(
        {"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}, {"tool": "note"}, {"tool": "gate"}]},
        {"reply": "When?"},
    )

    outcome = await talk.turn("A date, please")

    kinds = [(event.type, event.payload.get("function_name")) for event in outcome.events]
    assert kinds == [
        ("tool_call_started", "book"),
        ("tool_call_started", "note"),
        ("tool_call_started", "gate"),
        ("tool_call_result", "gate"),
        ("tool_call_result", "note"),
        ("node_transition", None),
        ("tool_call_result", "book"),
    ]
    assert order == ["Be kind.\n\nReceive Ada."]
    assert results(outcome) == [{"status": "done"}, "noted", "open"]
    assert len(talk.llm.requests) == 2


async def test_of_several_transitions_in_a_reply_only_the_first_is_followed(talk: Talk) -> None:
    talk.at("start")
    talk.script({"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}, {"tool": "leave"}]}, {"reply": "When?"})

    outcome = await talk.turn("A date, please")

    assert moves(outcome) == ["book"]
    assert [result["status"] for result in results(outcome)] == ["done", "error"]
    assert len(talk.llm.requests) == 2
    assert outcome.session_state == "running"


async def test_one_turn_may_pass_several_nodes_and_come_back(talk: Talk) -> None:
    talk.at("start")
    talk.script(
        {"times": 1, "reply": [{"tool": "book"}]},
        {"times": 1, "reply": [{"tool": "back"}]},
        {"reply": "Here we are again."},
    )

    outcome = await talk.turn("Round trip")

    assert moves(outcome) == ["book", "start"]
    assert outcome.checkpoint.current_node_id == "start"
    assert outcome.gathered_context["nodes_visited"] == ["Booking", "Reception"]


async def test_a_transition_that_fails_is_an_error_result_and_the_node_stays(talk: Talk) -> None:
    talk.at("start")
    talk.tools.broken = {"book"}
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "I am sorry."})

    outcome = await talk.turn("A date, please")

    assert outcome.assistant_text == "I am sorry."
    assert results(outcome)[0]["status"] == "error"
    assert moves(outcome) == []
    assert outcome.checkpoint.current_node_id == "start"
    assert talk.llm.requests[-1].system == "Be kind.\n\nReceive Ada."
    assert "nodes_visited" not in outcome.gathered_context


async def test_a_transition_called_again_from_the_new_node_is_an_unknown_tool(talk: Talk) -> None:
    talk.at("start")
    talk.script(
        {"times": 1, "reply": [{"tool": "book"}]}, {"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"}
    )

    outcome = await talk.turn("A date, please")

    assert moves(outcome) == ["book"]
    assert [result["status"] for result in results(outcome)] == ["done", "error"]


async def test_the_global_prompt_is_left_out_where_a_node_does_not_want_it(talk: Talk) -> None:
    talk.at("start")
    talk.script({"when": {"tool_offered": "leave"}, "reply": [{"tool": "leave"}]}, {"reply": "Goodbye."})

    await talk.turn("Bye")

    assert talk.llm.requests[-1].system == "Say goodbye."


async def test_an_end_node_says_one_closing_reply_and_ends_the_session(talk: Talk) -> None:
    talk.at("start")
    talk.script({"when": {"tool_offered": "leave"}, "reply": [{"tool": "leave"}]}, {"reply": "Goodbye."})

    outcome = await talk.turn("Bye")

    assert outcome.assistant_text == "Goodbye."
    assert outcome.session_state == "completed"
    assert outcome.completed
    assert [event.payload for event in outcome.events if event.type == SESSION_END] == [{"reason": "user_qualified"}]
    assert outcome.events[-1].type == SESSION_END
    assert SESSION_CANCELLED not in {event.type for event in outcome.events}
    assert outcome.gathered_context["call_disposition"] == "user_qualified"
    assert outcome.gathered_context["mapped_call_disposition"] == "user_qualified"
    assert outcome.gathered_context["call_tags"] == ["user_qualified"]
    assert talk.llm.requests[-1].tools == frozenset()
    assert len(talk.llm.requests) == 2


async def test_a_disposition_the_conversation_set_is_kept_and_tagged(talk: Talk) -> None:
    talk.at("book")
    talk.checkpoint.gathered_context.update({"call_disposition": "booked", "call_tags": ["vip"]})
    talk.script({"times": 1, "reply": [{"tool": "booked"}]}, {"reply": "See you."})

    outcome = await talk.turn("Yes")

    assert outcome.gathered_context["mapped_call_disposition"] == "booked"
    assert outcome.gathered_context["call_tags"] == ["vip", "booked"]
    assert outcome.events[-1].payload == {"reason": "user_qualified"}


async def test_a_tool_called_beside_the_closing_reply_does_not_bring_a_second_one(talk: Talk) -> None:
    talk.at("book")
    talk.script(
        {"times": 1, "reply": [{"tool": "booked"}]},
        {"times": 1, "reply": [{"text": "See you."}, {"tool": "back"}]},
        {"reply": "And another thing."},
    )

    outcome = await talk.turn("Yes")

    assert outcome.assistant_text == "See you."
    assert outcome.completed
    assert len(talk.llm.requests) == 2


async def test_stale_start_and_end_flags_in_the_data_mean_nothing(talk: Talk) -> None:
    nodes = [
        {**node, "data": {**node["data"], "is_end": node["id"] == "book", "is_start": False}}
        for node in CLINIC["nodes"]
    ]
    talk.draw({**CLINIC, "nodes": nodes})
    talk.at("start")
    talk.script({"times": 1, "reply": [{"tool": "book"}]}, {"reply": "When?"})

    assert (await talk.turn("A date, please")).session_state == "running"
