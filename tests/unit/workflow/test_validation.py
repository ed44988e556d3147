from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import TurnWorkerError
from worker.workflow.definition import PassiveNode
from worker.workflow.validation import (
    InvalidWorkflow,
    Problem,
    definition_document,
    load_definition,
    parse_definition,
)

JSON = dict[str, Any]


def problems_of(data: object) -> list[Problem]:
    with pytest.raises(InvalidWorkflow) as caught:
        parse_definition(data)
    return list(caught.value.problems)


def places_of(data: object) -> list[tuple[str, str | None, str | None]]:
    return [(problem.kind, problem.id, problem.field) for problem in problems_of(data)]


def node(workflow: JSON, node_id: str) -> JSON:
    found: JSON = next(node for node in workflow["nodes"] if node["id"] == node_id)
    return found


def edge(workflow: JSON, edge_id: str) -> JSON:
    found: JSON = next(edge for edge in workflow["edges"] if edge["id"] == edge_id)
    return found


def draw(workflow: JSON, source: str, target: str, label: str = "further") -> None:
    workflow["edges"].append({"id": "new", "source": source, "target": target, "data": {"label": label}})


def test_a_graph_with_each_type_of_node_and_a_loop_is_accepted(workflow: JSON) -> None:
    definition = parse_definition(workflow)
    assert [node.type for node in definition.graph.nodes] == [node["type"] for node in workflow["nodes"]]


def test_a_real_export_of_a_visual_editor_is_accepted_with_its_editor_only_keys(exported_workflow: JSON) -> None:
    definition = parse_definition(exported_workflow)
    assert len(definition.graph.nodes) == 5
    assert len(definition.graph.edges) == 5


def test_a_full_definition_is_accepted_like_a_bare_graph(workflow: JSON) -> None:
    full = {"graph": workflow, "workflow_configurations": {"context_compaction_enabled": True}}
    assert parse_definition(full).graph == parse_definition(workflow).graph
    assert parse_definition(full).workflow_configurations.context_compaction_enabled


def test_the_document_to_store_keeps_every_key_of_a_bare_graph(exported_workflow: JSON) -> None:
    original = copy.deepcopy(exported_workflow)
    assert definition_document(exported_workflow)["graph"] == original


def test_the_document_to_store_keeps_every_key_of_a_full_definition(workflow: JSON) -> None:
    full = {"graph": {**workflow, "viewport": {"zoom": 1}}, "notes": "mine"}
    assert definition_document(full) == full


def test_configurations_beside_a_bare_graph_count(workflow: JSON) -> None:
    workflow["workflow_configurations"] = {"context_compaction_enabled": True}
    assert parse_definition(workflow).workflow_configurations.context_compaction_enabled
    assert definition_document(workflow)["graph"] == {"nodes": workflow["nodes"], "edges": workflow["edges"]}


def test_reading_changes_nothing_in_what_was_given(workflow: JSON) -> None:
    workflow["nodes"][1]["data"]["prompt"] = 5
    original = copy.deepcopy(workflow)
    problems_of(workflow)
    assert workflow == original


@pytest.mark.parametrize("data", [None, 5, "x", [], {}, {"workflow_configurations": {}}])
def test_what_is_no_workflow_at_all_is_one_problem_of_the_workflow(data: object) -> None:
    assert places_of(data) == [("workflow", None, None)]


@pytest.mark.parametrize(("graph", "field"), [(5, "graph"), ({"nodes": 5}, "nodes"), ({"edges": {}}, "edges")])
def test_a_graph_of_the_wrong_shape_is_one_problem(graph: object, field: str) -> None:
    assert places_of({"graph": graph}) == [("workflow", None, field)]


def test_every_problem_is_reported_at_once() -> None:
    broken = {
        "graph": {
            "nodes": [
                5,
                {"id": "a", "type": "agentNode", "data": {"prompt": 5, "tool_uuids": [1, "x", 2]}},
                {"type": "nonsense"},
                {"id": "b", "type": "endCall", "data": "text"},
                {"id": "g", "type": "globalNode", "data": {"prompt": " "}},
            ],
            "edges": [{"id": "e", "source": 5, "target": "nowhere"}, {"source": "a", "target": "b"}, None],
        },
        "workflow_configurations": {"model_overrides": {"api_key": "sk-1", "modle": "x"}},
    }
    assert set(places_of(broken)) == {
        ("node", None, "nodes.0"),
        ("node", "a", "data.prompt"),
        ("node", "a", "data.tool_uuids.0"),
        ("node", "a", "data.tool_uuids.2"),
        ("node", "a", None),
        ("node", None, "nodes.2.id"),
        ("node", None, "nodes.2.type"),
        ("node", "b", "data"),
        ("node", "g", "data.prompt"),
        ("edge", "e", "source"),
        ("edge", "e", "target"),
        ("edge", "e", "data.label"),
        ("edge", None, "edges.1.id"),
        ("edge", None, "edges.1.data.label"),
        ("edge", None, "edges.2"),
        ("workflow", None, "workflow_configurations.model_overrides.api_key"),
        ("workflow", None, "workflow_configurations.model_overrides.modle"),
        ("workflow", None, "nodes"),
    }


