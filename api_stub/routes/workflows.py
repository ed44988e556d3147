"""Workflows: what an agent is, in numbered definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api_stub import requests, schemas
from api_stub.answers import Done, perform, respond
from api_stub.auth import OrganizationId
from api_stub.documentation import accepts, answers
from api_stub.model_checks import model_problems
from api_stub.paging import Cursor, Limit, cursor_of_time, read_time
from api_stub.problems import Problem
from api_stub.services import Shared
from worker.storage import workflows as storage
from worker.storage.organizations import get_settings
from worker.storage.pins import pin_tools
from worker.workflow.problem import InvalidWorkflow
from worker.workflow.validation import definition_document, examine_definition, further_problems
from worker.workflow.web_address import AllowedHosts

if TYPE_CHECKING:
    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1/workflows", tags=["workflows"])


@router.post(
    "",
    status_code=201,
    responses=answers(
        {201: (schemas.Workflow, "The workflow with its first definition.")},
        "invalid_workflow",
        "idempotency_key_reused",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(requests.CreateWorkflow),
)
async def create_workflow(request: Request, services: Shared, organization_id: OrganizationId) -> Response:
    """Create a workflow from its first definition, which is checked as a whole."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, requests.CreateWorkflow, services.settings)

    async def create(connection: AsyncConnection) -> Done:
        tool_versions = await _check(connection, organization_id, wanted.definition)
        workflow_id = await storage.create_workflow(
            connection,
            organization_id=organization_id,
            name=wanted.name,
            definition=definition_document(wanted.definition),
            tool_pins=tool_versions,
        )
        created = await storage.get_workflow(connection, organization_id=organization_id, workflow_id=workflow_id)
        return Done(created, 201, {"Location": f"/v1/workflows/{workflow_id}"})

    return await perform(request, services, organization_id, body, create)


@router.get("", responses=answers({200: (schemas.WorkflowPage, "Newest first.")}))
async def list_workflows(
    services: Shared, organization_id: OrganizationId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List the organization's workflows."""
    after = read_time(cursor)
    async with services.database.statement() as connection:
        found = await storage.list_workflows(connection, organization_id=organization_id, limit=limit, after=after)
    following = cursor_of_time(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return respond({"data": found, "next_cursor": following})


@router.get(
    "/{workflow_id}",
    responses=answers({200: (schemas.Workflow, "The workflow with the definition asked for.")}, "workflow_not_found"),
)
async def get_workflow(
    services: Shared,
    organization_id: OrganizationId,
    workflow_id: UUID,
    number: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="The number of a definition; without it, the newest.")
    ] = None,
) -> Response:
    """Read a workflow with one of its definitions."""
    async with services.database.statement() as connection:
        found = await storage.get_workflow(
            connection, organization_id=organization_id, workflow_id=workflow_id, number=number
        )
    if found is None:
        which = f"workflow {workflow_id}" if number is None else f"definition {number} of a workflow {workflow_id}"
        raise Problem("workflow_not_found", f"There is no {which}.")
    return respond(found)


@router.put(
    "/{workflow_id}",
    responses=answers(
        {
            200: (schemas.Workflow, "The definition equals the newest one, which stays."),
            201: (schemas.Workflow, "The definition was stored under the next number."),
        },
        "workflow_not_found",
        "invalid_workflow",
        body=True,
    ),
    openapi_extra=accepts(requests.PutWorkflow, keyed=False),
)
async def put_workflow(
    request: Request, services: Shared, organization_id: OrganizationId, workflow_id: UUID
) -> Response:
    """Give a workflow its next definition. Sessions that exist keep theirs; new ones take the newest."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, requests.PutWorkflow, services.settings)
    async with services.database.transaction() as connection:
        tool_versions = await _check(connection, organization_id, wanted.definition)
        stored = await storage.put_definition(
            connection,
            organization_id=organization_id,
            workflow_id=workflow_id,
            definition=definition_document(wanted.definition),
            tool_pins=tool_versions,
            name=wanted.name,
        )
        workflow = await storage.get_workflow(connection, organization_id=organization_id, workflow_id=workflow_id)
    return respond(workflow, 201 if stored.created else 200)


async def _check(connection: AsyncConnection, organization_id: UUID, wanted: dict[str, JsonValue]) -> dict[str, int]:
    """Check a definition as a whole, with what it asks of its organization. The versions of its tools, by their ids.

    Raises:
        InvalidWorkflow: It cannot be accepted; carries every problem.
    """
    settings = await get_settings(connection, organization_id=organization_id)
    definition, problems = examine_definition(wanted, allowed_hosts=AllowedHosts.of(settings.allowed_hosts))
    models = await model_problems(connection, organization_id=organization_id, definition=definition)
    pins = await pin_tools(connection, organization_id=organization_id, definition=definition)
    problems += further_problems(problems, [*models, *pins.problems])
    if problems:
        raise InvalidWorkflow(tuple(problems))
    return pins.versions
