"""Changing the course of a conversation: turns called off or tried again, the conversation taken up from an earlier turn."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from fastapi import APIRouter, Request, Response

from api_stub import control_requests, requests, schemas
from api_stub.answers import Done, accepted, perform
from api_stub.auth import OrganizationId, OrganizationLimits
from api_stub.documentation import accepts, answers
from api_stub.services import Shared
from worker.storage import cancel as cancellation
from worker.storage import session_views, turn_views
from worker.storage.fork import fork_session as fork
from worker.storage.limits import check_enqueue
from worker.storage.retry import retry_ended_turn
from worker.storage.rewind import rewind_session as rewind
from worker.telemetry.tracing import trace_context

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
        turn = await turn_views.get_turn(connection, organization_id=organization_id, turn_id=turn_id)
        return Done(turn, events=events)

    return await perform(request, services, organization_id, body, cancel)


@router.post(
    "/turns/{turn_id}/retry",
    status_code=202,
    responses=answers(
        {202: (schemas.Turn, "A new turn, at the end of the session's line, that answers what the old one did not.")},
        "turn_not_found",
        "turn_not_retryable",
        "head_moved",
        "session_ended",
        "revision_conflict",
        "limit_reached",
        "idempotency_key_reused",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(control_requests.RetryTurn, required=False),
)
async def retry_turn(
    request: Request, services: Shared, organization_id: OrganizationId, limits: OrganizationLimits, turn_id: UUID
) -> Response:
    """Try a failed or cancelled turn once more, as a new turn; the user's message is not said a second time.

    It goes on with the tool calls that the old turn had finished. A call that it makes again carries the same idempotency key.
    """
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, control_requests.RetryTurn, services.settings)

    async def retry(connection: AsyncConnection) -> Done:
        await check_enqueue(connection, organization_id=organization_id, limits=limits)
        turn = await retry_ended_turn(
            connection,
            organization_id=organization_id,
            turn_id=turn_id,
            expected_revision=wanted.expected_revision,
            trace_context=trace_context(request.headers),
        )
        return accepted(
            turn, await turn_views.read_turn(connection, organization_id=organization_id, turn_id=turn.turn_id)
        )

    return await perform(request, services, organization_id, body, retry)


@router.post(
    "/sessions/{session_id}/rewind",
    responses=answers(
        {200: (schemas.Session, "The session, whose next turn goes on from the turn named.")},
        "session_not_found",
        "turn_not_found",
        "turn_not_completed",
        "session_ended",
        "session_busy",
        "revision_conflict",
        "idempotency_key_reused",
        body=True,
    ),
    openapi_extra=accepts(control_requests.RewindSession),
)
async def rewind_session(
    request: Request, services: Shared, organization_id: OrganizationId, session_id: UUID
) -> Response:
    """Take the conversation back to an earlier turn. What came after it stays readable, as a branch of its own.

    A session that is over cannot be rewound: fork it.
    """
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, control_requests.RewindSession, services.settings)

    async def work(connection: AsyncConnection) -> Done:
        rewound = await rewind(
            connection,
            organization_id=organization_id,
            session_id=session_id,
            turn_id=wanted.turn_id,
            expected_revision=wanted.expected_revision,
        )
        session = await session_views.get_session(connection, organization_id=organization_id, session_id=session_id)
        return Done(session, events=rewound.events)

    return await perform(request, services, organization_id, body, work)


@router.post(
    "/sessions/{session_id}/fork",
    status_code=201,
    responses=answers(
        {201: (schemas.Session, "The new session.")},
        "session_not_found",
        "turn_not_found",
        "turn_not_completed",
        "revision_conflict",
        "idempotency_key_reused",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(control_requests.ForkSession, required=False),
)
async def fork_session(
    request: Request, services: Shared, organization_id: OrganizationId, session_id: UUID
) -> Response:
    """Begin a new session with all that this one had come to after one of its turns. The source may be over, and may go.

    The fork keeps the definition, the settings and the initial context of its source.
    """
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, control_requests.ForkSession, services.settings)

    async def work(connection: AsyncConnection) -> Done:
        forked_id = await fork(
            connection,
            organization_id=organization_id,
            session_id=session_id,
            turn_id=wanted.turn_id if "turn_id" in wanted.model_fields_set else "head",
            external_id=wanted.external_id,
            metadata=wanted.metadata,
            expected_revision=wanted.expected_revision,
        )
        session = await session_views.get_session(connection, organization_id=organization_id, session_id=forked_id)
        return Done(session, 201, {"Location": f"/v1/sessions/{forked_id}"})

    return await perform(request, services, organization_id, body, work)
