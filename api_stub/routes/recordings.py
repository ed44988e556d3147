"""Recordings: what is said in them, for text conversations of agents that were made for voice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from api_stub import recording_requests, requests, schemas
from api_stub.answers import Done, perform, respond
from api_stub.auth import OrganizationId
from api_stub.documentation import accepts, answers
from api_stub.paging import Cursor, Limit, cursor_of_name, read_name
from api_stub.recording_requests import RecordingId
from api_stub.services import Shared
from worker.storage import recordings as storage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1/recordings", tags=["recordings"])


@router.post(
    "",
    status_code=201,
    responses=answers(
        {201: (schemas.Recording, "The recording.")},
        "recording_exists",
        "idempotency_key_reused",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(recording_requests.CreateRecording),
)
async def create_recording(request: Request, services: Shared, organization_id: OrganizationId) -> Response:
    """Register a recording. Turns that begin from now on know it."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, recording_requests.CreateRecording, services.settings)

    async def create(connection: AsyncConnection) -> Done:
        created = await storage.create_recording(
            connection,
            organization_id=organization_id,
            recording_id=wanted.id,
            transcript=wanted.transcript,
            name=wanted.name,
            url=wanted.url,
            metadata=wanted.metadata,
        )
        return Done(created, 201, {"Location": f"/v1/recordings/{wanted.id}"})

    return await perform(request, services, organization_id, body, create, one_statement=True)


@router.get("", responses=answers({200: (schemas.RecordingPage, "In the order of their ids.")}))
async def list_recordings(
    services: Shared, organization_id: OrganizationId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the organization's recordings."""
    after = read_name(cursor)
    async with services.database.statement() as connection:
        found = await storage.list_recordings(connection, organization_id=organization_id, limit=limit, after=after)
    following = cursor_of_name(found[-1].id) if len(found) == limit else None
    return respond({"data": found, "next_cursor": following})


@router.get("/{recording_id}", responses=answers({200: (schemas.Recording, "The recording.")}, "recording_not_found"))
async def get_recording(services: Shared, organization_id: OrganizationId, recording_id: RecordingId) -> Response:
    """Read a recording."""
    async with services.database.statement() as connection:
        found = await storage.get_recording(connection, organization_id=organization_id, recording_id=recording_id)
    return respond(found)


@router.delete(
    "/{recording_id}", status_code=204, responses=answers({204: (None, "It is forgotten.")}, "recording_not_found")
)
async def delete_recording(services: Shared, organization_id: OrganizationId, recording_id: RecordingId) -> Response:
    """Forget a recording. Conversations that refer to it go on as if it had never been registered."""
    async with services.database.statement() as connection:
        await storage.delete_recording(connection, organization_id=organization_id, recording_id=recording_id)
    return Response(status_code=204)
