"""Claiming: the one way in which a turn comes to run, the first time as well as after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from worker.errors import TurnWorkerError
from worker.storage.line import AT_HEAD_OF_LINE, LEASE_EXPIRY
from worker.storage.outbox import RECORD_EVENTS, NewEvent, RecordedEvent, event_parameters, recorded_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pydantic import JsonValue
    from sqlalchemy.ext.asyncio import AsyncConnection


class RunningSlotTaken(TurnWorkerError):
    """Another turn of the organization took the slot that this one was to run in, at the same moment."""

    code = "running_slot_taken"
    retryable = True

    def __init__(self, turn_id: UUID) -> None:
        super().__init__(turn_id)
        self.turn_id = turn_id

    def __str__(self) -> str:
        return f"Another turn of its organization was faster than turn {self.turn_id}. Claim it again."


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one turn. Its number is the fencing token of everything it writes."""

    organization_id: UUID
    session_id: UUID
    turn_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class ClaimedTurn:
    """What a worker gets to know by claiming a turn.

    Attributes:
        worker_losses: How many workers this turn has lost so far, the one before this claim included.
        seconds_to_deadline: What is left of the turn's total time, over all its attempts; may be negative.
        error: Why its last attempt failed, if one did.
        parent_turn_id: The session's head, from which this turn goes on.
        retry_root_turn_id: The first of the turns that retry one another, if this is one of them.
        carries_over_turn_id: The turn in whose place this one stands, retried or interrupted, whose finished work it goes on
            with if both go on from the same head.
        session_checkpoint: The checkpoint the session was created with.
        organization_settings: As `worker.workflow.organization_settings` reads them.
        session_external_id: What its caller calls the session.
        trace_context: The W3C trace context of whoever asked for the turn.
        waited_seconds: How long it could have been claimed and was not; None after a lost worker, which had it meanwhile.
        fetched: Whether the session has made its fetch of further initial context.
    """

    attempt: Attempt
    definition_id: UUID
    opening: bool
    user_messages: list[dict[str, Any]]
    provider_failures: int
    worker_losses: int
    seconds_to_deadline: float
    error: dict[str, Any] | None
    parent_turn_id: UUID | None
    retry_root_turn_id: UUID | None
    carries_over_turn_id: UUID | None
    session_checkpoint: dict[str, Any] | None
    initial_context: dict[str, JsonValue]
    model_defaults: dict[str, Any] | None
    organization_settings: dict[str, Any]
    fetched: bool
    events: tuple[RecordedEvent, ...]
    session_external_id: str | None = None
    trace_context: dict[str, str] | None = None
    waited_seconds: float | None = None


