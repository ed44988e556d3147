"""System prompts, and what a turn collects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.engine.capture import Capture
from worker.engine.prompts import system_prompt
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import WorkflowGraph

if TYPE_CHECKING:
    from pydantic import JsonValue

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def prompt(*, global_prompt: str | None, **data: Any) -> str:
    nodes = [{"id": "start", "type": "startCall", "data": {"name": "Start", **data}}]
    if global_prompt is not None:
        nodes.append({"id": "all", "type": "globalNode", "data": {"name": "All", "prompt": global_prompt}})
    graph = WorkflowGraph(WorkflowDefinition.model_validate({"graph": {"nodes": nodes}}))
    return system_prompt(graph, graph.node("start"), {"name": "Ada"}, {"day": "Monday"}, NOW)


def test_global_and_own_prompt_are_rendered_and_joined_by_a_blank_line() -> None:
    assert prompt(global_prompt="It is {{ current_weekday }}.", prompt="{{ name }}, {{ gathered_context.day }}") == (
        "It is Tuesday.\n\nAda, Monday"
    )


def test_a_node_may_do_without_the_global_prompt() -> None:
    assert prompt(global_prompt="Global.", prompt="Own.", add_global_prompt=False) == "Own."


def test_an_empty_part_leaves_no_blank_lines() -> None:
    assert prompt(global_prompt=" ", prompt="Own.") == "Own."
    assert prompt(global_prompt="Global.", prompt="") == "Global."
    assert prompt(global_prompt=None, prompt="Own.") == "Own."


def test_segments_are_trimmed_and_joined_and_blank_ones_left_out() -> None:
    capture = Capture({}, None, lambda: NOW)
    for text in (" One.\n", "  ", "Two."):
        capture.say(text)

    assert capture.assistant_text == "One.\n\nTwo."
    assert capture.assistant_created_at == NOW


def test_nothing_said_is_no_text() -> None:
    capture = Capture({}, None, lambda: NOW)
    capture.say(" ")

    assert capture.assistant_text is None
    assert capture.assistant_created_at is None


def test_what_a_conversation_knew_is_copied_before_it_learns() -> None:
    known: dict[str, JsonValue] = {"tags": ["a"], "deep": {"list": [1]}}
    capture = Capture(known, None, lambda: NOW)

    capture.append_once("tags", "b")
    capture.append_once("tags", "b")
    capture.append_once("new", "c")
    capture.learn("day", "Monday")

    assert known == {"tags": ["a"], "deep": {"list": [1]}}
    assert capture.gathered_context == {"tags": ["a", "b"], "deep": {"list": [1]}, "new": ["c"], "day": "Monday"}
    assert capture.gathered_context["deep"] is not known["deep"]
