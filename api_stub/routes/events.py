"""The numbered event log of a session, or of one of its turns: page by page, or as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from api_stub import schemas
from api_stub.answers import respond
from api_stub.auth import OrganizationId
from api_stub.documentation import answers
from api_stub.following import PAGE_SIZE, ServerSentEvents, follow_log, show_event
from api_stub.paging import Limit
from api_stub.services import Shared
from worker.storage import event_log
from worker.storage.cancel import TurnNotFound
from worker.storage.session_lock import SessionNotFound

if TYPE_CHECKING:
    from api_stub.following import ReadLog
    from api_stub.services import Services
    from worker.errors import TurnWorkerError

router = APIRouter(prefix="/v1", tags=["events"])

_MAX_SEQUENCE = 2**63 - 1

After = Annotated[int, Query(ge=0, le=_MAX_SEQUENCE, description="Only events with higher numbers than this.")]
LastEventId = Annotated[
    int | None,
    Header(ge=0, le=_MAX_SEQUENCE, description="The same for a stream; a browser's EventSource sends it by itself."),
]


def _event_answers(not_found: str) -> dict[int | str, dict[str, Any]]:
    responses = answers({200: (schemas.EventPage, "A page, or with `Accept: text/event-stream` a stream.")}, not_found)
    responses[200]["content"] = {
        "text/event-stream": {
            "schema": {"type": "string", "description": "Each `data` is an Event, each `id` its sequence."}
        }
    }
    responses[204] = {"description": "The stream is at its end: there is nothing more, and there will be nothing."}
    return responses


@router.get("/sessions/{session_id}/events", responses=_event_answers("session_not_found"))
async def session_events(
    request: Request,
    services: Shared,
    organization_id: OrganizationId,
    session_id: UUID,
    *,
    after: After = 0,
    limit: Limit = PAGE_SIZE,
    last_event_id: LastEventId = None,
) -> Response:
    """Read the events of a session, or follow them until it is over."""

    async def read(after: int, limit: int) -> event_log.EventLog | None:
        async with services.database.statement() as connection:
            return await event_log.session_events(
                connection, organization_id=organization_id, session_id=session_id, after=after, limit=limit
            )

    missing = SessionNotFound(session_id)
    return await _answer(request, services, session_id, read, missing, after=last_event_id or after, limit=limit)


@router.get("/turns/{turn_id}/events", responses=_event_answers("turn_not_found"))
async def turn_events(
    request: Request,
    services: Shared,
    organization_id: OrganizationId,
    turn_id: UUID,
    *,
    after: After = 0,
    limit: Limit = PAGE_SIZE,
    last_event_id: LastEventId = None,
) -> Response:
    """Read the events that are about one turn, or follow them until it is over."""

    async def read(after: int, limit: int) -> event_log.EventLog | None:
        async with services.database.statement() as connection:
            return await event_log.turn_events(
                connection, organization_id=organization_id, turn_id=turn_id, after=after, limit=limit
            )

    missing = TurnNotFound(turn_id)
    return await _answer(request, services, turn_id, read, missing, after=last_event_id or after, limit=limit)


async def _answer(
    request: Request,
    services: Services,
    about: UUID,
    read: ReadLog,
    missing: TurnWorkerError,
    *,
    after: int,
    limit: int,
) -> Response:
    log = await read(after, limit)
    if log is None:
        raise missing
    if "text/event-stream" not in request.headers.get("accept", ""):
        events = [show_event(event) for event in log.events]
        return respond({"data": events, "revision": log.revision, "finished": log.finished})
    if log.finished and not log.events:
        return Response(status_code=204)
    return ServerSentEvents(follow_log(services, about, read, after))
