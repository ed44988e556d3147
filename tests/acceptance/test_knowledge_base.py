"""Documents from upload to answer, over the API, with real worker processes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import redis.asyncio

from tests.pdf import pdf
from tests.world import definition

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system import Caller, System

TOOL = "retrieve_from_knowledge_base"
LONG = "\n\n".join(f"# Topic {number}\n\n{'The practice opens at nine. ' * 20}" for number in range(3_000))


async def agent(caller: Caller, *documents: UUID) -> UUID:
    """A session with an agent that may search these documents."""
    document = definition()
    document["graph"]["nodes"][0]["data"]["document_uuids"] = [str(id_) for id_ in documents]
    workflow = await caller.client.create_workflow("Desk", document)
    return (await caller.client.create_session(workflow.id, begins_with="user")).id


async def test_an_agent_answers_from_a_pdf_a_page_and_markdown(system: System, caller: Caller) -> None:
    uploads: list[dict[str, Any]] = [
        {"content": pdf(["The practice opens at nine."]), "filename": "hours.pdf", "name": "Hours"},
        {"content": "<h1>Parking</h1><p>The garage has forty places.</p>", "filename": "parking.html"},
        {"content": "# Prices\n\nA first visit costs 80 euros.", "filename": "prices.md", "language": "english"},
    ]
    documents = [await caller.client.upload_document(**upload) for upload in uploads]
    ready = await asyncio.gather(*(caller.client.wait_for_document(document.id) for document in documents))
    assert [(document.status, document.chunks_total) for document in ready] == [("ready", 1)] * 3
    session = await agent(caller, *(document.id for document in documents))
    system.play(
        {"when": {"after_tool_result": TOOL}, "reply": "{tool_result}"},
        {"when": {"tool_offered": TOOL}, "reply": [{"tool": TOOL, "input": {"query": "{user}"}}]},
    )
    for question, name, answer in [
        ("When does the practice open?", "Hours", "The practice opens at nine."),
        ("Is there a garage with places?", "parking.html", "# Parking\n\nThe garage has forty places."),
        ("What do visits cost?", "prices.md", "# Prices\n\nA first visit costs 80 euros."),
    ]:
        turn = await caller.ask(session, question)
        found = json.loads(turn.assistant_text or "")
        assert (found["chunks"][0]["document"], found["chunks"][0]["text"]) == (name, answer)
    await caller.client.delete_document(documents[0].id)
    turn = await caller.ask(session, "When does the practice open?")
    assert "nine" not in (turn.assistant_text or "")


async def test_a_document_whose_worker_is_killed_becomes_ready_in_another(system: System, caller: Caller) -> None:
    async with redis.asyncio.Redis.from_url(system.redis.url) as client, client.pubsub() as news:
        await news.psubscribe(f"documents.{caller.world.organization_id}.*")
        await news.get_message(timeout=5)
        document = await caller.client.upload_document(LONG, filename="long.md")
        message = await news.get_message(timeout=30)
    assert json.loads(message["data"])["type"] == "document.processing"
    (row,) = await caller.world.rows("SELECT claimed_by FROM documents WHERE id = :id", id=document.id)
    system.worker_of(row).kill()
    ready = await caller.client.wait_for_document(document.id, timeout_seconds=60)
    assert (ready.status, ready.chunks_done) == ("ready", ready.chunks_total)
    (row,) = await caller.world.rows(
        """
        SELECT documents.attempt, documents.worker_losses, count(*) AS chunks FROM documents
        JOIN chunks ON chunks.document_id = documents.id WHERE documents.id = :id GROUP BY documents.id
        """,
        id=document.id,
    )
    assert (row.attempt, row.worker_losses, row.chunks) == (2, 1, ready.chunks_total)


async def test_turns_go_on_while_a_document_is_read_that_takes_long(system: System, caller: Caller) -> None:
    session = await caller.session()
    alone = await _slowest_of(caller, session, 5)
    bomb = pdf(["A line of text. " * 40] * 1_500)
    document = await caller.client.upload_document(bomb, filename="long.pdf")
    beside = await _slowest_of(caller, session, 5)
    ready = await caller.client.wait_for_document(document.id, timeout_seconds=100)
    assert ready.status == "ready"
    # Reading takes seconds; no turn waited for it.
    assert beside < max(2.0, 20 * alone)


async def _slowest_of(caller: Caller, session: UUID, count: int) -> float:
    loop = asyncio.get_running_loop()
    durations = []
    for number in range(count):
        began = loop.time()
        assert (await caller.ask(session, f"Question {number}")).status == "completed"
        durations.append(loop.time() - began)
    return max(durations)
