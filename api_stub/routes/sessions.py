"""Sessions: conversations with an agent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator

from api_stub import requests, schemas
from api_stub.answers import Done, members, perform, respond
from api_stub.auth import OrganizationId, OrganizationLimits, TraceUrlTemplate
from api_stub.documentation import accepts, answers
from api_stub.paging import Cursor, Limit, cursor_of_time, read_time
from api_stub.services import Shared
from worker.storage import session_views, turn_views
from worker.storage import sessions as storage
from worker.storage.erasure import erase_session as erase
from worker.storage.limits import check_enqueue
from worker.storage.session_lock import SessionNotFound
from worker.storage.transcript import read_transcript
from worker.storage.webhook_deliveries import session_webhook_deliveries
from worker.telemetry.tracing import trace_context, trace_url
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

router = APIRouter(prefix="/v1", tags=["sessions"])


@router.post(
    "/workflows/{workflow_id}/sessions",
    status_code=201,
    responses=answers(
        {201: (schemas.CreatedSession, "The session; if the agent speaks first, with its opening turn.")},
        "workflow_not_found",
        "idempotency_key_reused",
        "limit_reached",
        body=True,
        located=True,
    ),
    openapi_extra=accepts(requests.CreateSession, required=False),
)
async def create_session(
    request: Request, services: Shared, organization_id: OrganizationId, limits: OrganizationLimits, workflow_id: UUID
) -> Response:
    """Begin a conversation on the workflow's newest definition, which it keeps to its end."""
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, requests.CreateSession, services.settings)

    async def create(connection: AsyncConnection) -> Done:
        if wanted.begins_with == "agent":
            await check_enqueue(connection, organization_id=organization_id, limits=limits)
        created = await storage.create_session(
            connection,
            organization_id=organization_id,
            workflow_id=workflow_id,
            initial_context=wanted.initial_context,
            external_id=wanted.external_id,
            metadata=wanted.metadata,
            opening=wanted.begins_with == "agent",
            trace_context=trace_context(request.headers),
            on_busy=wanted.on_busy,
            merge_window_seconds=wanted.merge_window_seconds,
        )
        session = await session_views.get_session(
            connection, organization_id=organization_id, session_id=created.session_id
        )
        turn = created.opening_turn
        return Done(
            {
                **members(session),
                "opening_turn": turn and turn_views.enqueued_turn(turn, organization_id=organization_id, opening=True),
            },
            201,
            {"Location": f"/v1/sessions/{created.session_id}"},
            events=turn.events if turn else (),
            ring=[TurnReference(organization_id, turn.turn_id)] if turn and turn.rung else (),
            enqueued=turn,
        )

    return await perform(request, services, organization_id, body, create)