# The session's row is locked before the turn's, as everywhere. What the statement sees of other turns may be older than the
# lock; that can only make it refuse, and whoever ends the turn before rings again after that commit.
# An organization whose running turns are limited has so many numbered slots, and the turn takes a free one. Two claims that
# choose the same at the same time are told apart by the index on it; whatever ends a turn frees its slot.
_CLAIM = text(f"""
    WITH session AS (
        SELECT
            sessions.id, sessions.definition_id, sessions.checkpoint, sessions.initial_context, sessions.external_id,
            sessions.fetched_at, sessions.head_turn_id, turns.status AS turn_status
        FROM sessions JOIN turns ON turns.session_id = sessions.id
        WHERE turns.id = :turn_id AND turns.organization_id = :organization_id AND sessions.state = 'running'
        FOR UPDATE OF sessions
    ), organization AS (
        SELECT model_defaults, settings, CAST(settings #>> '{{limits,max_running_turns}}' AS integer) AS slots
        FROM organizations WHERE id = :organization_id
    ), slot AS (
        SELECT CASE WHEN slots IS NOT NULL THEN (
            SELECT number FROM generate_series(1, slots) AS number
            WHERE number NOT IN (
                SELECT running.running_slot FROM turns AS running
                WHERE running.organization_id = :organization_id
                  AND running.status = 'running'
                  AND running.running_slot IS NOT NULL
            )
            ORDER BY random()
            LIMIT 1
        ) END AS number
        FROM organization
    ), claimed AS (
        UPDATE turns
        SET status = 'running',
            attempt = turns.attempt + 1,
            worker_losses = turns.worker_losses + CASE WHEN turns.status = 'running' THEN 1 ELSE 0 END,
            parent_turn_id = session.head_turn_id,
            first_claimed_at = coalesce(turns.first_claimed_at, now()),
            claimed_at = now(),
            claimed_by = :claimed_by,
            lease_expires_at = now() + make_interval(secs => :lease_seconds),
            waiting = false,
            running_slot = CASE WHEN turns.status = 'running' THEN turns.running_slot ELSE slot.number END
        FROM session, organization, slot
        WHERE turns.id = :turn_id
          AND turns.organization_id = :organization_id
          AND turns.worker_losses + CASE WHEN turns.status = 'running' THEN 1 ELSE 0 END
            <> ALL(CAST(:refuse_losses AS integer[]))
          AND (
            (
                turns.status = 'pending'
                AND turns.available_at <= now()
                AND (organization.slots IS NULL OR slot.number IS NOT NULL)
                AND {AT_HEAD_OF_LINE}
            )
            OR (turns.status = 'running' AND {LEASE_EXPIRY} < now())
          )
        RETURNING
            turns.session_id, turns.attempt, turns.opening, turns.user_messages, turns.provider_failures, turns.worker_losses,
            turns.error, turns.parent_turn_id, turns.retry_root_turn_id, turns.carries_over_turn_id, turns.first_claimed_at,
            turns.available_at, turns.trace_context
    ), numbered AS (
        UPDATE sessions SET last_sequence = sessions.last_sequence + 1
        FROM claimed
        WHERE sessions.id = claimed.session_id AND sessions.organization_id = :organization_id
        RETURNING sessions.organization_id, sessions.id, sessions.revision, sessions.last_sequence
    ), recorded AS ({RECORD_EVENTS})
    SELECT
        claimed.*,
        CAST(extract(epoch FROM now() - claimed.first_claimed_at) AS double precision) AS age_seconds,
        CASE WHEN session.turn_status = 'pending'
            THEN CAST(extract(epoch FROM now() - claimed.available_at) AS double precision)
        END AS waited_seconds,
        session.definition_id,
        session.checkpoint,
        session.initial_context,
        session.external_id AS session_external_id,
        session.fetched_at,
        organization.model_defaults,
        organization.settings,
        numbered.last_sequence,
        numbered.revision,
        now() AS now
    FROM claimed, session, organization, numbered
""")


async def claim_turn(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    turn_id: UUID,
    claimed_by: str,
    lease_seconds: float,
    deadline_seconds: float,
    refuse_losses: Sequence[int] = (),
) -> ClaimedTurn | None:
    """Take a turn to run it: a pending one at the head of its session's line, or a running one whose lease has expired.

    Recovery is this very claim. It raises the attempt number, and from then on the attempt before can write nothing.

    Args:
        refuse_losses: A turn that has lost so many workers, the one before this claim included, is left to other processes.

    Raises:
        RunningSlotTaken: when another claim of the same organization was faster. Trying again is safe.

    Returns:
        None when the turn is not to be had: it is not its turn yet, as many as may run do, someone else runs it, or
            it is over.
    """
    events = [NewEvent("turn.started", turn_id)]
    parameters = {
        "turn_id": turn_id,
        "organization_id": organization_id,
        "claimed_by": claimed_by,
        "lease_seconds": lease_seconds,
        "refuse_losses": list(refuse_losses),
        **event_parameters(events),
    }
    try:
        result = await connection.execute(_CLAIM, parameters)
    except IntegrityError as error:
        if "uq_turns_running_slot" in str(error.orig):
            raise RunningSlotTaken(turn_id) from error
        raise
    row = result.one_or_none()
    if row is None:
        return None
    return ClaimedTurn(
        attempt=Attempt(organization_id, row.session_id, turn_id, row.attempt),
        definition_id=row.definition_id,
        opening=row.opening,
        user_messages=row.user_messages,
        provider_failures=row.provider_failures,
        worker_losses=row.worker_losses,
        seconds_to_deadline=deadline_seconds - row.age_seconds,
        error=row.error,
        parent_turn_id=row.parent_turn_id,
        retry_root_turn_id=row.retry_root_turn_id,
        carries_over_turn_id=row.carries_over_turn_id,
        session_checkpoint=row.checkpoint,
        initial_context=row.initial_context,
        model_defaults=row.model_defaults,
        organization_settings=row.settings,
        fetched=row.fetched_at is not None,
        events=recorded_events(
            events,
            organization_id=organization_id,
            session_id=row.session_id,
            last_sequence=row.last_sequence,
            revision=row.revision,
            now=row.now,
        ),
        session_external_id=row.session_external_id,
        trace_context=row.trace_context,
        waited_seconds=row.waited_seconds,
    )
