from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import UnknownNode, WorkflowGraph, transition_tool_name
from worker.workflow.validation import load_definition

JSON = dict[str, Any]


@pytest.fixture
def graph(workflow: JSON) -> WorkflowGraph:
    return WorkflowGraph(load_definition(workflow))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("end call", "end_call"),
        ("Always take this route", "always_take_this_route"),
        ("Yes!", "yes_"),
        ("a-b  c", "a_b__c"),
        ("Größe 2", "gr__e_2"),
    ],
)
def test_a_tool_is_named_after_the_label_in_lower_case_with_underscores(label: str, name: str) -> None:
    assert transition_tool_name(label) == name


@given(st.text(min_size=1, max_size=20))
def test_a_tool_name_holds_only_what_every_provider_takes(label: str) -> None:
    assert re.fullmatch("[a-z0-9_]+", transition_tool_name(label))


def test_the_ways_out_of_a_node_are_its_edges_in_order(graph: WorkflowGraph) -> None:
    done, again = graph.transitions("agent")
    assert (done.tool_name, done.description, done.target.id, done.edge.id) == ("done", "all said", "end", "e2")
    assert (again.tool_name, again.target.id) == ("again", "agent")


def test_a_node_without_edges_has_no_ways_out(graph: WorkflowGraph) -> None:
    assert graph.transitions("end") == ()


def test_a_transition_without_a_condition_is_described_by_its_label(workflow: JSON) -> None:
    workflow["edges"][0]["data"] = {"label": "Go on!", "condition": " "}
    (transition,) = WorkflowGraph(load_definition(workflow)).transitions("start")
    assert transition.description == "Go on!"


def test_the_start_and_the_global_node_are_found(graph: WorkflowGraph) -> None:
    assert graph.start_node.id == "start"
    assert graph.global_node is not None
    assert graph.global_node.data.prompt == "Be kind."


def test_the_start_node_is_found_wherever_it_was_drawn(workflow: JSON) -> None:
    workflow["nodes"].reverse()
    assert WorkflowGraph(load_definition(workflow)).start_node.id == "start"


def test_a_graph_may_have_no_global_node(exported_workflow: JSON) -> None:
    assert WorkflowGraph(load_definition(exported_workflow)).global_node is None


def test_only_an_end_node_is_an_end(graph: WorkflowGraph) -> None:
    assert graph.is_end("end")
    assert not graph.is_end("start")
    assert not graph.is_end("agent")


@pytest.mark.parametrize("node_id", ["ghost", "global", "trigger", "webhook", "qa"])
def test_a_conversation_cannot_stand_on_a_node_that_is_not_its_own(graph: WorkflowGraph, node_id: str) -> None:
    with pytest.raises(UnknownNode, match=node_id) as caught:
        graph.node(node_id)
    assert caught.value.code == "unknown_node"
    assert pickle.loads(pickle.dumps(caught.value)).node_id == node_id


def test_a_stored_graph_without_a_start_node_says_so_when_it_is_needed() -> None:
    graph = WorkflowGraph(WorkflowDefinition())
    with pytest.raises(UnknownNode, match="no start node"):
        _ = graph.start_node


def test_a_stored_edge_to_nowhere_is_no_transition_and_of_two_with_one_name_the_first_counts(workflow: JSON) -> None:
    workflow["edges"] += [
        {"id": "x", "source": "agent", "target": "ghost", "data": {"label": "vanish"}},
        {"id": "y", "source": "agent", "target": "start", "data": {"label": "Done"}},
    ]
    transitions = WorkflowGraph(load_definition(workflow)).transitions("agent")
    assert [transition.edge.id for transition in transitions] == ["e2", "e3"]
