"""Documents of the knowledge base: uploaded, read, waited for, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api_stub import document_requests, schemas
from api_stub.answers import Done, perform, respond
from api_stub.auth import OrganizationId
from api_stub.documentation import accepts, answers
from api_stub.following import MAX_WAIT_SECONDS, wait_for_document
from api_stub.paging import Cursor, Limit, cursor_of_time, read_time
from api_stub.services import Shared
from worker.storage import documents as storage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1/documents", tags=["documents"])


@router.post(
    "",
    status_code=202,
    responses=answers(
        {202: (schemas.Document, "The document is stored and will be read.")},
        "malformed_form",
        "document_too_large",
        "unsupported_media_type",
        "unsupported_document",
        "unknown_language",
        "idempotency_key_reused",
        located=True,
    ),
    openapi_extra=accepts(document_requests.UploadDocument, media_type=document_requests.MEDIA_TYPE),
)
async def upload_document(request: Request, services: Shared, organization_id: OrganizationId) -> Response:
    """Upload a document. A worker reads it and cuts it into chunks; agents find them once it is `ready`."""
    upload = await document_requests.read_upload(request, limit=services.settings.max_document_bytes)

    async def create(connection: AsyncConnection) -> Done:
        created = await storage.create_document(
            connection,
            organization_id=organization_id,
            name=upload.document.name,
            media_type=upload.type.media_type,
            charset=upload.type.charset,
            language=upload.document.language,
            metadata=upload.document.metadata,
            content=upload.document.file,
        )
        return Done(
            created,
            202,
            {"Location": f"/v1/documents/{created.id}"},
            uploaded=storage.DocumentReference(organization_id, created.id),
        )

    return await perform(request, services, organization_id, upload.fingerprint, create, one_statement=True)


@router.get("", responses=answers({200: (schemas.DocumentPage, "Newest first.")}))
async def list_documents(
    services: Shared, organization_id: OrganizationId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the organization's documents."""
    after = read_time(cursor)
    async with services.database.statement() as connection:
        found = await storage.list_documents(connection, organization_id=organization_id, limit=limit, after=after)
    following = cursor_of_time(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return respond({"data": found, "next_cursor": following})


@router.get(
    "/{document_id}", responses=answers({200: (schemas.Document, "The document as it is now.")}, "document_not_found")
)
async def get_document(
    services: Shared,
    organization_id: OrganizationId,
    document_id: UUID,
    wait: Annotated[
        float,
        Query(
            ge=0,
            allow_inf_nan=False,
            description="Answer only when the document is ready or failed, or after so many seconds; "
            f"{MAX_WAIT_SECONDS:.0f} at most.",
        ),
    ] = 0,
) -> Response:
    """Read a document, at once or when it is ready or failed."""
    found = await wait_for_document(services, organization_id=organization_id, document_id=document_id, seconds=wait)
    return respond(found)


@router.delete(
    "/{document_id}", status_code=204, responses=answers({204: (None, "It is deleted.")}, "document_not_found")
)
async def delete_document(services: Shared, organization_id: OrganizationId, document_id: UUID) -> Response:
    """Delete a document with its chunks. Agents whose nodes name it find nothing of it from now on."""
    async with services.database.statement() as connection:
        await storage.delete_document(connection, organization_id=organization_id, document_id=document_id)
    return Response(status_code=204)
