"""The tool that searches the documents of a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from worker.engine.tools.knowledge_base import Findings, Passage, knowledge_base_tool
from worker.engine.tools.tool import ToolInvocation, ToolResult

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCUMENT = UUID(int=1)
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@dataclass
class Shelf:
    """Documents in which every search finds the same."""

    findings: Findings
    asked: list[Any] = field(default_factory=list)

    async def search(self, document_ids: Sequence[UUID], query: str, *, limit: int) -> Findings:
        self.asked.append((tuple(document_ids), query, limit))
        return self.findings


async def call(shelf: Shelf, **arguments: Any) -> ToolResult:
    tool = knowledge_base_tool(shelf, [DOCUMENT])
    assert (tool.name, tool.required) == ("retrieve_from_knowledge_base", ("query",))
    return await tool.run(
        ToolInvocation(
            arguments=arguments,
            tool_call_id="call-1",
            idempotency_key="key",
            initial_context={},
            gathered_context={},
            now=NOW,
        )
    )


async def test_the_model_gets_the_passages_with_their_document_and_score() -> None:
    shelf = Shelf(Findings([Passage("Prices", "A visit costs 80.", 0.98765)]))
    result = await call(shelf, query="  What does a visit cost? ")
    assert result.result == {
        "status": "success",
        "chunks": [{"document": "Prices", "score": 0.988, "text": "A visit costs 80."}],
    }
    assert shelf.asked == [((DOCUMENT,), "What does a visit cost?", 3)]
    assert not result.events


async def test_finding_nothing_is_a_success_without_passages() -> None:
    assert (await call(Shelf(Findings([])), query="x")).result == {"status": "success", "chunks": []}


@pytest.mark.parametrize("arguments", [{}, {"query": " "}, {"query": 5}])
async def test_without_a_query_nothing_is_searched(arguments: dict[str, Any]) -> None:
    shelf = Shelf(Findings([]))
    result = await call(shelf, **arguments)
    assert isinstance(result.result, dict)
    assert result.result["status"] == "error"
    assert shelf.asked == []


async def test_a_search_that_was_not_as_good_as_it_could_be_is_an_event() -> None:
    result = await call(Shelf(Findings([], degraded="no vectors")), query="x")
    (event,) = result.events
    assert (event.type, event.payload, event.created_at) == ("retrieval_degraded", {"reason": "no vectors"}, NOW)
