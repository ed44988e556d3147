"""How documents become chunks: claimed, read, stored in batches, and gone on with after whatever happens."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.pdf import pdf
from tests.world import World
from worker.embedded.scripted_llm import Script
from worker.embedded.scripted_llm.embeddings_api import DIMENSIONS
from worker.knowledge.chunk_batches import BATCH_CHUNKS
from worker.storage import documents as storage
from worker.storage.ingestions import (
    ClaimedDocument,
    IngestionLost,
    NewChunk,
    begin_chunks,
    claim_document,
    finish_document,
    store_chunks,
)

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.knowledge.conftest import Library
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.knowledge.embeddings import Embedder

SENTENCE = "The practice opens at nine in the morning on every working day. "
LONG = "\n\n".join(f"# Topic {number}\n\n{SENTENCE * 9}" for number in range(BATCH_CHUNKS + 10))


async def claim(library: Library) -> ClaimedDocument:
    async with library.database.statement() as connection:
        claimed = await claim_document(connection, claimed_by="another", lease_seconds=10)
    assert claimed is not None
    return claimed


async def expire(library: Library) -> None:
    await library.world.execute("UPDATE documents SET lease_expires_at = now() - interval '1 hour'")


async def test_a_document_is_cut_into_chunks_and_what_was_uploaded_is_dropped(library: Library) -> None:
    document_id = await library.upload(LONG)
    before = await library.document(document_id)
    assert (before.status, before.chunks_total, before.chunks_done) == ("pending", None, 0)
    async with library.worker() as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "ready"
    after = await library.document(document_id)
    assert (after.status, after.error) == ("ready", None)
    assert after.chunks_total == after.chunks_done == BATCH_CHUNKS + 10
    assert after.ended_at is not None
    texts = await library.texts(document_id)
    assert [chunk.splitlines()[0] for chunk in texts] == [f"# Topic {number}" for number in range(len(texts))]
    assert await library.world.rows("SELECT 1 FROM document_sources") == []


async def test_a_pdf_is_read(library: Library) -> None:
    document_id = await library.read(pdf(["We open at nine."]), media_type="application/pdf")
    assert await library.texts(document_id) == ["We open at nine."]


async def test_each_change_of_its_status_is_news(library: Library, news: Any) -> None:
    document_id = await library.read("# Hours\n\nNine.")
    heard = [json.loads((await news.get_message(timeout=5))["data"]) for _ in range(2)]
    assert [event["type"] for event in heard] == ["document.processing", "document.ready"]
    assert heard[1]["subject"] == heard[1]["data"]["document_id"] == str(document_id)
    assert heard[1]["data"]["status"] == "ready"


async def test_a_document_that_cannot_be_read_fails_with_a_reason_and_leaves_no_chunks(
    library: Library, news: Any
) -> None:
    document_id = await library.upload(b"%PDF-1.7 and nothing else", media_type="application/pdf")
    async with library.worker() as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "failed"
    failed = await library.document(document_id)
    assert (failed.status, failed.error and failed.error.code) == ("failed", "document_broken")
    assert await library.world.rows("SELECT 1 FROM document_sources") == []
    heard = [json.loads((await news.get_message(timeout=5))["data"]) for _ in range(2)]
    assert heard[1]["type"] == "document.failed"


async def test_more_text_than_is_allowed_fails_the_document(library: Library) -> None:
    document_id = await library.upload("x" * 101)
    async with library.worker(max_document_chars=100) as worker:
        await worker.ingest(library.reference(document_id))
    failed = await library.document(document_id)
    assert failed.error is not None
    assert failed.error.code == "document_too_long"


async def test_a_ring_for_a_document_that_is_read_or_gone_is_dropped(library: Library) -> None:
    document_id = await library.read("# Hours\n\nNine.")
    async with library.worker() as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "not claimable"
        other = storage.DocumentReference(document_id, document_id)
        assert (await worker.ingest(other)).value == "not claimable"


async def test_a_document_of_a_lost_worker_goes_on_behind_the_chunks_that_are_stored(library: Library) -> None:
    document_id = await library.upload(LONG)
    lost = (await claim(library)).ingestion
    async with library.database.transaction() as connection:
        await begin_chunks(connection, lost, total=BATCH_CHUNKS + 10)
        stored = [NewChunk(number, f"stored by the first {number}") for number in range(5)]
        await store_chunks(connection, lost, language="simple", chunks=stored)
    await expire(library)
    async with library.worker(lease_seconds=0.2) as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "ready"
    texts = await library.texts(document_id)
    assert texts[:5] == [chunk.text for chunk in stored]
    assert texts[5].startswith("# Topic 5\n")
    assert len(texts) == BATCH_CHUNKS + 10


async def test_what_another_release_cut_otherwise_is_cut_again(library: Library) -> None:
    document_id = await library.upload("# Hours\n\nNine.")
    lost = (await claim(library)).ingestion
    async with library.database.transaction() as connection:
        await begin_chunks(connection, lost, total=2)
        await store_chunks(connection, lost, language="simple", chunks=[NewChunk(0, "# Hours")])
    await expire(library)
    async with library.worker(lease_seconds=0.2) as worker:
        await worker.ingest(library.reference(document_id))
    assert await library.texts(document_id) == ["# Hours\n\nNine."]


async def test_an_attempt_that_was_overtaken_can_write_nothing(library: Library) -> None:
    document_id = await library.upload("# Hours\n\nNine.")
    lost = (await claim(library)).ingestion
    await expire(library)
    async with library.worker(lease_seconds=0.2) as worker:
        await worker.ingest(library.reference(document_id))

    async def late(write: Any, **values: Any) -> None:
        with pytest.raises(IngestionLost):
            async with library.database.transaction() as connection:
                await write(connection, lost, **values)

    await late(begin_chunks, total=9)
    await late(store_chunks, language="simple", chunks=[NewChunk(0, "late")])
    await late(finish_document)
    assert await library.texts(document_id) == ["# Hours\n\nNine."]


async def test_a_document_that_loses_its_workers_again_and_again_fails(library: Library) -> None:
    document_id = await library.upload("# Hours\n\nNine.")
    for _ in range(3):
        await library.world.execute("UPDATE documents SET status = 'pending', lease_expires_at = NULL")
        await claim(library)
        await library.world.execute("UPDATE documents SET worker_losses = worker_losses + 1")
    await library.world.execute("UPDATE documents SET status = 'pending', lease_expires_at = NULL")
    async with library.worker() as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "failed"
    failed = await library.document(document_id)
    assert failed.error is not None
    assert failed.error.code == "worker_lost"


async def test_a_document_deleted_while_it_is_read_is_gone(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM
) -> None:
    embeddings.set_script(Script.model_validate({"rules": [{"reply": [], "hold": "here"}]}))
    document_id = await library.upload(LONG)
    async with library.worker(embedder) as worker:
        reading = asyncio.create_task(worker.ingest(library.reference(document_id)))
        await embeddings.wait_for_request(lambda _: True)
        async with library.database.statement() as connection:
            await storage.delete_document(
                connection, organization_id=library.world.organization_id, document_id=document_id
            )
        embeddings.release("here")
        assert (await reading).value == "lost"
    assert await library.world.rows("SELECT 1 FROM chunks") == []


async def test_a_worker_that_ends_gives_its_document_back_and_that_counts_for_nothing(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM
) -> None:
    rules = [{"reply": [], "times": 1}, {"reply": [], "times": 1, "hold": "here"}]
    embeddings.set_script(Script.model_validate({"rules": rules}))
    document_id = await library.upload(LONG)
    async with library.worker(embedder) as worker:
        reading = asyncio.create_task(worker.ingest(library.reference(document_id)))
        await embeddings.wait_for_request(lambda _: True, count=2)
        worker.give_back()
        assert (await reading).value == "given back"
    (row,) = await library.world.rows("SELECT status, failures, worker_losses, chunks_done FROM documents")
    assert tuple(row) == ("pending", 0, 0, BATCH_CHUNKS)
    async with library.worker(embedder) as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "ready"
    # What was stored was not embedded again.
    assert [len(request.body["input"]) for request in embeddings.requests] == [BATCH_CHUNKS, 10, 10]


async def test_a_lease_is_renewed_for_as_long_as_it_takes(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM
) -> None:
    embeddings.set_script(Script.model_validate({"rules": [{"reply": [], "hold": "here"}]}))
    document_id = await library.upload("# Hours")
    async with library.worker(embedder) as worker:
        reading = asyncio.create_task(worker.ingest(library.reference(document_id)))
        await embeddings.wait_for_request(lambda _: True)
        await expire(library)
        await _status(library, document_id, "processing", renewed=True)
        embeddings.release("here")
        assert (await reading).value == "ready"


async def test_embeddings_that_are_away_for_a_while_delay_a_document(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM
) -> None:
    embeddings.set_script(
        Script.model_validate({"rules": [{"times": 4, "error": {"status": 503, "retry_after": 0.001}}]})
    )
    document_id = await library.upload("# Hours")
    async with library.worker(embedder) as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "retrying"
        waiting = await library.document(document_id)
        assert (waiting.status, waiting.error and waiting.error.code) == ("pending", "embeddings_unavailable")
        worker.start()
        await _status(library, document_id, "ready")
    (chunk,) = await library.world.rows("SELECT embedding_model, cardinality(embedding) AS length FROM chunks")
    assert (chunk.embedding_model, chunk.length) == ("words-1", DIMENSIONS)


@pytest.mark.parametrize(("status", "code"), [(401, "embeddings_failed"), (503, "embeddings_unavailable")])
async def test_a_document_without_embeddings_is_ready_all_the_same_and_says_what_it_lacks(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM, status: int, code: str
) -> None:
    embeddings.set_script(Script.model_validate({"rules": [{"error": {"status": status, "retry_after": 0.001}}]}))
    document_id = await library.upload("# Hours")
    async with library.worker(embedder, max_provider_failures=1) as worker:
        assert (await worker.ingest(library.reference(document_id))).value == "ready"
    document = await library.document(document_id)
    assert document.error is not None
    assert document.error.code == code
    assert "searched by its words alone" in document.error.message
    assert "sk-embeddings" not in document.error.message
    assert await library.texts(document_id) == ["# Hours"]


async def test_a_document_nobody_rang_for_is_found(library: Library) -> None:
    document_id = await library.upload("# Hours\n\nNine.")
    async with library.worker(sweep_after_seconds=0.001, sweep_interval_seconds=0.01) as worker:
        worker.start()
        await _status(library, document_id, "ready")


async def test_rings_that_come_while_it_is_busy_are_not_needed(library: Library) -> None:
    documents = [await library.upload(f"# Topic {number}") for number in range(5)]
    async with library.worker(document_concurrency=1) as worker:
        endings = await asyncio.gather(*(worker.ingest(library.reference(document_id)) for document_id in documents))
        assert sorted(ending.value for ending in endings) == ["busy", "busy", "busy", "busy", "ready"]
        for document_id in documents:
            await _status(library, document_id, "ready")


async def test_the_many_documents_of_one_organization_do_not_hold_up_the_one_of_another(library: Library) -> None:
    for number in range(3):
        await library.upload(f"# Topic {number}")
    other = await World.make(library.database, "Other")
    async with library.database.transaction() as connection:
        waiting = await storage.create_document(
            connection, organization_id=other.organization_id, name="b", media_type="text/plain", content=b"b"
        )
    first, second = await claim(library), await claim(library)
    assert first.ingestion.organization_id == library.world.organization_id
    assert second.ingestion.document_id == waiting.id


async def _status(library: Library, document_id: UUID, status: str, *, renewed: bool = False) -> None:
    """Until the document is so; asked again whenever there is a moment, because the database tells nobody."""
    async with asyncio.timeout(20):
        while True:
            (row,) = await library.world.rows(
                "SELECT status, lease_expires_at > now() AS held FROM documents WHERE id = :id", id=document_id
            )
            if row.status == status and (row.held or not renewed):
                return
            await asyncio.sleep(0)
