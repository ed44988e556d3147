"""The tool by which the model looks something up in the documents of its node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from worker.conversation import event
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult
from worker.workflow.tool_use import KNOWLEDGE_BASE_TOOL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

CHUNKS: Final = 3
_LONGEST_QUERY_CHARS: Final = 1_000
_DESCRIPTION: Final = (
    "Search the documents of the knowledge base. Call it before you answer a question of fact that your instructions do not "
    "answer, with a query that says what you look for in full. Answer from what it finds, and say so if it finds nothing."
)
_QUERY: Final = (
    "What to look for: a question or its important words, in the language of the documents where you know it."
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document.

    Attributes:
        document: The document's name.
        score: How well it fits, up to 1; to be compared only with others of one search.
    """

    document: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search found, best first.

    Attributes:
        degraded: Why the search was not as good as it could have been; None if it was.
    """

    passages: Sequence[Passage]
    degraded: str | None = None


class Documents(Protocol):
    """An organization's documents."""

    async def search(self, document_ids: Sequence[UUID], query: str, *, limit: int) -> Findings:
        """Find the passages of these documents that fit a query best. Documents that are not ready, or gone, have none."""
        ...


def knowledge_base_tool(documents: Documents, document_ids: Sequence[UUID]) -> Tool:
    """The tool for a node that may search these documents."""

    async def run(call: ToolInvocation) -> ToolResult:
        query = call.arguments.get("query")
        if not isinstance(query, str) or not query.strip():
            return ToolResult(result={"status": "error", "message": "Give a `query` that says what to look for."})
        findings = await documents.search(document_ids, query.strip()[:_LONGEST_QUERY_CHARS], limit=CHUNKS)
        events = [event.retrieval_degraded(call.now, reason=findings.degraded)] if findings.degraded else []
        return ToolResult(
            result={
                "status": "success",
                "chunks": [
                    {"document": passage.document, "score": round(passage.score, 3), "text": passage.text}
                    for passage in findings.passages
                ],
            },
            events=events,
        )

    return Tool(
        name=KNOWLEDGE_BASE_TOOL,
        description=_DESCRIPTION,
        properties={"query": {"type": "string", "description": _QUERY}},
        required=("query",),
        run=run,
    )
