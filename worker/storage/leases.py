"""Renewal of leases: one statement for all running turns of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.errors import ReadOnlySqlTransaction

from worker.storage.database import CONNECT_ARGUMENTS, libpq_url, unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

# A row that is locked just now is being committed by this very process; it is left to that commit and counts as held.
# Skipping it also means that renewal never waits for anyone, whatever the other transactions do.
_RENEW = """
WITH held AS (
    SELECT turns.id, turns.attempt
    FROM unnest(%(turn_ids)s::uuid[], %(attempts)s::int[]) AS mine (turn_id, attempt)
    JOIN turns ON turns.id = mine.turn_id AND turns.attempt = mine.attempt AND turns.status = 'running'
), renewable AS (
    SELECT id FROM turns WHERE id IN (SELECT id FROM held) ORDER BY id FOR UPDATE SKIP LOCKED
), renewed AS (
    UPDATE turns
    SET lease_expires_at = now() + make_interval(secs => %(lease_seconds)s)
    FROM renewable JOIN held USING (id)
    WHERE turns.id = renewable.id AND turns.attempt = held.attempt AND turns.status = 'running'
)
SELECT id FROM held
"""

# By primary key and without a lock, so that it may be asked often.
_TAKEN = """
SELECT mine.turn_id, coalesce(turns.status = 'cancelled', false) AS cancelled
FROM unnest(%(turn_ids)s::uuid[], %(attempts)s::int[]) AS mine (turn_id, attempt)
LEFT JOIN turns ON turns.id = mine.turn_id
WHERE turns.id IS NULL OR turns.attempt <> mine.attempt OR turns.status = 'cancelled'
"""


class LeaseConnection:
    """A connection of its own for leases, so that renewal never queues behind anything else. For use from one thread."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def renew(self, held: Mapping[UUID, int], lease_seconds: float) -> set[UUID]:
        """Extend the leases of these turns (id to attempt) to `lease_seconds` from now.

        Returns:
            The turns that this process still holds. For every other one, its attempt is over: someone else took the turn
            or ended it, and nothing this process writes for it will be accepted.

        Raises:
            DatabaseUnavailable: when the renewal did not happen; the next call connects again.
        """
        rows = self._execute(
            _RENEW, {"turn_ids": list(held), "attempts": list(held.values()), "lease_seconds": lease_seconds}
        )
        return {row[0] for row in rows}

    def taken(self, held: Mapping[UUID, int]) -> dict[UUID, bool]:
        """Those of these turns (id to attempt) that somebody else has ended or taken, each with whether it was cancelled.

        Raises:
            DatabaseUnavailable: when PostgreSQL could not be asked; the next call connects again.
        """
        rows = self._execute(_TAKEN, {"turn_ids": list(held), "attempts": list(held.values())})
        return dict(rows)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, autocommit=True, **CONNECT_ARGUMENTS)
            return self._connection.execute(statement, parameters).fetchall()
        except (psycopg.OperationalError, ReadOnlySqlTransaction) as error:
            self.close()
            raise unavailable(error) from error
