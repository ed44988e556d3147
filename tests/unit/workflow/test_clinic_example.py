from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from itertools import combinations
from typing import Any

import pytest

from worker.workflow.definition import EndCallNode
from worker.workflow.graph import WorkflowGraph
from worker.workflow.template import render
from worker.workflow.validation import parse_definition

JSON = dict[str, Any]


@pytest.fixture(scope="module")
def clinic() -> JSON:
    example: JSON = json.loads((resources.files("worker.embedded") / "examples" / "clinic.json").read_text())
    return example


def reachable(graph: WorkflowGraph, node_id: str) -> set[str]:
    found: set[str] = set()
    waiting = [node_id]
    while waiting:
        targets = {transition.target.id for transition in graph.transitions(waiting.pop())} - found
        found |= targets
        waiting += targets
    return found


def test_the_clinic_example_is_a_valid_agent_with_loops_a_persona_and_an_end_to_every_conversation(
    clinic: JSON,
) -> None:
    graph = WorkflowGraph(parse_definition(clinic))
    ids = [node["id"] for node in clinic["nodes"]]
    on_the_way = [node_id for node_id in ids if graph.transitions(node_id)]
    assert graph.global_node is not None
    assert sum(node_id in reachable(graph, node_id) for node_id in on_the_way) >= 3
    assert all(
        any(isinstance(graph.node(target), EndCallNode) for target in reachable(graph, node_id))
        for node_id in on_the_way
    )
    assert reachable(graph, graph.start_node.id) == {
        node["id"] for node in clinic["nodes"] if node["type"] in {"agentNode", "endCall"}
    }


def test_the_clinic_example_greets_a_patient_it_does_not_know_and_one_it_does(clinic: JSON) -> None:
    greeting = WorkflowGraph(parse_definition(clinic)).start_node.data.greeting
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert render(greeting, {}, {}, now).startswith("Hello there, this is Riverside Clinic.")
    known: JSON = {"patient_name": "Ada", "clinic_name": "Hillside"}
    assert render(greeting, known, {}, now).startswith("Hello Ada, this is Hillside.")


def test_the_clinic_example_opens_in_an_editor_without_overlapping_nodes(clinic: JSON) -> None:
    assert clinic["viewport"].keys() == {"x", "y", "zoom"}
    positions = [(node["position"]["x"], node["position"]["y"]) for node in clinic["nodes"]]
    assert all(abs(a[0] - b[0]) >= 320 or abs(a[1] - b[1]) >= 120 for a, b in combinations(positions, 2))
