from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from worker.workflow.definition import (
    AgentNode,
    EdgeData,
    EndCallData,
    EndCallNode,
    PassiveNode,
    StartCallData,
    StartCallNode,
    ToolNodeData,
    WorkflowDefinition,
)
from worker.workflow.validation import parse_definition

JSON = dict[str, Any]

EXTRACTION = {
    "extraction_enabled": True,
    "extraction_prompt": "Listen for it.",
    "extraction_variables": [
        {"name": "city", "type": "string", "prompt": "Where?"},
        {"name": "age", "type": "number"},
        {"name": "new", "type": "boolean"},
    ],
}
TOOLS = {"tool_uuids": ["t"], "document_uuids": ["d"], "mcp_tool_filters": {"server": ["search"]}}


def test_every_field_of_a_start_node_is_read(workflow: JSON) -> None:
    data = {
        "name": "Hello",
        "prompt": "Begin.",
        "greeting": "Hi!",
        "greeting_type": "audio",
        "greeting_recording_id": "r1",
        "delayed_start": True,
        "delayed_start_duration": 1.5,
        "pre_call_fetch_mode": "always",
        "pre_call_fetch_url": "https://example.com",
        "pre_call_fetch_credential_uuid": "c1",
        **EXTRACTION,
        **TOOLS,
    }
    workflow["nodes"][0]["data"] = data
    node = parse_definition(workflow).graph.nodes[0]
    assert isinstance(node, StartCallNode)
    assert data.items() <= node.data.model_dump(exclude_unset=True, mode="json").items()


def test_every_field_of_an_agent_node_is_read(workflow: JSON) -> None:
    data = {"name": "A", "prompt": "Ask.", "allow_interrupt": True, "add_global_prompt": False, **EXTRACTION, **TOOLS}
    workflow["nodes"][1]["data"] = data
    node = parse_definition(workflow).graph.nodes[1]
    assert isinstance(node, AgentNode)
    assert node.data.model_dump(exclude_unset=True, mode="json") == data


def test_every_field_of_an_edge_is_read(workflow: JSON) -> None:
    data = {
        "label": "go",
        "condition": "always",
        "transition_speech": "One moment.",
        "transition_speech_type": "audio",
        "transition_speech_recording_id": "r2",
    }
    workflow["edges"][0]["data"] = data
    assert parse_definition(workflow).graph.edges[0].data.model_dump() == data


def test_start_and_agent_nodes_add_the_global_prompt_by_default_and_end_nodes_do_not() -> None:
    assert StartCallData().add_global_prompt
    assert ToolNodeData().add_global_prompt
    assert not EndCallData().add_global_prompt


def test_a_flag_that_is_absent_is_off() -> None:
    assert not StartCallData().allow_interrupt
    assert not StartCallData().extraction_enabled
    assert not StartCallData().delayed_start
    assert not WorkflowDefinition().workflow_configurations.context_compaction_enabled


def test_a_value_of_the_wrong_shape_is_never_repeated_in_an_error() -> None:
    overrides = {"api_key": {"key": "sk-plain-42"}}
    with pytest.raises(ValidationError) as caught:
        WorkflowDefinition.model_validate({"workflow_configurations": {"model_overrides": overrides}})
    assert "sk-plain-42" not in str(caught.value)


def test_null_means_the_same_as_absent() -> None:
    fields = dict.fromkeys(StartCallData.model_fields)
    assert StartCallData.model_validate(fields) == StartCallData()
    assert EdgeData.model_validate(dict.fromkeys(EdgeData.model_fields)) == EdgeData()


def test_an_empty_speech_type_means_text() -> None:
    assert StartCallData.model_validate({"greeting_type": ""}).greeting_type == "text"


def test_editor_only_keys_are_ignored(workflow: JSON) -> None:
    plain = parse_definition(workflow)
    workflow["viewport"] = {"x": 0, "y": 0, "zoom": 1}
    for item in (*workflow["nodes"], *workflow["edges"]):
        item |= {"selected": True, "measured": {"width": 300}, "animated": True, "position": "somewhere"}
        item["data"] |= {"invalid": False, "validationMessage": None}
    drawn = parse_definition(workflow)
    assert drawn.graph.edges == plain.graph.edges
    assert drawn.graph.nodes[:4] == plain.graph.nodes[:4]


def test_start_and_end_come_from_the_type_whatever_stale_flags_say(workflow: JSON) -> None:
    workflow["nodes"][1]["data"] |= {"is_start": True, "is_end": True}
    workflow["nodes"][2]["data"] |= {"is_start": True, "is_end": False}
    nodes = parse_definition(workflow).graph.nodes
    assert isinstance(nodes[1], AgentNode)
    assert isinstance(nodes[2], EndCallNode)


def test_what_trigger_webhook_and_qa_hold_is_kept(workflow: JSON) -> None:
    passive = parse_definition(workflow).graph.nodes[4:]
    assert all(isinstance(node, PassiveNode) for node in passive)
    assert [node.data.model_extra for node in passive] == [
        {"trigger_path": "x"},
        {"endpoint_url": "https://example.com"},
        {},
    ]


def test_a_node_without_a_name_goes_by_its_id(workflow: JSON) -> None:
    workflow["nodes"][0]["data"]["name"] = " "
    nodes = parse_definition(workflow).graph.nodes
    assert [node.name for node in nodes[:2]] == ["start", "A"]


def test_a_definition_cannot_be_changed(workflow: JSON) -> None:
    edge: Any = parse_definition(workflow).graph.edges[0]
    with pytest.raises(ValidationError, match="frozen"):
        edge.data = EdgeData()