def test_a_workflow_without_a_start_node_is_refused(workflow: JSON) -> None:
    workflow["nodes"][0]["type"] = "agentNode"
    assert ("workflow", None, "nodes") in places_of(workflow)


@pytest.mark.parametrize("node_id", ["start", "global", "trigger"])
def test_a_second_start_global_or_trigger_node_is_refused(workflow: JSON, node_id: str) -> None:
    workflow["nodes"].append({**node(workflow, node_id), "id": "second"})
    assert places_of(workflow) == [("workflow", None, "nodes")]


@pytest.mark.parametrize("node_id", ["agent", "end", "webhook", "qa"])
def test_any_number_of_the_other_types_is_accepted(workflow: JSON, node_id: str) -> None:
    workflow["nodes"].append({**node(workflow, node_id), "id": "second"})
    if node_id in {"agent", "end"}:
        draw(workflow, "start", "second")
    parse_definition(workflow)


@pytest.mark.parametrize("node_id", ["start", "global", "trigger", "webhook", "qa"])
def test_an_edge_into_a_node_that_takes_none_is_refused(workflow: JSON, node_id: str) -> None:
    draw(workflow, "agent", node_id)
    assert places_of(workflow) == [("node", node_id, None)]


@pytest.mark.parametrize("node_id", ["end", "global", "webhook", "qa"])
def test_an_edge_out_of_a_node_that_has_none_is_refused(workflow: JSON, node_id: str) -> None:
    draw(workflow, node_id, "agent")
    assert places_of(workflow) == [("node", node_id, None)]


@pytest.mark.parametrize("kind", ["agentNode", "endCall"])
def test_an_agent_or_end_node_that_nothing_leads_to_is_refused(workflow: JSON, kind: str) -> None:
    workflow["nodes"].append({"id": "lonely", "type": kind, "data": {"prompt": "Hello?"}})
    assert places_of(workflow) == [("node", "lonely", None)]


def test_a_start_node_alone_is_a_workflow() -> None:
    parse_definition({"nodes": [{"id": "s", "type": "startCall", "data": {"prompt": "Talk."}}], "edges": []})


def test_an_edge_from_the_trigger_needs_no_label(workflow: JSON) -> None:
    draw(workflow, "trigger", "agent", label="")
    parse_definition(workflow)


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("value", ["ghost", "", None])
def test_a_dangling_edge_is_refused(workflow: JSON, end: str, value: str | None) -> None:
    workflow["edges"].append({"id": "new", "source": "agent", "target": "agent", "data": {"label": "x"}, end: value})
    assert ("edge", "new", end) in places_of(workflow)


@pytest.mark.parametrize("node_id", ["start", "agent", "end", "global"])
@pytest.mark.parametrize("prompt", ["", " \n", None])
def test_a_node_without_its_prompt_is_refused(workflow: JSON, node_id: str, prompt: str | None) -> None:
    node(workflow, node_id)["data"]["prompt"] = prompt
    assert places_of(workflow) == [("node", node_id, "data.prompt")]


def test_a_node_without_data_lacks_its_prompt(workflow: JSON) -> None:
    del node(workflow, "agent")["data"]
    assert places_of(workflow) == [("node", "agent", "data.prompt")]


@pytest.mark.parametrize("data", [{}, {"label": ""}, {"label": "  "}, None])
def test_an_edge_without_its_label_is_refused(workflow: JSON, data: JSON | None) -> None:
    edge(workflow, "e2")["data"] = data
    assert places_of(workflow) == [("edge", "e2", "data.label")]


def test_an_edge_without_a_condition_is_accepted(workflow: JSON) -> None:
    del edge(workflow, "e2")["data"]["condition"]
    parse_definition(workflow)


def test_two_edges_of_one_node_with_the_same_tool_name_are_refused(workflow: JSON) -> None:
    draw(workflow, "agent", "agent", label="DONE")
    problem = problems_of(workflow)[0]
    assert (problem.kind, problem.id, problem.field) == ("edge", "new", "data.label")
    assert "'done'" in problem.message
    assert "'e2'" in problem.message