@router.get("/sessions", responses=answers({200: (schemas.SessionPage, "Newest first.")}))
async def list_sessions(
    services: Shared,
    organization_id: OrganizationId,
    trace_url_template: TraceUrlTemplate,
    *,
    state: Literal["running", "completed"] | None = None,
    workflow_id: UUID | None = None,
    external_id: Annotated[
        Annotated[str, AfterValidator(requests.one_line)] | None,
        Query(min_length=1, max_length=requests.MAX_NAME_CHARS),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the organization's sessions that fit every filter given."""
    after = read_time(cursor)
    async with services.database.statement() as connection:
        found = await session_views.list_sessions(
            connection,
            organization_id=organization_id,
            limit=limit,
            state=state,
            workflow_id=workflow_id,
            external_id=external_id,
            after=after,
        )
    following = cursor_of_time(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return respond({"data": [_shown(each, trace_url_template) for each in found], "next_cursor": following})


@router.get("/sessions/{session_id}", responses=answers({200: (schemas.Session, "The session.")}, "session_not_found"))
async def get_session(
    services: Shared, organization_id: OrganizationId, trace_url_template: TraceUrlTemplate, session_id: UUID
) -> Response:
    """Read a session."""
    async with services.database.statement() as connection:
        session = await session_views.get_session(connection, organization_id=organization_id, session_id=session_id)
    if session is None:
        raise SessionNotFound(session_id)
    return respond(_shown(session, trace_url_template))


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    responses=answers({204: (None, "Nothing of it is left.")}, "session_not_found"),
)
async def erase_session(services: Shared, organization_id: OrganizationId, session_id: UUID) -> Response:
    """Erase a session with everything that was said in it, at once and for good. What runs in it is cancelled.

    Its turns, messages and events are gone, and so are the answers kept for repeated requests about it. The counts of tokens
    stay in the usage. A session that was forked from it stays as it is.
    """
    async with services.database.transaction() as connection:
        erased = await erase(connection, organization_id=organization_id, session_id=session_id)
    services.dispatch.after_commit(erased.events)
    await services.texts.erase(organization_id=organization_id, turn_ids=erased.turn_ids)
    return Response(status_code=204)


@router.get(
    "/sessions/{session_id}/transcript",
    responses=answers({200: (schemas.Transcript, "What was said so far.")}, "session_not_found"),
)
async def get_transcript(services: Shared, organization_id: OrganizationId, session_id: UUID) -> Response:
    """Read what was said in a session, as a person would read it."""
    async with services.database.statement() as connection:
        if await session_views.get_session(connection, organization_id=organization_id, session_id=session_id) is None:
            raise SessionNotFound(session_id)
        said = await read_transcript(connection, organization_id=organization_id, session_id=session_id)
    return respond({"session_id": session_id, "data": said})


@router.get(
    "/sessions/{session_id}/webhook-deliveries",
    responses=answers(
        {200: (schemas.WebhookDeliveries, "The deliveries tried so far; none before the session's end.")},
        "session_not_found",
    ),
)
async def list_webhook_deliveries(services: Shared, organization_id: OrganizationId, session_id: UUID) -> Response:
    """Read how the webhooks fare that are told of a session's end."""
    async with services.database.statement() as connection:
        found = await session_webhook_deliveries(connection, organization_id=organization_id, session_id=session_id)
    if found is None:
        raise SessionNotFound(session_id)
    return respond({"session_id": session_id, "data": found})


@router.post(
    "/sessions/{session_id}/end",
    responses=answers(
        {
            200: (schemas.Session, "The session, which is over."),
            202: (
                schemas.Session,
                "The session, which takes no more turns and is over as soon as its running turn is.",
            ),
        },
        "session_not_found",
        "revision_conflict",
        "idempotency_key_reused",
        body=True,
    ),
    openapi_extra=accepts(requests.EndSession, required=False),
)
async def end_session(
    request: Request, services: Shared, organization_id: OrganizationId, session_id: UUID
) -> Response:
    """End a session. Its scheduled, pending and running turns are cancelled, or with `wait` all but the running one.

    A session that is over already stays as it is.
    """
    body = await requests.read_body(request, services.settings.max_body_bytes)
    wanted = requests.parse(request, body, requests.EndSession, services.settings)

    async def end(connection: AsyncConnection) -> Done:
        ended = await storage.end_session(
            connection,
            organization_id=organization_id,
            session_id=session_id,
            reason=wanted.reason,
            disposition=wanted.disposition,
            wait=wanted.wait,
            expected_revision=wanted.expected_revision,
        )
        session = await session_views.get_session(connection, organization_id=organization_id, session_id=session_id)
        return Done(session, 200 if ended.ended else 202, events=ended.events)

    return await perform(request, services, organization_id, body, end)


def _shown(session: session_views.SessionView, trace_url_template: str | None) -> session_views.SessionView:
    """A session as it is read: what it has learned includes where its trace can be looked at, if there is such a place."""
    url = trace_url(trace_url_template, session.id)
    return session if url is None else replace(session, gathered_context={**session.gathered_context, "trace_url": url})
