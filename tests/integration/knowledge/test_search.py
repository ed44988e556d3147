"""What is found in documents: by words in any language, by vectors with and without pgvector, and never anyone else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.integration.knowledge.conftest import Library, embeddings_settings
from tests.world import World
from worker.embedded.scripted_llm import Script
from worker.knowledge.embeddings import Embedder
from worker.knowledge.search import KnowledgeBase
from worker.storage.search import has_vector_extension, search_by_vectors, search_by_words

if TYPE_CHECKING:
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.engine.tools.knowledge_base import Findings

# Each paragraph becomes a chunk: long enough to stand alone, about one thing.
FILLING = " Please ask at the front desk if anything about this is not clear to you." * 9
TOPICS = {
    "hours": "# Hours\n\nThe practice opens at nine and closes at five, Monday to Friday.",
    "price": "# Price\n\nA first visit costs 80 euros; the bill is sent by post.",
    "cancel": "# Cancelling\n\nAppointments can be cancelled until the evening before, by phone.",
    "parking": "# Parking\n\nThe garage below the house has forty places.",
}
MANUAL = "\n\n".join(text + FILLING for text in TOPICS.values())


async def by_words(library: Library, query: str, *documents: UUID) -> list[str]:
    async with library.database.statement() as connection:
        found = await search_by_words(
            connection,
            organization_id=library.world.organization_id,
            document_ids=documents,
            query=query,
            limit=5,
        )
    return [chunk.text for chunk in found]


async def search(library: Library, embedder: Embedder | None, query: str, *documents: UUID) -> Findings:
    base = KnowledgeBase(library.database, embedder).of(library.world.organization_id)
    return await base.search(documents, query, limit=3)


@pytest.mark.parametrize(
    ("query", "topic"),
    [
        ("When does the practice open?", "hours"),
        ("How much does a visit cost?", "price"),
        ("cancel an appointment", "cancel"),
        ("is there a place to park the car, a garage perhaps", "parking"),
        ("80 EUROS", "price"),
    ],
)
async def test_a_question_finds_the_chunk_that_answers_it(library: Library, query: str, topic: str) -> None:
    document = await library.read(MANUAL)
    assert (await by_words(library, query, document))[0].startswith(TOPICS[topic])


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("german", "Die Kosten der Häuser werden übernommen.", "Übernimmt jemand das Haus?"),
        ("spanish", "Las citas se cancelan por teléfono.", "¿Cómo puedo cancelar una cita?"),
        ("simple", "Прийом триває з дев'ятої до п'ятої.", "коли починається прийом"),
        ("simple", "受付時間は月曜日から金曜日までです。", "受付時間を教えて"),
        ("simple", "진료 시간은 오전 아홉 시부터입니다.", "진료 시간"),
        ("simple", "Las reservaciones se hacen aquí.", "RESERVACION"),
        ("simple", "Öffnungszeiten: neun bis fünf.", "offnungszeit"),
        ("simple", "The \ufb01le is kept in \uff32\uff4f\uff4f\uff4d 5.", "file room"),
    ],
)
async def test_words_are_found_in_many_languages(library: Library, language: str, text: str, query: str) -> None:
    document = await library.read(text, language=language, media_type="text/plain")
    await library.read("Something else altogether.", language=language)
    assert await by_words(library, query, document) == [text]


@pytest.mark.parametrize("query", ["", "  ", "'", "\\", "a'b\\c & | ! ( :* <->", "-not", "%", "\ud800"])
async def test_no_query_is_a_mistake(library: Library, query: str) -> None:
    document = await library.read("it's a\\b & c")
    assert len(await by_words(library, query, document)) <= 1


async def test_a_word_that_every_chunk_has_decides_nothing(library: Library) -> None:
    document = await library.read(MANUAL)
    found = await by_words(library, "please ask about the desk, the desk, the desk: parking", document)
    assert found[0].startswith(TOPICS["parking"])


async def test_only_the_documents_that_are_named_are_searched(library: Library) -> None:
    one, two = await library.read("Parking is free."), await library.read("Parking is not free.")
    assert await by_words(library, "parking", one) == ["Parking is free."]
    assert len(await by_words(library, "parking", one, two, uuid4())) == 2
    assert await by_words(library, "parking") == []


async def test_a_document_that_is_not_ready_or_deleted_is_not_found(library: Library) -> None:
    document = await library.read("Parking is free.")
    for status in (
        "status = 'processing', lease_expires_at = now(), ended_at = NULL",
        "status = 'failed', error = '{}'",
    ):
        await library.world.execute(f"UPDATE documents SET {status}")
        assert await by_words(library, "parking", document) == []
        await library.world.execute("UPDATE documents SET status = 'ready', lease_expires_at = NULL, ended_at = now()")


async def test_an_organization_never_finds_what_is_anothers(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM
) -> None:
    document = await library.read("Parking is free.", embedder=embedder)
    other = Library(await World.make(library.database, "Other"), library.redis_url)
    assert (await search(library, embedder, "parking", document)).passages
    assert (await search(other, embedder, "parking", document)).passages == []


@pytest.mark.parametrize("extension", [True, False])
async def test_vectors_find_the_nearest_exactly_with_pgvector_and_without(
    library: Library, embedder: Embedder, *, extension: bool
) -> None:
    document = await library.read(MANUAL, embedder=embedder)
    if not extension:
        await library.world.execute("DROP EXTENSION vector")
    (embedding,) = await embedder.embed(["places in the garage"])
    async with library.database.statement() as connection:
        assert await has_vector_extension(connection) is extension
        found = await search_by_vectors(
            connection,
            organization_id=library.world.organization_id,
            document_ids=[document],
            embedding=embedding,
            embedding_model="words-1",
            limit=4,
            extension=extension,
        )
    assert found[0].text.startswith(TOPICS["parking"])
    assert len(found) == 4


@pytest.mark.parametrize("extension", [True, False])
async def test_vectors_of_another_model_or_length_are_not_compared(
    library: Library, embedder: Embedder, *, extension: bool
) -> None:
    await library.read(MANUAL, embedder=embedder)
    await library.world.execute("UPDATE chunks SET embedding_model = 'other' WHERE ordinal = 0")
    await library.world.execute("UPDATE chunks SET embedding = '{1}' WHERE ordinal = 1")
    await library.world.execute("UPDATE chunks SET embedding = NULL, embedding_model = NULL WHERE ordinal = 2")
    (document,) = await library.world.rows("SELECT id FROM documents")
    (embedding,) = await embedder.embed(["anything"])
    async with library.database.statement() as connection:
        found = await search_by_vectors(
            connection,
            organization_id=library.world.organization_id,
            document_ids=[document.id],
            embedding=embedding,
            embedding_model="words-1",
            limit=9,
            extension=extension,
        )
    assert [chunk.ordinal for chunk in found] == [3]


async def test_both_rankings_are_one(library: Library, embedder: Embedder) -> None:
    document = await library.read(MANUAL, embedder=embedder, name="Manual")
    findings = await search(library, embedder, "How much does a visit cost?", document)
    assert findings.degraded is None
    assert len(findings.passages) == 3
    best = findings.passages[0]
    assert best.text.startswith(TOPICS["price"])
    assert (best.document, best.score) == ("Manual", 1.0)
    assert [passage.score for passage in findings.passages] == sorted(
        (passage.score for passage in findings.passages), reverse=True
    )


async def test_without_an_answer_of_the_embeddings_words_alone_decide_and_it_says_so(
    library: Library, embedder: Embedder, embeddings: ScriptedLLM
) -> None:
    document = await library.read(MANUAL, embedder=embedder)
    embeddings.set_script(Script.model_validate({"rules": [{"error": {"status": 401}}]}))
    findings = await search(library, embedder, "How much does a visit cost?", document)
    assert findings.passages[0].text.startswith(TOPICS["price"])
    assert findings.degraded is not None
    assert "no vectors of the model 'words-1'" in findings.degraded


async def test_the_service_is_asked_as_configured(embeddings: ScriptedLLM, embedder: Embedder) -> None:
    await embedder.embed(["one", "two"])
    (request,) = embeddings.requests
    assert (request.path, request.api_key, request.model) == ("/v1/embeddings", "sk-embeddings", "words-1")
    assert request.body["input"] == ["one", "two"]


def test_without_a_model_there_are_no_embeddings(embeddings: ScriptedLLM) -> None:
    settings = embeddings_settings(embeddings)
    changes: dict[str, Any] = {"embeddings_model": None}
    assert Embedder.of(settings.model_copy(update=changes)) is None
