"""Renewal of leases: one statement for all running turns of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.errors import ReadOnlySqlTransaction

from worker.storage.database import CONNECT_ARGUMENTS, libpq_url, unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

    HeldAttempt = tuple[UUID, int]

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
SELECT id, attempt FROM held
"""

# By primary key and without a lock, so that it may be asked often.
_TAKEN = """
SELECT mine.turn_id, mine.attempt, coalesce(turns.status = 'cancelled', false) AS cancelled
FROM unnest(%(turn_ids)s::uuid[], %(attempts)s::int[]) AS mine (turn_id, attempt)
LEFT JOIN turns ON turns.id = mine.turn_id
WHERE turns.id IS NULL OR turns.attempt <> mine.attempt OR turns.status = 'cancelled'
"""


class LeaseConnection:
    """A connection of its own for leases, so that renewal never queues behind anything else. For use from one thread."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def renew(self, held: Collection[HeldAttempt], lease_seconds: float) -> set[HeldAttempt]:
        """Extend the leases of these attempts (turn id, number) to `lease_seconds` from now.

        Returns:
            Those that still hold their turn. Every other one is over: someone else took the turn or ended it, and nothing this
            process writes for that attempt will be accepted.

        Raises:
            DatabaseUnavailable: when the renewal did not happen; the next call connects again.
        """
        rows = self._execute(_RENEW, {**_parameters(held), "lease_seconds": lease_seconds})
        return {(turn_id, attempt) for turn_id, attempt in rows}

    def taken(self, held: Collection[HeldAttempt]) -> dict[HeldAttempt, bool]:
        """Those of these attempts whose turn somebody else has ended or taken, each with whether it was cancelled.

        Raises:
            DatabaseUnavailable: when PostgreSQL could not be asked; the next call connects again.
        """
        rows = self._execute(_TAKEN, _parameters(held))
        return {(turn_id, attempt): cancelled for turn_id, attempt, cancelled in rows}

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


def _parameters(held: Collection[HeldAttempt]) -> dict[str, Any]:
    return {"turn_ids": [turn_id for turn_id, _ in held], "attempts": [attempt for _, attempt in held]}
