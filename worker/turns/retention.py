"""Erases what organizations keep for a limited time only, in small batches, from every worker process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from worker.storage.erasure import (
    erase_expired_events,
    erase_expired_journals,
    erase_expired_sessions,
    organizations_with_retention,
)
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from worker.storage.database import Database
    from worker.workflow.organization_settings import Retention

log = structlog.get_logger(__name__)


async def erase_expired(database: Database) -> None:
    """Erase everything that is older than its organization keeps it.

    Each batch is a transaction of its own and takes only what nobody has locked, so that no turn waits for it for long and
    several processes share the work.

    Raises:
        DatabaseUnavailable: when PostgreSQL cannot be used; what was erased stays erased.
    """
    async with database.statement() as connection:
        organizations = await organizations_with_retention(connection)
    for organization_id, retention in organizations:
        for kind in _kinds(retention):
            if kind.days is not None:
                await _in_batches(database, organization_id, kind)


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    days: int | None
    erase: Callable[..., Awaitable[int]]
    batch: int


def _kinds(retention: Retention) -> tuple[_Kind, ...]:
    return (
        _Kind("sessions", retention.sessions_days, erase_expired_sessions, 20),
        _Kind("events", retention.events_days, erase_expired_events, 1000),
        _Kind("journals", retention.journal_days, erase_expired_journals, 1000),
    )


async def _in_batches(database: Database, organization_id: UUID, kind: _Kind) -> None:
    total = 0
    erased = kind.batch
    while erased == kind.batch:
        async with database.transaction() as connection:
            erased = await kind.erase(connection, organization_id=organization_id, days=kind.days, batch=kind.batch)
        total += erased
    if total:
        log.info(names.EXPIRED_ERASED, organization_id=str(organization_id), kind=kind.name, count=total)
