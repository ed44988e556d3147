"""Changing the course of a conversation: what runs is called off."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api_stub import control_requests, requests, schemas
from api_stub.answers import Done, perform
from api_stub.auth import OrganizationId
from api_stub.documentation import accepts, answers
from api_stub.services import Shared
from worker.storage import cancel as cancellation
from worker.storage import views

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1", tags=["control"])


@router.post(
    "/turns/{turn_id}/cancel",
    responses=answers(
        {
            200: (
                schemas.Turn,
                "The turn, which is over: `cancelled` if nothing of it will be stored any more, or as it ended before.",
            )
        },
        "turn_not_found",
        "revision_conflict",
        "idempotency_key_reused",
        body=True,
    ),
    openapi_extra=accepts(control_requests.CancelTurn, required=False),
)
async def cancel_turn(request: Request, services: Shared, organization_id: OrganizationId, turn_id: UUID) -> Response:
    """Call a turn off, whether it waits or runs. One that is over stays as it is: look at the `status` of the answer.

    The answer `cancelled` is final: no later write of the attempt that was running can land. Its worker stops within about a
    second. What was used until then stays in the usage.
    """
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, control_requests.CancelTurn, services.settings)

    async def cancel(connection: AsyncConnection) -> Done:
        events = await cancellation.cancel_turn(
            connection,
            organization_id=organization_id,
            turn_id=turn_id,
            reason=wanted.reason,
            expected_revision=wanted.expected_revision,
        )
        turn = await views.get_turn(connection, organization_id=organization_id, turn_id=turn_id)
        return Done(turn, events=events)

    return await perform(request, services, organization_id, body, cancel)