def test_edges_that_offer_no_tool_are_not_compared_by_its_name(workflow: JSON) -> None:
    for position in range(2):
        draw(workflow, "trigger", "agent", label="same")
        workflow["edges"][-1]["id"] = f"from trigger {position}"
    parse_definition(workflow)
    for position in range(2):
        draw(workflow, "agent", "end", label="  ")
        workflow["edges"][-1]["id"] = f"without label {position}"
        draw(workflow, "", "end", label="same")
        workflow["edges"][-1]["id"] = f"without source {position}"
    assert places_of(workflow) == [
        ("edge", "without label 0", "data.label"),
        ("edge", "without source 0", "source"),
        ("edge", "without label 1", "data.label"),
        ("edge", "without source 1", "source"),
    ]


def test_two_edges_of_different_nodes_may_have_the_same_tool_name(workflow: JSON) -> None:
    draw(workflow, "start", "end", label="done")
    parse_definition(workflow)


def test_a_label_of_64_characters_is_accepted_and_a_longer_one_refused(workflow: JSON) -> None:
    edge(workflow, "e2")["data"]["label"] = "x" * 64
    parse_definition(workflow)
    edge(workflow, "e2")["data"]["label"] = "x" * 65
    assert places_of(workflow) == [("edge", "e2", "data.label")]


@pytest.mark.parametrize("kind", ["node", "edge"])
def test_a_repeated_id_is_refused_once(workflow: JSON, kind: str) -> None:
    if kind == "node":
        workflow["nodes"] += [{**node(workflow, "qa")}, {**node(workflow, "qa")}]
    else:
        workflow["edges"] += [{**edge(workflow, "e3"), "data": {"label": f"way {n}"}} for n in range(2)]
    repeated = "qa" if kind == "node" else "e3"
    assert places_of(workflow) == [(kind, repeated, "id")]


@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_node_and_an_edge_without_an_id_are_refused_by_their_position(workflow: JSON, blank: str | None) -> None:
    workflow["nodes"] += [{**node(workflow, "agent"), "id": blank}] * 2
    workflow["edges"][2]["id"] = blank
    assert places_of(workflow) == [
        ("node", None, "nodes.7.id"),
        ("node", None, "nodes.8.id"),
        ("edge", None, "edges.2.id"),
    ]


def test_an_unknown_node_type_is_refused(workflow: JSON) -> None:
    node(workflow, "qa")["type"] = "hologram"
    assert places_of(workflow) == [("node", "qa", "type")]


def test_a_variable_to_extract_without_a_name_or_with_an_unknown_type_is_refused(workflow: JSON) -> None:
    node(workflow, "agent")["data"]["extraction_variables"] = [
        {"type": "number"},
        {"name": "x", "type": "date"},
        {"name": " "},
    ]
    assert set(places_of(workflow)) == {
        ("node", "agent", "data.extraction_variables.2.name"),
        ("node", "agent", "data.extraction_variables.0.name"),
        ("node", "agent", "data.extraction_variables.1.type"),
    }


def test_two_variables_of_one_name_and_names_that_are_the_engines_own_are_refused(workflow: JSON) -> None:
    node(workflow, "agent")["data"]["extraction_variables"] = [
        {"name": "day"},
        {"name": " day ", "type": "number"},
        {"name": "call_tags"},
        {"name": "call_disposition"},
    ]
    assert places_of(workflow) == [
        ("node", "agent", "data.extraction_variables.1.name"),
        ("node", "agent", "data.extraction_variables.2.name"),
    ]


@pytest.mark.parametrize(
    ("item", "field"),
    [("prompt", "data.prompt"), ("greeting", "data.greeting"), ("extraction_prompt", "data.extraction_prompt")],
)
def test_a_placeholder_that_is_never_closed_is_refused(workflow: JSON, item: str, field: str) -> None:
    node(workflow, "start")["data"][item] = "Hello {{ name, how are you?"
    assert places_of(workflow) == [("node", "start", field)]


def test_a_placeholder_never_closed_in_a_transition_speech_is_refused(workflow: JSON) -> None:
    edge(workflow, "e1")["data"]["transition_speech"] = "One moment, {{ name }"
    assert places_of(workflow) == [("edge", "e1", "data.transition_speech")]


def test_a_plaintext_key_is_refused_with_the_way_to_store_it_and_never_repeated(workflow: JSON) -> None:
    full = {"graph": workflow, "workflow_configurations": {"model_overrides": {"api_key": "sk-plain-42"}}}
    with pytest.raises(InvalidWorkflow) as caught:
        parse_definition(full)
    (problem,) = caught.value.problems
    assert problem.field == "workflow_configurations.model_overrides.api_key"
    assert '{"secret": "NAME"}' in problem.message
    assert "turn-worker config set" in problem.message
    assert "sk-plain-42" not in str(caught.value)


