"""Reads the whole history of a run and names every promise that was broken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from tests.chaos.harness import agent
from tests.chaos.harness.history import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.chaos.harness.effects import Effects
    from tests.chaos.harness.history import History

TERMINAL = {"completed", "failed", "cancelled"}
_ENDS = {f"turn.{status}": status for status in TERMINAL}


async def read_record(connection: AsyncConnection, organization_id: UUID) -> Record:
    """Read everything that the database holds of an organization."""
    found: dict[str, list[Any]] = {}
    for table, order in (
        ("sessions", "id"),
        ("turns", "session_id, position"),
        ("messages", "turn_id, ordinal"),
        ("outbox", "session_id, sequence"),
    ):
        statement = text(f"SELECT * FROM {table} WHERE organization_id = :id ORDER BY {order}")
        found[table] = list(await connection.execute(statement, {"id": organization_id}))
    turns: dict[UUID, list[Any]] = {}
    for row in found["turns"]:
        turns.setdefault(row.session_id, []).append(row)
    messages: dict[UUID, list[dict[str, Any]]] = {}
    for row in found["messages"]:
        messages.setdefault(row.turn_id, []).append(row.message)
    events: dict[UUID, list[Any]] = {}
    for row in found["outbox"]:
        events.setdefault(row.session_id, []).append(row)
    return Record({row.id: row for row in found["sessions"]}, turns, messages, events)


def violations(history: History, record: Record, effects: Effects, seen_by_llm: dict[UUID, list[str]]) -> list[str]:
    """Name every broken promise; an empty list is what everybody hopes for.

    Args:
        history: What was seen from outside.
        record: What the database holds.
        effects: What the world outside was asked to do.
        seen_by_llm: By session, what had been said, oldest first, when the LLM was asked last, after everything else.
    """
    return [
        *_accepted_turns(history, record),
        *_turns(record),
        *_order(record),
        *_contexts(record, seen_by_llm),
        *_effects(record, effects),
        *_logs(history, record),
        *_leftovers(record),
    ]


def _accepted_turns(history: History, record: Record) -> Iterator[str]:
    by_id = {turn.id: turn for turns in record.turns.values() for turn in turns}
    for accepted in history.accepted:
        turn = by_id.get(accepted.turn_id)
        if turn is None:
            yield f"lost: {accepted.message!r} was accepted as turn {accepted.turn_id}, which does not exist"
            continue
        if turn.status not in TERMINAL:
            yield f"unfinished: turn {turn.id} ({accepted.message!r}) is {turn.status}"
        if accepted.cancelled and turn.status != "cancelled":
            yield f"untrue: a client was told that turn {turn.id} is cancelled, and it is {turn.status}"
        if others := accepted.repeated_as - {accepted.turn_id}:
            yield f"twice: repetitions of one request made other turns than {turn.id}: {sorted(map(str, others))}"
    said = Counter(_said(turn) for turns in record.turns.values() for turn in turns)
    for message, count in said.items():
        if count > 1:
            yield f"twice: {count} turns answer {message!r}"


def _turns(record: Record) -> Iterator[str]:
    for session_id, turns in record.turns.items():
        ends = Counter(event.turn_id for event in record.events.get(session_id, ()) if event.type in _ENDS)
        statuses = {
            event.turn_id: _ENDS[event.type] for event in record.events.get(session_id, ()) if event.type in _ENDS
        }
        for turn in turns:
            if turn.status in TERMINAL and ends[turn.id] != 1:
                yield f"terminal: turn {turn.id} ended {ends[turn.id]} times by the log"
            elif turn.status in TERMINAL and statuses[turn.id] != turn.status:
                yield f"terminal: turn {turn.id} is {turn.status}, and its event says {statuses[turn.id]}"
            if turn.status == "completed" and turn.assistant_text != agent.answer(_said(turn)):
                yield f"answer: turn {turn.id} ({_said(turn)!r}) was answered {turn.assistant_text!r}"
            if turn.status == "failed":
                yield f"failed: turn {turn.id} ({_said(turn)!r}): {turn.error}"


def _order(record: Record) -> Iterator[str]:
    for session_id, turns in record.turns.items():
        head = None
        ended = None
        for turn in (turn for turn in turns if turn.status == "completed"):
            if turn.parent_turn_id != head:
                yield f"order: turn {turn.id} goes on from {turn.parent_turn_id}, not from {head}"
            if ended is not None and turn.ended_at < ended:
                yield f"order: turn {turn.id} ended before the one before it in line"
            head, ended = turn.id, turn.ended_at
        if record.sessions[session_id].head_turn_id != head:
            yield f"order: the head of session {session_id} is not its last completed turn"


def _contexts(record: Record, seen_by_llm: dict[UUID, list[str]]) -> Iterator[str]:
    for session_id, turns in record.turns.items():
        folded: list[str] = []
        for turn in (turn for turn in turns if turn.status == "completed"):
            messages = record.messages.get(turn.id, [])
            if [message["role"] for message in messages] != agent.roles(_said(turn)):
                yield f"checkpoint: turn {turn.id} added {[message['role'] for message in messages]}"
            folded += [
                str(message["content"]) for message in messages if message["role"] != "tool" and message.get("content")
            ]
        unknown = [
            message for turn in turns if turn.status != "completed" for message in record.messages.get(turn.id, [])
        ]
        if unknown:
            yield f"checkpoint: turns of session {session_id} that were not completed left messages"
        seen = seen_by_llm.get(session_id)
        # The last answer was given to what the LLM saw then.
        if seen is not None and seen != folded[:-1]:
            yield f"checkpoint: the LLM saw of session {session_id} something else than the fold of its branch"


def _effects(record: Record, effects: Effects) -> Iterator[str]:
    for name in effects.unkeyed:
        yield f"effect: {name!r} was ordered without an Idempotency-Key"
    ordered = Counter(order.name for order in effects.orders.values())
    for turns in record.turns.values():
        for turn in turns:
            for name in agent.orders(_said(turn)):
                if ordered[name] > 1:
                    yield f"effect: {name!r} happened {ordered[name]} times, under different keys (turn {turn.id})"
                if turn.status == "completed" and not ordered[name]:
                    yield f"effect: turn {turn.id} is completed, and {name!r} never happened"


def _logs(history: History, record: Record) -> Iterator[str]:
    for session_id, session in record.sessions.items():
        events = record.events.get(session_id, [])
        numbers = [event.sequence for event in events]
        if numbers != list(range(1, session.last_sequence + 1)):
            yield f"log: session {session_id} has gaps: {len(numbers)} events, the last is {session.last_sequence}"
        if unpublished := [event.sequence for event in events if event.published_at is None]:
            yield f"log: events {unpublished[:5]} of session {session_id} were never published"
        yield from _order_of_events(session_id, events)
        followed = history.followed.get(session_id)
        if followed is not None and followed != numbers:
            yield f"subscriber: of session {session_id} it was told {len(followed)} events, and the log has {len(numbers)}"


def _order_of_events(session_id: UUID, events: list[Any]) -> Iterator[str]:
    over: set[UUID] = set()
    known: set[UUID] = set()
    for event in events:
        if event.turn_id is None:
            continue
        if event.turn_id in over:
            yield f"log: {event.type} comes after the end of turn {event.turn_id} (session {session_id})"
        if event.turn_id not in known and event.type != "turn.enqueued":
            yield f"log: {event.type} comes before turn {event.turn_id} was enqueued"
        known.add(event.turn_id)
        if event.type in _ENDS:
            over.add(event.turn_id)


def _leftovers(record: Record) -> Iterator[str]:
    for turns in record.turns.values():
        for turn in turns:
            if turn.lease_expires_at is not None:
                yield f"left behind: turn {turn.id} has a lease"


def _said(turn: Any) -> str:
    return " ".join(message["text"] for message in turn.user_messages)
