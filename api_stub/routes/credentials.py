"""Credentials: what tools send to other servers to prove who is asking. Written here, and never shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from api_stub import requests, schemas, tool_requests
from api_stub.answers import Done, perform, respond
from api_stub.auth import OrganizationId
from api_stub.documentation import accepts, answers
from api_stub.paging import Cursor, Limit, cursor_of_name, read_name
from api_stub.services import Shared
from api_stub.tool_requests import NamedCredential
from worker.storage import credentials as storage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1/credentials", tags=["credentials"])


@router.post(
    "",
    status_code=201,
    responses=answers(
        {201: (schemas.Credential, "The credential, without what is secret in it.")},
        "credential_exists",
        "idempotency_key_reused",
        "secret_key_missing",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(tool_requests.CreateCredential),
)
async def create_credential(request: Request, services: Shared, organization_id: OrganizationId) -> Response:
    """Store a credential. Tools refer to it by its name."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, tool_requests.CreateCredential, services.settings)

    async def create(connection: AsyncConnection) -> Done:
        created = await storage.create_credential(
            connection,
            services.vault,
            organization_id=organization_id,
            name=wanted.name,
            credential=wanted.credential,
        )
        return Done(created, 201, {"Location": f"/v1/credentials/{wanted.name}"})

    return await perform(request, services, organization_id, body, create, one_statement=True)


@router.get("", responses=answers({200: (schemas.CredentialPage, "In the order of their names.")}))
async def list_credentials(
    services: Shared, organization_id: OrganizationId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the organization's credentials, without what is secret in them."""
    after = read_name(cursor)
    async with services.database.statement() as connection:
        found = await storage.list_credentials(connection, organization_id=organization_id, limit=limit, after=after)
    following = cursor_of_name(found[-1].name) if len(found) == limit else None
    return respond({"data": found, "next_cursor": following})


@router.get("/{name}", responses=answers({200: (schemas.Credential, "The credential.")}, "credential_not_found"))
async def get_credential(services: Shared, organization_id: OrganizationId, name: NamedCredential) -> Response:
    """Read what may be shown of a credential."""
    async with services.database.statement() as connection:
        found = await storage.get_credential(connection, organization_id=organization_id, name=name)
    return respond(found)


@router.put(
    "/{name}",
    responses=answers(
        {200: (schemas.Credential, "The new credential.")}, "credential_not_found", "secret_key_missing", body=True
    ),
    openapi_extra=accepts(tool_requests.PutCredential, keyed=False),
)
async def put_credential(
    request: Request, services: Shared, organization_id: OrganizationId, name: NamedCredential
) -> Response:
    """Replace a credential. Calls of tools that begin from now on send the new one."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, tool_requests.PutCredential, services.settings)
    async with services.database.statement() as connection:
        replaced = await storage.replace_credential(
            connection, services.vault, organization_id=organization_id, name=name, credential=wanted.credential
        )
    return respond(replaced)


@router.delete("/{name}", status_code=204, responses=answers({204: (None, "It is forgotten.")}, "credential_not_found"))
async def delete_credential(services: Shared, organization_id: OrganizationId, name: NamedCredential) -> Response:
    """Forget a credential. Calls of tools that name it fail from now on."""
    async with services.database.statement() as connection:
        await storage.delete_credential(connection, organization_id=organization_id, name=name)
    return Response(status_code=204)
