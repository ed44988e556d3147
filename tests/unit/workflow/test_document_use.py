"""Which documents a definition may search."""

from __future__ import annotations

from uuid import UUID

from worker.workflow.definition import ToolNodeData
from worker.workflow.document_use import document_ids, document_problems, used_documents
from worker.workflow.validation import load_definition

ONE, TWO = UUID(int=1), UUID(int=2)
DEFINITION = load_definition(
    {
        "nodes": [
            {"id": "start", "type": "startCall", "data": {"prompt": "Hi.", "document_uuids": [str(ONE), "nonsense"]}},
            {"id": "agent", "type": "agentNode", "data": {"prompt": "Hi.", "document_uuids": [str(TWO)]}},
            {"id": "end", "type": "endCall", "data": {"prompt": "Bye."}},
        ],
        "edges": [],
    }
)


def test_every_document_of_every_node_is_used() -> None:
    assert used_documents(DEFINITION) == {ONE, TWO}


def test_a_document_named_twice_is_searched_once_and_what_is_no_id_not_at_all() -> None:
    data = ToolNodeData(document_uuids=(str(TWO), str(ONE), str(TWO), "nonsense"))
    assert document_ids(data) == [TWO, ONE]


def test_every_mention_that_cannot_stand_is_a_problem_with_its_place() -> None:
    found = document_problems(DEFINITION, {ONE})
    assert [(problem.id, problem.field) for problem in found] == [
        ("start", "data.document_uuids.1"),
        ("agent", "data.document_uuids.0"),
    ]
    assert "not the id of a document" in found[0].message
    assert "Upload it first" in found[1].message
    assert document_problems(DEFINITION, {ONE, TWO})[1:] == []
