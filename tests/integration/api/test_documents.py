"""Documents over HTTP: uploaded, read, waited for, deleted. Their text is read by workers, which the tests play."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.pdf import pdf
from tests.world import definition
from worker.channel.document_envelope import DOCUMENT_READY, DocumentEnvelope
from worker.channel.publisher import Publisher
from worker.storage.ingestions import Ingestion, begin_chunks, claim_document, finish_document

if TYPE_CHECKING:
    import httpx

    from tests.api import Bell, Tenant

DOCUMENTS = "/v1/documents"


async def upload(
    api: Tenant, content: bytes = b"# Hours", filename: str = "hours.md", media_type: str = "text/markdown", **form: Any
) -> httpx.Response:
    return await api.http.post(DOCUMENTS, files={"file": (filename, content, media_type)}, data=form)


async def finish(api: Tenant) -> Ingestion:
    """Play a worker that reads the next document."""
    async with api.world.database.transaction() as connection:
        claimed = await claim_document(connection, claimed_by="worker", lease_seconds=10)
        assert claimed is not None
        await begin_chunks(connection, claimed.ingestion, total=0)
        await finish_document(connection, claimed.ingestion)
    return claimed.ingestion


async def test_an_upload_is_stored_and_rung_for(api: Tenant, bell: Bell) -> None:
    uploaded = await upload(api, name="Opening hours", language="english", metadata='{"source": "web"}')
    assert uploaded.status_code == 202
    document = uploaded.json()
    assert document == await api.get(uploaded.headers["Location"])
    expected = {
        "name": "Opening hours",
        "media_type": "text/markdown",
        "language": "english",
        "metadata": {"source": "web"},
        "size_bytes": 7,
        "status": "pending",
        "error": None,
        "chunks_total": None,
        "chunks_done": 0,
    }
    assert document | expected == document
    await api.services.dispatch.drain()
    assert bell.rung == [UUID(document["id"])]


async def test_without_a_name_it_has_that_of_its_file(api: Tenant) -> None:
    document = (await upload(api, pdf(["Nine."]), "C:\\files\\hours.pdf", "application/octet-stream")).json()
    assert (document["name"], document["media_type"], document["language"]) == (
        "hours.pdf",
        "application/pdf",
        "simple",
    )


async def test_an_upload_can_be_repeated_although_each_form_has_a_boundary_of_its_own(api: Tenant) -> None:
    headers = {"Idempotency-Key": "once"}
    files = {"file": ("hours.md", b"# Hours", "text/markdown")}
    first, second = [await api.http.post(DOCUMENTS, files=files, headers=headers) for _ in range(2)]
    assert first.request.headers["content-type"] != second.request.headers["content-type"]
    assert second.content == first.content
    other = {"file": ("hours.md", b"# Other", "text/markdown")}
    refused = await api.http.post(DOCUMENTS, files=other, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await api.get(DOCUMENTS))["data"]) == 1


async def test_waiting_for_a_document_ends_as_soon_as_it_is_ready(served: Tenant, redis_url: str) -> None:
    document = (await upload(served)).json()
    waiting = asyncio.create_task(served.get(f"{DOCUMENTS}/{document['id']}", wait=30))
    await served.ears.listening(document["id"])
    ingestion = await finish(served)
    publisher = Publisher(redis_url)
    await publisher.announce(DocumentEnvelope(ingestion.organization_id, ingestion.document_id, DOCUMENT_READY))
    async with asyncio.timeout(5):
        assert (await waiting)["status"] == "ready"
    await publisher.close()


async def test_documents_are_listed_newest_first_page_by_page(api: Tenant) -> None:
    for number in range(3):
        await upload(api, name=f"D{number}")
    first = await api.get(DOCUMENTS, limit=2)
    second = await api.get(DOCUMENTS, limit=2, cursor=first["next_cursor"])
    assert [item["name"] for item in first["data"] + second["data"]] == ["D2", "D1", "D0"]


async def test_a_deleted_document_is_gone(api: Tenant) -> None:
    path = (await upload(api)).headers["Location"]
    await finish(api)
    assert (await api.http.delete(path)).status_code == 204
    for method in ("GET", "DELETE"):
        missing = await api.http.request(method, path)
        assert (missing.status_code, missing.json()["code"]) == (404, "document_not_found")


async def test_an_organization_sees_and_deletes_only_its_own(api: Tenant, other: Tenant) -> None:
    path = (await upload(api)).headers["Location"]
    assert (await other.http.get(path)).status_code == 404
    assert (await other.http.delete(path)).status_code == 404
    assert (await other.get(DOCUMENTS))["data"] == []
    assert (await api.get(path))["status"] == "pending"


async def test_a_document_of_a_kind_that_cannot_be_read_is_refused(api: Tenant) -> None:
    for content, filename, media_type in [
        (b"PK\x03\x04\0", "a.docx", "application/octet-stream"),
        (b"words", "a.png", "image/png"),
        (b"words", "a.pdf", "application/pdf"),
    ]:
        refused = await upload(api, content, filename, media_type)
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_document")
    assert (await api.get(DOCUMENTS))["data"] == []


async def test_a_language_the_database_does_not_know_is_refused_with_those_it_knows(api: Tenant) -> None:
    refused = await upload(api, language="klingon")
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_language")
    assert "german" in refused.json()["detail"]


@pytest.mark.parametrize("metadata", ["{", "[" * 50_000])
async def test_everything_that_is_wrong_is_told_at_once(api: Tenant, metadata: str) -> None:
    refused = await upload(api, b"", name="a\nb", language="No such", metadata=metadata, extra="1")
    assert refused.status_code == 422
    pointers = {error["pointer"] for error in refused.json()["errors"]}
    assert pointers == {"/file", "/name", "/language", "/metadata", "/extra"}


async def test_what_is_no_form_with_a_file_in_it_is_refused(api: Tenant) -> None:
    as_json = await api.http.post(DOCUMENTS, json={"file": "words"})
    assert (as_json.status_code, as_json.json()["code"]) == (415, "unsupported_media_type")
    for content, header in [(b"words", "multipart/form-data"), (b"words", "multipart/form-data; boundary=x")]:
        broken = await api.http.post(DOCUMENTS, content=content, headers={"Content-Type": header})
        assert broken.status_code in {400, 422}
        assert broken.json()["code"] in {"malformed_form", "invalid_request"}
    empty = await api.http.post(DOCUMENTS, files={"other": ("a", b"b", "text/plain")})
    assert {error["pointer"] for error in empty.json()["errors"]} == {"/file", "/other"}


@pytest.mark.parametrize("excess", [1, 200_000])
async def test_a_document_that_is_too_large_is_refused(api: Tenant, excess: int) -> None:
    limit = api.services.settings.max_document_bytes
    refused = await upload(api, b"x" * (limit + excess), "a.txt", "text/plain")
    assert (refused.status_code, refused.json()["code"]) == (413, "document_too_large")


async def test_waiting_for_an_unknown_document_is_a_404_at_once(api: Tenant) -> None:
    missing = await api.http.get(f"{DOCUMENTS}/{uuid4()}", params={"wait": 30})
    assert missing.status_code == 404


async def test_a_definition_may_name_only_documents_that_the_organization_has(api: Tenant, other: Tenant) -> None:
    ours, theirs = (await upload(api)).json()["id"], (await upload(other)).json()["id"]
    document = definition()
    document["graph"]["nodes"][0]["data"]["document_uuids"] = [ours, theirs, "nonsense"]
    refused = await api.http.post("/v1/workflows", json={"name": "Desk", "definition": document})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_workflow")
    places = [(error["id"], error["field"]) for error in refused.json()["errors"]]
    assert places == [("start", "data.document_uuids.1"), ("start", "data.document_uuids.2")]
    document["graph"]["nodes"][0]["data"]["document_uuids"] = [ours]
    await api.made(api.http.post("/v1/workflows", json={"name": "Desk", "definition": document}))
