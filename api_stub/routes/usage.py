"""What was used and what it cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api_stub import usage_schemas as schemas
from api_stub.answers import members, respond
from api_stub.auth import OrganizationId, OrganizationPrices
from api_stub.documentation import answers
from api_stub.paging import Cursor, Limit, cursor_of_text, read_text
from api_stub.problems import Problem, invalid_request
from api_stub.services import Shared
from worker.storage import usage_report as storage
from worker.storage.cancel import TurnNotFound
from worker.storage.session_lock import SessionNotFound
from worker.turns.cost import PricedUsage, priced
from worker.workflow.prices import amount_text

if TYPE_CHECKING:
    from worker.storage.usage_report import ModelTotals
    from worker.turns.cost import Cost

router = APIRouter(prefix="/v1", tags=["usage"])

_USUAL_SPAN: Final = timedelta(days=30)
_LONGEST_SPAN: Final = timedelta(days=366)


@router.get("/usage", responses=answers({200: (schemas.UsagePage, "What was used, in the order of the groups' keys.")}))
async def get_usage(
    services: Shared,
    organization_id: OrganizationId,
    prices: OrganizationPrices,
    *,
    since: Annotated[
        datetime | None,
        Query(alias="from", description="Calls from then on; without a zone, UTC. By default the 30 days before `to`."),
    ] = None,
    until: Annotated[
        datetime | None, Query(alias="to", description="Calls before then; without a zone, UTC. By default now.")
    ] = None,
    group_by: Annotated[storage.Grouping | None, Query(description="One group for each of these.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Sum up what the organization's LLM calls used and cost, in a span of at most 366 days."""
    begin, end = _span(since, until)
    after = read_text(cursor)
    async with services.database.statement() as connection:
        groups = await storage.organization_usage(
            connection,
            organization_id=organization_id,
            since=begin,
            until=end,
            group_by=group_by,
            limit=limit,
            after=after,
        )
    following = cursor_of_text(groups[-1].key or "") if len(groups) == limit else None
    return respond(
        {
            "since": begin,
            "until": end,
            "group_by": group_by,
            "data": [{"key": group.key, **usage_document(priced(group.models, prices))} for group in groups],
            "next_cursor": following,
        }
    )


@router.get(
    "/sessions/{session_id}/usage",
    responses=answers({200: (schemas.Usage, "What all its turns used.")}, "session_not_found"),
)
async def get_session_usage(
    services: Shared, organization_id: OrganizationId, prices: OrganizationPrices, session_id: UUID
) -> Response:
    """Sum up what a session's LLM calls used and cost."""
    async with services.database.statement() as connection:
        used = await storage.session_usage(connection, organization_id=organization_id, session_id=session_id)
    if used is None:
        raise SessionNotFound(session_id)
    return respond(usage_document(priced(used, prices)))


@router.get(
    "/turns/{turn_id}/usage", responses=answers({200: (schemas.Usage, "What all its attempts used.")}, "turn_not_found")
)
async def get_turn_usage(
    services: Shared, organization_id: OrganizationId, prices: OrganizationPrices, turn_id: UUID
) -> Response:
    """Sum up what a turn's LLM calls used and cost."""
    async with services.database.statement() as connection:
        used = await storage.turn_usage(connection, organization_id=organization_id, turn_id=turn_id)
    if used is None:
        raise TurnNotFound(turn_id)
    return respond(usage_document(priced(used, prices)))


def usage_document(usage: PricedUsage) -> dict[str, Any]:
    """Usage and cost as JSON."""
    cost = usage.cost
    return {
        "calls": usage.calls,
        "total_tokens": usage.total_tokens,
        "cost": None if cost is None else {currency: amount_text(amount) for currency, amount in cost.items()},
        "unpriced_models": list(usage.unpriced_models),
        "models": [_line(totals, cost) for totals, cost in usage.models],
    }


def _line(totals: ModelTotals, cost: Cost | None) -> dict[str, Any]:
    money = None if cost is None else {"currency": cost.currency, "amount": amount_text(cost.amount)}
    return {**members(totals), "cost": money}


def _span(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    try:
        end = _in_utc(until or datetime.now(UTC))
        begin = _in_utc(since or end - _USUAL_SPAN)
    except OverflowError:
        raise _refused("from", "It is too far from any date that makes sense.") from None
    if begin >= end:
        raise _refused("from", "It is not before `to`.")
    if end - begin > _LONGEST_SPAN:
        raise _refused("from", f"From it to `to` are more than {_LONGEST_SPAN.days} days.")
    return begin, end


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _refused(name: str, message: str) -> Problem:
    accepted = f"A time before `to`, by at most {_LONGEST_SPAN.days} days."
    return invalid_request([{"in": "query", "pointer": f"/{name}", "message": message, "accepted": accepted}])
