"""Turns: enqueued, read, waited for."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api_stub import requests, schemas
from api_stub.answers import Done, accepted, perform, respond
from api_stub.auth import OrganizationId, OrganizationLimits
from api_stub.documentation import accepts, answers
from api_stub.following import MAX_WAIT_SECONDS, wait_for_turn
from api_stub.paging import Cursor, Limit, cursor_of_place, read_place
from api_stub.services import Shared
from worker.storage import enqueue as storage
from worker.storage import second_message, session_views, turn_views
from worker.storage.cancel import TurnNotFound
from worker.storage.limits import check_enqueue
from worker.storage.schedule import schedule_turn
from worker.storage.session_lock import SessionNotFound
from worker.telemetry.tracing import trace_context

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1", tags=["turns"])


@router.post(
    "/sessions/{session_id}/turns",
    status_code=202,
    responses=answers(
        {202: (schemas.Turn, "The turn is stored at the end of the session's line and will be answered.")},
        "session_not_found",
        "session_ended",
        "session_busy",
        "revision_conflict",
        "limit_reached",
        "scheduled_too_far_ahead",
        "idempotency_key_reused",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(requests.EnqueueTurn),
)
async def enqueue_turn(
    request: Request, services: Shared, organization_id: OrganizationId, limits: OrganizationLimits, session_id: UUID
) -> Response:
    """Enqueue what the user said. Turns of a session are answered one after the other, in the order of this call.

    While one is pending or running, `on_busy` says what a further message does. With `not_before`, the turn is `scheduled`
    and takes its place in line when its time comes; until then it holds nothing up, and it may be cancelled.
    """
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, requests.EnqueueTurn, services.settings)

    async def enqueue(connection: AsyncConnection) -> Done:
        await check_enqueue(connection, organization_id=organization_id, limits=limits)
        turn = await storage.enqueue_turn(
            connection,
            organization_id=organization_id,
            session_id=session_id,
            user_messages=wanted.user_messages,
            external_id=wanted.external_id,
            metadata=wanted.metadata,
            on_busy=wanted.on_busy,
            expected_revision=wanted.expected_revision,
            priority=wanted.priority,
            trace_context=trace_context(request.headers),
        )
        view = turn_views.enqueued_turn(
            turn,
            organization_id=organization_id,
            user_messages=wanted.user_messages,
            external_id=wanted.external_id,
            metadata=wanted.metadata,
            priority=wanted.priority,
        )
        return accepted(turn, view)

    async def take_message(connection: AsyncConnection) -> Done:
        await check_enqueue(connection, organization_id=organization_id, limits=limits)
        turn = await second_message.take_message(
            connection,
            organization_id=organization_id,
            session_id=session_id,
            user_messages=wanted.user_messages,
            on_busy=wanted.on_busy,
            external_id=wanted.external_id,
            metadata=wanted.metadata,
            expected_revision=wanted.expected_revision,
            priority=wanted.priority,
            trace_context=trace_context(request.headers),
        )
        return accepted(
            turn, await turn_views.read_turn(connection, organization_id=organization_id, turn_id=turn.turn_id)
        )

    async def schedule(connection: AsyncConnection, not_before: datetime) -> Done:
        await check_enqueue(connection, organization_id=organization_id, limits=limits)
        turn = await schedule_turn(
            connection,
            organization_id=organization_id,
            session_id=session_id,
            turn=storage.NewTurn(
                user_messages=[message.to_json() for message in wanted.user_messages],
                external_id=wanted.external_id,
                metadata=wanted.metadata,
                priority=wanted.priority,
                trace_context=trace_context(request.headers),
            ),
            not_before=not_before,
            horizon_seconds=services.settings.schedule_horizon_days * 86_400,
            expected_revision=wanted.expected_revision,
        )
        view = await turn_views.read_turn(connection, organization_id=organization_id, turn_id=turn.turn_id)
        return Done(view, 202, {"Location": f"/v1/turns/{turn.turn_id}"}, events=turn.events)

    if wanted.not_before is not None:
        return await perform(request, services, organization_id, body, partial(schedule, not_before=wanted.not_before))
    # Nearly every message takes this way of one statement. Which policy a session has by itself only the database knows.
    if wanted.on_busy in (None, "enqueue"):
        one_statement = not limits.restrict_enqueueing
        with suppress(storage.OtherPolicyApplies):
            return await perform(request, services, organization_id, body, enqueue, one_statement=one_statement)
    return await perform(request, services, organization_id, body, take_message)


@router.get(
    "/sessions/{session_id}/turns",
    responses=answers(
        {200: (schemas.TurnPage, "In the order of the session's line; then those that have no place in it.")},
        "session_not_found",
    ),
)
async def list_turns(
    services: Shared, organization_id: OrganizationId, session_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List a session's turns."""
    after = read_place(cursor)
    async with services.database.statement() as connection:
        found = await turn_views.list_turns(
            connection, organization_id=organization_id, session_id=session_id, limit=limit, after=after
        )
        if found:
            revision = found[-1].revision
        else:
            session = await session_views.get_session(
                connection, organization_id=organization_id, session_id=session_id
            )
            if session is None:
                raise SessionNotFound(session_id)
            revision = session.revision
    following = cursor_of_place(found[-1].position, found[-1].id) if len(found) == limit else None
    return respond({"data": found, "next_cursor": following, "revision": revision})


@router.get("/turns/{turn_id}", responses=answers({200: (schemas.Turn, "The turn as it is now.")}, "turn_not_found"))
async def get_turn(
    services: Shared,
    organization_id: OrganizationId,
    turn_id: UUID,
    wait: Annotated[
        float,
        Query(
            ge=0,
            allow_inf_nan=False,
            description="Answer only when the turn has taken its final status, or after so many seconds; "
            f"{MAX_WAIT_SECONDS:.0f} at most.",
        ),
    ] = 0,
) -> Response:
    """Read a turn, at once or when it is over."""
    turn = await wait_for_turn(services, organization_id=organization_id, turn_id=turn_id, seconds=wait)
    if turn is None:
        raise TurnNotFound(turn_id)
    return respond(turn)
