from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from worker.conversation import event
from worker.workflow.definition import AgentNode, StartCallNode, ToolNodeData

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
START = StartCallNode(id="s")
AGENT = AgentNode(id="a", data=ToolNodeData(name="Ask", allow_interrupt=True))


@pytest.mark.parametrize(
    ("made", "kind", "payload"),
    [
        (
            event.node_transition(NOW, node=AGENT, previous=START),
            "node_transition",
            {
                "node_id": "a",
                "node_name": "Ask",
                "previous_node_id": "s",
                "previous_node_name": "s",
                "allow_interrupt": True,
            },
        ),
        (
            event.node_transition(NOW, node=START, previous=None),
            "node_transition",
            {
                "node_id": "s",
                "node_name": "s",
                "previous_node_id": None,
                "previous_node_name": None,
                "allow_interrupt": False,
            },
        ),
        (
            event.tool_call_started(NOW, function_name="f", tool_call_id="c", arguments={"x": 1}),
            "tool_call_started",
            {"function_name": "f", "tool_call_id": "c", "arguments": {"x": 1}},
        ),
        (
            event.tool_call_result(NOW, function_name="f", tool_call_id="c", result={"status": "done"}),
            "tool_call_result",
            {"function_name": "f", "tool_call_id": "c", "result": {"status": "done"}},
        ),
        (event.session_end(NOW, reason="user_qualified"), "session_end", {"reason": "user_qualified"}),
        (
            event.execution_error(NOW, code="turn_timeout", message="Too slow."),
            "execution_error",
            {"code": "turn_timeout", "message": "Too slow."},
        ),
        (
            event.reply_stopped_early(NOW, reason="refusal", detail="harm"),
            "reply_stopped_early",
            {"reason": "refusal", "detail": "harm"},
        ),
        (event.recording_missing(NOW, recording_id="r"), "recording_missing", {"recording_id": "r"}),
        (
            event.variables_extracted(
                NOW,
                node=AGENT,
                variables={"day": "Monday"},
                unknown=["hour"],
                rejected=[{"name": "persons", "value": '"some"', "reason": "It is not one plain number."}],
            ),
            "variables_extracted",
            {
                "node_id": "a",
                "node_name": "Ask",
                "variables": {"day": "Monday"},
                "unknown": ["hour"],
                "rejected": [{"name": "persons", "value": '"some"', "reason": "It is not one plain number."}],
            },
        ),
        (
            event.variable_extraction_failed(NOW, node=AGENT, code="llm_timeout", message="Too slow."),
            "variable_extraction_failed",
            {"node_id": "a", "node_name": "Ask", "code": "llm_timeout", "message": "Too slow."},
        ),
        (
            event.context_compacted(NOW, messages=4, characters_before=5_000, characters_after=300),
            "context_compacted",
            {"messages": 4, "characters_before": 5_000, "characters_after": 300},
        ),
        (
            event.context_compaction_failed(NOW, code="llm_timeout", message="Too slow."),
            "context_compaction_failed",
            {"code": "llm_timeout", "message": "Too slow."},
        ),
    ],
)
def test_an_event_carries_exactly_the_fields_of_the_contract(
    made: event.TurnEvent, kind: str, payload: dict[str, object]
) -> None:
    assert made.to_json() == {"type": kind, "created_at": "2026-03-01T12:00:00+00:00", "payload": payload}
    json.dumps(made.to_json())


def test_a_time_without_a_zone_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="time zone"):
        event.session_end(NOW.replace(tzinfo=None), reason="x")
