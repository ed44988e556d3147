"""Answering the tool calls of a reply."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from worker.engine.capture import Capture
from worker.engine.llm.reply import ToolCall
from worker.engine.nodes import Stage
from worker.engine.outstanding import Outstanding
from worker.engine.recorder import Recorder
from worker.engine.recordings import RecordedSpeech
from worker.engine.tool_runner import ToolRunner
from worker.engine.transcript import Transcript
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import WorkflowGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
START = {"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": "Begin."}}


async def runner() -> tuple[ToolRunner, Capture]:
    graph = WorkflowGraph(WorkflowDefinition.model_validate({"graph": {"nodes": [START]}}))
    capture = Capture({}, None, lambda: NOW)
    stage = Stage(
        graph=graph,
        tools=None,
        recorded=RecordedSpeech(None, capture, lambda: NOW),
        initial_context={},
        capture=capture,
        clock=lambda: NOW,
    )
    await stage.begin("start")
    recorder = Recorder(
        None,
        transcript=Transcript([]),
        capture=capture,
        stage=stage,
        outstanding=Outstanding(),
        node_id="start",
        heard=1,
    )

    async def before_leaving(results: Mapping[str, JsonValue]) -> None:
        """Nothing is to be learned before the node is left."""

    tools = ToolRunner(stage, capture, recorder, lambda: NOW, UUID(int=1), before_leaving=before_leaving)
    return tools, capture


async def answer(tools: ToolRunner, call_id: str) -> JsonValue:
    given: list[JsonValue] = []

    async def result_callback(result: JsonValue) -> None:
        given.append(result)

    params: Any = SimpleNamespace(function_name="book", tool_call_id=call_id, result_callback=result_callback)
    await tools.handle(params)
    (result,) = given
    return result


async def test_arguments_that_are_no_object_are_answered_with_an_error() -> None:
    tools, capture = await runner()
    await tools.begin([ToolCall("a", "book", None)], number=1, closing=False)

    result: Any = await answer(tools, "a")

    assert result["status"] == "error"
    assert "not a JSON object" in result["message"]
    assert [(event.type, event.payload.get("arguments")) for event in capture.events] == [
        ("tool_call_started", None),
        ("tool_call_result", None),
    ]


async def test_a_call_outside_of_a_reply_is_a_defect() -> None:
    tools, _ = await runner()

    with pytest.raises(RuntimeError, match="outside of a reply"):
        await answer(tools, "a")
