"""A turn's text while it is being generated."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response

from api_stub import schemas
from api_stub.auth import OrganizationId
from api_stub.documentation import answers
from api_stub.following import ServerSentEvents
from api_stub.reading import END, read_along
from api_stub.services import Shared
from worker.channel.text_reader import BEGINNING
from worker.storage import turn_views
from worker.storage.cancel import TurnNotFound

router = APIRouter(prefix="/v1", tags=["turns"])

LastEventId = Annotated[
    str,
    Header(
        pattern=rf"^(\d{{1,18}}-\d{{1,18}}|{END})$",
        description="Only what comes after this event; a browser's EventSource sends it by itself.",
    ),
]

_ANSWERS = answers(
    {
        200: (schemas.TextUpdate, "A stream. Each `data` is a TextUpdate, each `event` its type."),
        204: (None, "The stream is at its end: there is nothing more, and there will be nothing."),
    },
    "turn_not_found",
)
_ANSWERS[200]["content"] = {"text/event-stream": _ANSWERS[200].pop("content", {}).get("application/json", {})}


@router.get("/turns/{turn_id}/text", responses=_ANSWERS)
async def turn_text(
    services: Shared, organization_id: OrganizationId, turn_id: UUID, *, last_event_id: LastEventId = BEGINNING
) -> Response:
    """Read what the assistant says while it says it, from the beginning.

    What has been said is everything up to an event's `offset`, and its `text`; what was beyond is void. A `reset` says that
    this has happened, because the answer had to be begun anew. The last event, `end`, has the turn's status and its whole
    text: words may be missing before, never there.
    """
    async with services.database.statement() as connection:
        turn = await turn_views.get_turn(connection, organization_id=organization_id, turn_id=turn_id)
    if turn is None:
        raise TurnNotFound(turn_id)
    if last_event_id == END:
        return Response(status_code=204)
    return ServerSentEvents(read_along(services, organization_id=organization_id, turn_id=turn_id, after=last_event_id))
