"""Tool calls: rounds, mixes with text, several at once, and everything a model gets wrong about them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.integration.engine.talk import tool
from worker.conversation.event import TOOL_CALL_RESULT, TOOL_CALL_STARTED
from worker.engine.failures import TooManyLLMCalls
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult, idempotency_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from tests.integration.engine.talk import Talk
    from worker.engine.outcome import TurnOutcome


async def free_times(arguments: Mapping[str, JsonValue]) -> JsonValue:
    return {"day": arguments["day"], "times": ["10:00"]}


def events(outcome: TurnOutcome, kind: str) -> list[dict[str, Any]]:
    return [event.payload for event in outcome.events if event.type == kind]


def results(outcome: TurnOutcome) -> list[Any]:
    return [json.loads(str(message["content"])) for message in outcome.checkpoint.messages if message["role"] == "tool"]


async def test_a_tool_is_called_and_its_result_answered(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [tool("free_times", free_times)]
    talk.script(
        {"when": {"after_tool_result": "free_times"}, "reply": "There is: {tool_result}"},
        {"reply": [{"tool": "free_times", "input": {"day": "Monday"}}]},
    )

    outcome = await talk.turn("When?")

    assert outcome.assistant_text == 'There is: {"day": "Monday", "times": ["10:00"]}'
    (started,) = events(outcome, TOOL_CALL_STARTED)
    assert started["function_name"] == "free_times"
    assert started["arguments"] == {"day": "Monday"}
    (result,) = events(outcome, TOOL_CALL_RESULT)
    assert result["tool_call_id"] == started["tool_call_id"]
    assert result["result"] == {"day": "Monday", "times": ["10:00"]}
    assert "free_times" in talk.llm.requests[0].tools


async def test_tools_may_be_called_over_several_rounds_with_text_between(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [tool("free_times", free_times)]
    talk.script(
        {"times": 1, "reply": [{"text": "Let me look. "}, {"tool": "free_times", "input": {"day": "Monday"}}]},
        {"times": 1, "reply": [{"text": "And Tuesday."}, {"tool": "free_times", "input": {"day": "Tuesday"}}]},
        {"reply": "Monday at ten."},
    )

    outcome = await talk.turn("When?")

    assert outcome.assistant_text == "Let me look.\n\nAnd Tuesday.\n\nMonday at ten."
    assert [result["day"] for result in results(outcome)] == ["Monday", "Tuesday"]
    assert len(talk.ledger.calls) == 3


async def test_parallel_calls_run_side_by_side_and_the_model_then_runs_once(talk: Talk) -> None:
    together = asyncio.Barrier(3)

    async def wait_for_the_others(arguments: Mapping[str, JsonValue]) -> JsonValue:
        await together.wait()
        return arguments["day"]

    talk.at("book")
    talk.tools.by_node["book"] = [tool("look", wait_for_the_others)]
    talk.script(
        {"times": 1, "reply": [{"tool": "look", "input": {"day": day}} for day in ("Mon", "Tue", "Wed")]},
        {"reply": "Done."},
    )

    outcome = await talk.turn("When?")

    assert results(outcome) == ["Mon", "Tue", "Wed"]
    assert len(talk.llm.requests) == 2
    assert len(outcome.checkpoint.messages) == 6
    (calls,) = [message["tool_calls"] for message in outcome.checkpoint.messages if "tool_calls" in message]
    assert str(calls).count("'look'") == 3


async def test_a_tool_holds_up_the_end_of_the_turn_for_as_long_as_it_runs(talk: Talk) -> None:
    started, let_go = asyncio.Event(), asyncio.Event()

    async def wait(_: Mapping[str, JsonValue]) -> JsonValue:
        started.set()
        await let_go.wait()
        return "at last"

    talk.at("book")
    talk.tools.by_node["book"] = [tool("wait", wait)]
    talk.script({"times": 1, "reply": [{"text": "One moment."}, {"tool": "wait"}]}, {"reply": "Done."})

    turn = asyncio.create_task(talk.turn("Wait"))
    await started.wait()
    assert await asyncio.wait({turn}, timeout=0.2) == (set(), {turn})
    let_go.set()

    assert results(await turn) == ["at last"]


@pytest.mark.parametrize("nothing", [None, "", 0, False, [], {}])
async def test_a_tool_that_answers_with_nothing_is_answered_all_the_same(talk: Talk, nothing: JsonValue) -> None:
    async def run(_: Mapping[str, JsonValue]) -> JsonValue:
        return nothing

    talk.at("book")
    talk.tools.by_node["book"] = [tool("note", run)]
    talk.script({"times": 1, "reply": [{"tool": "note"}]}, {"reply": "Noted."})

    outcome = await talk.turn("Note this")

    assert outcome.assistant_text == "Noted."
    assert results(outcome) == [nothing]


async def test_a_tool_that_fails_gives_the_model_a_result_and_not_the_reason(talk: Talk) -> None:
    async def run(_: Mapping[str, JsonValue]) -> JsonValue:
        raise RuntimeError("password=hunter22")

    talk.at("book")
    talk.tools.by_node["book"] = [tool("note", run)]
    talk.script({"times": 1, "reply": [{"tool": "note"}]}, {"reply": "Sorry."})

    outcome = await talk.turn("Note this")

    assert outcome.assistant_text == "Sorry."
    assert results(outcome) == [{"status": "error", "message": "The tool 'note' failed."}]


async def test_a_result_that_json_cannot_hold_is_an_error_of_the_tool(talk: Talk) -> None:
    async def run(_: Mapping[str, JsonValue]) -> Any:
        return object()

    talk.at("book")
    talk.tools.by_node["book"] = [tool("note", run)]
    talk.script({"times": 1, "reply": [{"tool": "note"}]}, {"reply": "Sorry."})

    assert results(await talk.turn("Note this"))[0]["status"] == "error"


async def test_a_call_of_a_tool_that_does_not_exist_is_an_error_result(talk: Talk) -> None:
    talk.at("book")
    talk.script({"times": 1, "reply": [{"tool": "fly"}]}, {"reply": "I cannot fly."})

    outcome = await talk.turn("Fly")

    assert outcome.assistant_text == "I cannot fly."
    assert results(outcome) == [
        {"status": "error", "message": "There is no tool 'fly' at this point of the conversation."}
    ]


async def test_a_tool_of_a_node_that_was_left_can_no_longer_be_called(talk: Talk) -> None:
    ran = []

    async def run(_: Mapping[str, JsonValue]) -> JsonValue:
        ran.append("book")
        return "booked"

    talk.at("book")
    talk.tools.by_node["book"] = [tool("note", run)]
    talk.script(
        {"times": 1, "reply": [{"tool": "back"}]},
        {"times": 1, "reply": [{"tool": "note"}]},
        {"reply": "Well."},
    )

    outcome = await talk.turn("Back")

    assert ran == []
    assert [result["status"] for result in results(outcome)] == ["done", "error"]


async def test_a_model_that_calls_tools_without_an_end_is_stopped(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [tool("free_times", free_times)]
    talk.script({"reply": [{"tool": "free_times", "input": {"day": "Monday"}}]})

    with pytest.raises(TooManyLLMCalls) as failed:
        await talk.turn("When?", max_llm_calls=4)

    assert len(talk.llm.requests) == 4
    assert len(talk.ledger.calls) == 4
    assert not failed.value.retryable
    assert failed.value.events[-1].payload["code"] == "too_many_llm_calls"


def effect(name: str, result: ToolResult, seen: list[ToolInvocation]) -> Tool:
    async def run(invocation: ToolInvocation) -> ToolResult:
        seen.append(invocation)
        return result

    return Tool(name=name, description=f"Does {name}.", run=run)


async def test_a_tools_message_is_shown_and_not_told_to_the_model(talk: Talk) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effect("look", ToolResult(result="found", message=" Let me look. "), [])]
    talk.script({"times": 1, "reply": [{"tool": "look"}]}, {"reply": "Here it is."})

    outcome = await talk.turn("Look it up")

    assert outcome.assistant_text == "Let me look.\n\nHere it is."
    assert "Let me look." not in json.dumps(talk.llm.requests[-1].body)


async def test_a_tool_that_ends_the_session_ends_it_with_its_reason_and_the_model_is_not_asked_again(
    talk: Talk,
) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effect("hang_up", ToolResult(result="over", message="Bye.", end_reason="bored"), [])]
    talk.script({"reply": [{"tool": "hang_up"}, {"tool": "back"}]})

    outcome = await talk.turn("That is all")

    assert outcome.completed
    assert outcome.assistant_text == "Bye."
    assert outcome.events[-1].payload == {"reason": "bored"}
    assert outcome.gathered_context["call_disposition"] == "bored"
    assert [result if isinstance(result, str) else result["status"] for result in results(outcome)] == ["over", "error"]
    assert outcome.checkpoint.current_node_id == "book"
    assert len(talk.llm.requests) == 1


async def test_what_a_tool_learned_and_kept_for_itself_is_there_in_the_next_turn(talk: Talk) -> None:
    seen: list[ToolInvocation] = []
    talk.at("book")
    talk.tools.by_node["book"] = [effect("count", ToolResult(result=1, learned={"day": "Monday"}, state=[1]), seen)]
    talk.script(
        {"when": {"after_tool_result": "count"}, "reply": "Counted."},
        {"reply": [{"tool": "count"}]},
    )

    await talk.turn("Count")
    outcome = await talk.turn("Again")

    assert outcome.gathered_context["day"] == "Monday"
    assert outcome.checkpoint.tool_state == {"count": [1]}
    assert [(call.state, call.gathered_context.get("day")) for call in seen] == [(None, "Monday"), ([1], "Monday")]


async def test_each_call_of_a_turn_has_an_idempotency_key_of_its_own(talk: Talk) -> None:
    seen: list[ToolInvocation] = []
    talk.at("book")
    talk.tools.by_node["book"] = [effect("note", ToolResult(result="noted"), seen)]
    talk.script(
        {"times": 1, "reply": [{"tool": "note"}, {"tool": "note"}]},
        {"times": 1, "reply": [{"tool": "note"}]},
        {"reply": "Noted."},
    )
    request = talk.request("Note this")

    await talk.run(request)

    first, second, third = seen
    assert {first.idempotency_key, second.idempotency_key} == {
        idempotency_key(request.turn_id, 1, call.tool_call_id) for call in (first, second)
    }
    assert third.idempotency_key == idempotency_key(request.turn_id, 2, third.tool_call_id)
    assert len({call.idempotency_key for call in seen}) == 3


async def test_the_keys_of_a_retried_turn_are_those_of_the_turn_it_retries(talk: Talk) -> None:
    seen: list[ToolInvocation] = []
    first_turn = uuid4()
    talk.at("book")
    talk.tools.by_node["book"] = [effect("note", ToolResult(result="noted"), seen)]
    talk.script({"times": 1, "reply": [{"tool": "note"}]}, {"reply": "Noted."})

    await talk.turn("Note this", retry_root_id=first_turn)

    assert seen[0].idempotency_key == idempotency_key(first_turn, 1, seen[0].tool_call_id)
