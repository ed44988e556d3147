"""The tools that need nothing from outside: what they tell the model, and what they lead to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from worker.conversation.event import HAND_OVER, RECORDING_MISSING
from worker.engine.tools.calculator import calculator_tool
from worker.engine.tools.current_time import current_time_tool
from worker.engine.tools.ending import end_conversation_tool, hand_over_tool
from worker.engine.tools.speech import speaking
from worker.engine.tools.tool import ToolInvocation
from worker.workflow.tool_definition import (
    CalculatorDefinition,
    CurrentTimeDefinition,
    EndConversationDefinition,
    HandOverDefinition,
)

if TYPE_CHECKING:
    from worker.engine.tools.tool import Tool, ToolResult

NOW = datetime(2026, 3, 1, 23, 30, 5, tzinfo=UTC)  # a Sunday

CALCULATOR = calculator_tool(CalculatorDefinition(type="calculator"))
CLOCK = current_time_tool(CurrentTimeDefinition(type="current_time", zone="Asia/Tokyo"))
END = end_conversation_tool(
    EndConversationDefinition(type="end_conversation", message="Goodbye, {{ name }}.", reason="done")
)
HAND_OVER_TOOL = hand_over_tool(
    HandOverDefinition(
        type="hand_over",
        message="A colleague will help you with {{ gathered_context.topic }}.",
        destination="desk-{{ language | en }}",
    )
)


def call(tool: Tool, **arguments: Any) -> ToolResult:
    return asyncio.run(
        tool.run(  # type: ignore[arg-type] # every tool's run is a coroutine function
            ToolInvocation(
                arguments=arguments,
                tool_call_id="c1",
                idempotency_key="k",
                initial_context={"name": "Ada"},
                gathered_context={"topic": "bills"},
                now=NOW,
            )
        )
    )


class Recordings:
    """Knows one recording."""

    async def transcript(self, recording_id: str) -> str | None:
        return " Goodbye from tape. " if recording_id == "bye" else None

    async def exist(self) -> bool:
        return True


def test_the_calculator_answers_with_the_value_as_text() -> None:
    assert call(CALCULATOR, expression="2 * 21").result == {"status": "success", "result": "42"}
    assert call(CALCULATOR, expression=42).result == {"status": "success", "result": "42"}


@pytest.mark.parametrize("arguments", [{}, {"expression": None}, {"expression": ["1"]}, {"expression": "1 / 0"}])
def test_the_calculator_tells_the_model_what_it_got_wrong(arguments: dict[str, Any]) -> None:
    result = call(CALCULATOR, **arguments).result
    assert isinstance(result, dict)
    assert result["status"] == "error"
    assert result["message"]


@pytest.mark.parametrize("arguments", [{}, {"zone": ""}, {"zone": None}])
def test_the_time_is_told_in_the_zone_of_the_tool_where_the_model_names_none(arguments: dict[str, Any]) -> None:
    assert call(CLOCK, **arguments).result == {
        "status": "success",
        "zone": "Asia/Tokyo",
        "date": "2026-03-02",
        "time": "08:30:05",
        "weekday": "Monday",
        "utc_offset": "+09:00",
    }


def test_the_time_is_told_in_the_zone_the_model_names() -> None:
    result = call(CLOCK, zone="America/New_York").result
    assert isinstance(result, dict)
    assert (result["date"], result["time"], result["utc_offset"]) == ("2026-03-01", "18:30:05", "-05:00")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "../etc/passwd", "CET\x00", 7, {}.fromkeys("a")])
def test_a_zone_that_does_not_exist_is_told_to_the_model(zone: object) -> None:
    result = call(CLOCK, zone=zone).result
    assert isinstance(result, dict)
    assert result["status"] == "error"
    assert "Europe/Berlin" in str(result["message"])


def test_ending_says_its_message_and_gives_its_reason() -> None:
    result = call(END)
    assert (result.message, result.end_reason, result.result) == ("Goodbye, Ada.", "done", {"status": "done"})
    assert not result.events


def test_handing_over_sets_the_disposition_and_tells_who_takes_over_and_what_they_must_know() -> None:
    result = call(HAND_OVER_TOOL, summary=" Wants a refund. ")
    assert result.message == "A colleague will help you with bills."
    assert (result.end_reason, result.learned) == ("handed_over", {"call_disposition": "handed_over"})
    (event,) = result.events
    assert event.type == HAND_OVER
    assert event.payload == {"reason": "handed_over", "destination": "desk-en", "summary": "Wants a refund."}


def test_handing_over_does_not_fail_on_a_model_that_gives_no_summary() -> None:
    assert call(HAND_OVER_TOOL).events[0].payload["summary"] == ""
    assert call(HAND_OVER_TOOL, summary=["a"]).events[0].payload["summary"] == ""


def test_a_recorded_message_is_shown_as_what_is_said_in_it() -> None:
    result = call(speaking(END, "bye", Recordings()))
    assert (result.message, result.end_reason) == ("Goodbye from tape.", "done")
    assert not result.events


@pytest.mark.parametrize("recordings", [Recordings(), None])
def test_a_recorded_message_that_is_missing_is_an_event_and_the_tool_does_its_work(
    recordings: Recordings | None,
) -> None:
    result = call(speaking(HAND_OVER_TOOL, "gone", recordings))
    assert result.end_reason == "handed_over"
    assert [event.type for event in result.events] == [HAND_OVER, RECORDING_MISSING]
