"""Which tools nodes may carry, told from the tools alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from worker.workflow.tool_definition import ToolDefinition, parse_tool
from worker.workflow.tool_use import KNOWLEDGE_BASE_TOOL, tool_problems, tool_uses
from worker.workflow.validation import load_definition

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


def graph(tools: list[str], label: str = "Done", **data: Any) -> Any:
    """A start node that carries tools and leads to an end."""
    start = {"name": "Start", "prompt": "Hi.", "tool_uuids": tools, **data}
    return load_definition(
        {
            "nodes": [
                {"id": "start", "type": "startCall", "data": start},
                {"id": "end", "type": "endCall", "data": {"prompt": "Bye.", "tool_uuids": ["ignored"]}},
            ],
            "edges": [{"id": "e", "source": "start", "target": "end", "data": {"label": label}}],
        }
    )


def named(*names: str) -> dict[UUID, ToolDefinition]:
    return {id_: parse_tool({"type": "calculator", "name": name}) for id_, name in zip((ONE, TWO), names, strict=False)}


def test_only_nodes_that_carry_tools_mention_any() -> None:
    uses = tool_uses(graph([str(ONE), "x"]))
    assert [(use.place.id, use.field, use.tool_id) for use in uses] == [
        ("start", "data.tool_uuids.0", ONE),
        ("start", "data.tool_uuids.1", None),
    ]


def test_tools_that_exist_under_names_of_their_own_are_no_problem() -> None:
    assert tool_problems(graph([str(ONE), str(TWO)]), named("a", "b")) == []


def test_each_mention_that_cannot_stand_is_a_problem_with_its_place() -> None:
    written = [str(ONE), str(TWO), str(THREE), "x", str(ONE).upper()]
    problems = tool_problems(graph(written, label="SUMS"), named("sums", "sums"))
    assert [(problem.kind, problem.id, problem.field) for problem in problems] == [
        ("node", "start", f"data.tool_uuids.{place}") for place in (0, 1, 1, 2, 3, 4, 4)
    ]


def test_an_mcp_server_may_share_its_name_with_a_transition_because_its_tools_do_not() -> None:
    server = parse_tool({"type": "mcp_server", "name": "done", "url": "https://crm.example/mcp"})
    assert tool_problems(graph([str(ONE)]), {ONE: server}) == []
    assert len(tool_problems(graph([str(ONE)]), named("done"))) == 1


def test_the_name_of_the_tool_that_searches_documents_is_taken_only_where_there_are_some() -> None:
    assert tool_problems(graph([str(ONE)]), named(KNOWLEDGE_BASE_TOOL)) == []
    assert len(tool_problems(graph([str(ONE)], document_uuids=["d"]), named(KNOWLEDGE_BASE_TOOL))) == 1
