"""What the API shows of the webhooks that are told of a session's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """How the webhook of one node fares.

    Attributes:
        status: `retrying`, `delivered` or `failed`.
        status_code: The status of the last answer; None if there was none.
        error: Why the last attempt failed.
        attempted_at: When the last attempt ended.
        next_attempt_at: When the next one may begin; None if there is none.
    """

    node_id: str
    status: str
    attempts: int
    status_code: int | None
    error: str | None
    attempted_at: datetime
    next_attempt_at: datetime | None


_DELIVERIES = text("""
    SELECT delivery.node_id, delivery.status, delivery.attempts, delivery.status_code, delivery.error,
           delivery.updated_at AS attempted_at,
           delivery.next_attempt_at
    FROM sessions
    LEFT JOIN session_completions AS completion
      ON completion.session_id = sessions.id AND completion.organization_id = sessions.organization_id
    LEFT JOIN webhook_deliveries AS delivery
      ON delivery.completion_id = completion.id AND delivery.organization_id = completion.organization_id
    WHERE sessions.id = :session_id AND sessions.organization_id = :organization_id
    ORDER BY delivery.node_id
""")


async def session_webhook_deliveries(
    connection: AsyncConnection, *, organization_id: UUID, session_id: UUID
) -> list[WebhookDelivery] | None:
    """Those of a session that were tried, by node; None if the organization has no such session."""
    rows = (await connection.execute(_DELIVERIES, {"organization_id": organization_id, "session_id": session_id})).all()
    return [WebhookDelivery(*row) for row in rows if row.node_id is not None] if rows else None