def test_a_definition_may_not_refer_to_the_operators_environment(workflow: JSON) -> None:
    overrides = {"api_key": {"environment": "ANTHROPIC_API_KEY"}}
    full = {"graph": workflow, "workflow_configurations": {"model_overrides": overrides}}
    assert places_of(full) == [("workflow", None, "workflow_configurations.model_overrides.api_key")]


def test_a_model_that_the_named_provider_does_not_have_is_reported_with_those_it_has(workflow: JSON) -> None:
    overrides = {"provider": "sarvam", "model": "gpt-5", "fallback": {"provider": "sarvam", "model": "gpt-4"}}
    full = {"graph": workflow, "workflow_configurations": {"model_overrides": overrides}}
    assert [(problem.field, problem.message.partition(" It has ")[0]) for problem in problems_of(full)] == [
        ("workflow_configurations.model_overrides.model", "The provider 'sarvam' has no model 'gpt-5'."),
        ("workflow_configurations.model_overrides.fallback.model", "The provider 'sarvam' has no model 'gpt-4'."),
    ]


def test_the_error_says_every_problem_with_its_place(workflow: JSON) -> None:
    node(workflow, "agent")["data"]["prompt"] = ""
    edge(workflow, "e2")["data"]["label"] = ""
    with pytest.raises(TurnWorkerError) as caught:
        parse_definition(workflow)
    assert caught.value.code == "invalid_workflow"
    assert str(caught.value) == (
        "The workflow has 2 problems:\n"
        "- node 'agent', data.prompt: A node of type agentNode needs a prompt.\n"
        "- edge 'e2', data.label: An edge needs a label; its tool is named after it."
    )


def test_the_error_survives_pickling() -> None:
    error = InvalidWorkflow((Problem("workflow", None, None, "No."),))
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_a_stored_definition_is_never_refused_for_what_validation_would_refuse(workflow: JSON) -> None:
    workflow["nodes"][1]["data"] = {"prompt": 5, "extraction_variables": [{"name": 1}, None], "allow_interrupt": "eh"}
    workflow["nodes"].append({"id": "future", "type": "hologram", "data": {"depth": 3}})
    workflow["edges"][0]["source"] = "ghost"
    overrides = {"model": "m", "api_key": "sk-1", "shiny": 1}
    loaded = load_definition({"graph": workflow, "workflow_configurations": {"model_overrides": overrides}})
    assert loaded.graph.nodes[1].id == "agent"
    assert loaded.graph.nodes[1].data.name == ""
    assert isinstance(loaded.graph.nodes[-1], PassiveNode)
    assert loaded.workflow_configurations.model_overrides is not None
    assert loaded.workflow_configurations.model_overrides.model == "m"
    assert loaded.workflow_configurations.model_overrides.api_key is None


def test_loading_reads_a_valid_definition_exactly_as_parsing_does(exported_workflow: JSON) -> None:
    assert load_definition(definition_document(exported_workflow)) == parse_definition(exported_workflow)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
wire_keys = st.sampled_from(
    [
        *("id", "type", "source", "target", "data", "prompt", "label", "greeting_type", "extraction_variables"),
        *("tool_uuids", "mcp_tool_filters", "delayed_start_duration", "name", "allow_interrupt", "secret"),
        *("model_overrides", "api_key", "base_url", "parameters", "max_tokens", "provider"),
    ]
)
node_types = st.sampled_from(["startCall", "agentNode", "endCall", "globalNode", "trigger"])
wild = json_values | st.dictionaries(wire_keys, json_values | st.dictionaries(wire_keys, json_values))
wild_nodes = st.lists(json_values | st.fixed_dictionaries({"type": node_types}, optional={"id": wild, "data": wild}))
wild_edges = st.lists(json_values | st.dictionaries(wire_keys, wild))


@given(nodes=wild_nodes | json_values, edges=wild_edges | json_values, overrides=wild, configurations=json_values)
def test_any_json_is_loaded_without_a_word_and_parsed_or_refused_with_problems(
    nodes: object, edges: object, overrides: object, configurations: object
) -> None:
    for settings in (configurations, {"model_overrides": overrides}):
        data = {"graph": {"nodes": nodes, "edges": edges}, "workflow_configurations": settings}
        loaded = load_definition(data)
        refusal = InvalidWorkflow(())
        try:
            assert parse_definition(data) == loaded
        except InvalidWorkflow as error:
            refusal = error
        json.dumps([str(problem) for problem in refusal.problems])
