"""Tools: what an agent can do, in numbered versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api_stub import requests, schemas, tool_requests
from api_stub.answers import Done, perform, respond
from api_stub.auth import OrganizationId
from api_stub.documentation import accepts, answers
from api_stub.paging import Cursor, Limit, cursor_of_time, read_time
from api_stub.problems import invalid_request
from api_stub.services import Shared
from worker.storage import tools as storage
from worker.storage.credentials import CredentialNotFound, get_credential
from worker.workflow.tool_definition import stored_form

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.workflow.tool_definition import ToolDefinition

router = APIRouter(prefix="/v1/tools", tags=["tools"])


@router.post(
    "",
    status_code=201,
    responses=answers(
        {201: (schemas.Tool, "The tool in its first version.")},
        "tool_exists",
        "idempotency_key_reused",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(tool_requests.CreateTool),
)
async def create_tool(request: Request, services: Shared, organization_id: OrganizationId) -> Response:
    """Create a tool. Name its id in `tool_uuids` of a node and the agent can call it there."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, tool_requests.CreateTool, services.settings)

    async def create(connection: AsyncConnection) -> Done:
        await _check_credential(connection, organization_id, wanted.definition)
        created = await storage.create_tool(
            connection,
            organization_id=organization_id,
            tool_id=wanted.id,
            definition=stored_form(wanted.definition),
        )
        return Done(created, 201, {"Location": f"/v1/tools/{created.id}"})

    return await perform(request, services, organization_id, body, create)


@router.get("", responses=answers({200: (schemas.ToolPage, "Newest first.")}))
async def list_tools(
    services: Shared, organization_id: OrganizationId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the organization's tools, each in its newest version."""
    after = read_time(cursor)
    async with services.database.statement() as connection:
        found = await storage.list_tools(connection, organization_id=organization_id, limit=limit, after=after)
    following = cursor_of_time(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return respond({"data": found, "next_cursor": following})


@router.get(
    "/{tool_id}", responses=answers({200: (schemas.Tool, "The tool in the version asked for.")}, "tool_not_found")
)
async def get_tool(
    services: Shared,
    organization_id: OrganizationId,
    tool_id: UUID,
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="The number of a version; without it, the newest.")
    ] = None,
) -> Response:
    """Read a tool in one of its versions."""
    async with services.database.statement() as connection:
        found = await storage.get_tool(connection, organization_id=organization_id, tool_id=tool_id, version=version)
    return respond(found)


@router.put(
    "/{tool_id}",
    responses=answers(
        {
            200: (schemas.Tool, "The definition equals the newest version, which stays."),
            201: (schemas.Tool, "The definition was stored as the next version."),
        },
        "tool_not_found",
        body=True,
    ),
    openapi_extra=accepts(tool_requests.PutTool, keyed=False),
)
async def put_tool(request: Request, services: Shared, organization_id: OrganizationId, tool_id: UUID) -> Response:
    """Give a tool its next version. Workflow definitions that exist keep theirs, unless they ask for the latest."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, tool_requests.PutTool, services.settings)
    async with services.database.transaction() as connection:
        await _check_credential(connection, organization_id, wanted.definition)
        stored = await storage.put_tool(
            connection, organization_id=organization_id, tool_id=tool_id, definition=stored_form(wanted.definition)
        )
        tool = await storage.get_tool(connection, organization_id=organization_id, tool_id=tool_id)
    return respond(tool, 201 if stored.created else 200)


@router.delete("/{tool_id}", status_code=204, responses=answers({204: (None, "It is deleted.")}, "tool_not_found"))
async def delete_tool(services: Shared, organization_id: OrganizationId, tool_id: UUID) -> Response:
    """Delete a tool. Workflow definitions that use it go on as before; new ones cannot use it."""
    async with services.database.statement() as connection:
        await storage.delete_tool(connection, organization_id=organization_id, tool_id=tool_id)
    return Response(status_code=204)


async def _check_credential(connection: AsyncConnection, organization_id: UUID, definition: ToolDefinition) -> None:
    """A misspelt name is found now and not in the middle of a conversation."""
    name = getattr(definition, "credential", None)
    if name is None:
        return
    try:
        await get_credential(connection, organization_id=organization_id, name=name)
    except CredentialNotFound as error:
        raise invalid_request(
            [
                {
                    "in": "body",
                    "pointer": "/definition/credential",
                    "message": str(error),
                    "accepted": "The name of a stored credential (`/v1/credentials`).",
                }
            ]
        ) from None
