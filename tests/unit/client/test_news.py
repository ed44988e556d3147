"""News over Redis: made into the log again, each event once and in order, whatever happens on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_stub.client.news import PAGE_SIZE, Follower
from api_stub.schemas import Event, EventPage
from worker.channel.envelope import Envelope
from worker.channel.event_types import STATUS_REPORTED

if TYPE_CHECKING:
    from collections.abc import Sequence

ORGANIZATION, SESSION, TURN, OTHER = (UUID(int=number) for number in range(1, 5))
NOW = datetime.now(UTC)


def message(event: Event) -> bytes:
    """The event as the publisher writes it."""
    return (
        Envelope(
            organization_id=ORGANIZATION,
            session_id=SESSION,
            turn_id=event.turn_id,
            sequence=event.sequence,
            type=event.type,
            time=event.created_at,
            status=event.status,
            revision=event.revision,
        )
        .encode()
        .encode()
    )


def log(*events: tuple[str, UUID | None]) -> list[Event]:
    return [
        Event(
            sequence=number,
            type=type_,
            session_id=SESSION,
            turn_id=turn_id,
            status=STATUS_REPORTED.get(type_),
            revision=number,
            payload={},
            created_at=NOW,
        )
        for number, (type_, turn_id) in enumerate(events, start=1)
    ]


WHOLE = log(
    ("turn.enqueued", OTHER),
    ("turn.enqueued", TURN),
    ("turn.completed", OTHER),
    ("turn.started", TURN),
    *[("turn.tool_call_started", TURN)] * 130,
    ("turn.completed", TURN),
    ("session.ended", TURN),
    ("session.variables_extracted", None),
    ("session.finalized", None),
)


def page(events: Sequence[Event], after: int) -> EventPage:
    """What the API answers while the log holds `events`."""
    found = list(events[after : after + PAGE_SIZE])
    finished = len(events) == len(WHOLE) and len(found) < PAGE_SIZE
    return EventPage(data=found, revision=1, finished=finished)


@pytest.mark.parametrize("turn_id", [None, TURN])
@given(seed=st.integers(0, 2**32), loss=st.floats(0, 1))
def test_every_event_comes_once_and_in_order_however_news_is_shuffled_repeated_and_lost(
    turn_id: UUID | None, seed: int, loss: float
) -> None:
    chance = Random(seed)
    follower = Follower(ORGANIZATION, SESSION, after=0, turn_id=turn_id)
    passed_on: list[Event] = []
    written = 0
    on_the_way: list[Event] = []
    while not follower.is_over:
        if follower.must_read:
            passed_on += follower.read(page(WHOLE[:written], follower.last))
        elif written < len(WHOLE) and chance.random() < 0.5:
            published_again = chance.randint(0, written)
            written += chance.randint(1, 40)
            written += written == len(WHOLE) - 3  # a session's end is recorded with that of the turn which ended it
            on_the_way += [event for event in WHOLE[published_again:written] if chance.random() >= loss]
            chance.shuffle(on_the_way)
        elif on_the_way:
            heard = follower.hear(message(on_the_way.pop()))
            passed_on += [heard] if heard is not None else []
        else:
            follower.must_read = True  # nothing was heard for a while
    expected = [event.sequence for event in WHOLE if turn_id in (None, event.turn_id)]
    assert [event.sequence for event in passed_on] == expected


def test_the_end_of_a_turn_is_passed_on_before_the_log_is_read_a_last_time() -> None:
    follower = Follower(ORGANIZATION, SESSION, after=0, turn_id=TURN)
    list(follower.read(page(WHOLE[:2], 0)))
    completed = log(("x", None), ("x", None), ("turn.completed", TURN))[2]
    heard = follower.hear(message(completed))
    assert heard is not None
    assert (heard.status, heard.payload, heard.created_at) == ("completed", None, NOW)
    assert follower.must_read
    assert not follower.is_over
    list(follower.read(EventPage(data=[], revision=1, finished=False)))
    assert follower.is_over


@pytest.mark.parametrize("noise", [b"", b"nonsense", b"[]", b'{"data": null}', b'{"data": {"sequence": "x"}}'])
def test_a_message_that_cannot_be_read_means_reading_the_log(noise: bytes) -> None:
    follower = Follower(ORGANIZATION, SESSION, after=0)
    list(follower.read(EventPage(data=[], revision=1, finished=False)))
    assert follower.hear(noise) is None
    assert follower.must_read


def test_the_pattern_covers_every_channel_of_the_session() -> None:
    assert Follower(ORGANIZATION, SESSION, after=0).pattern == f"turns.{ORGANIZATION}.{SESSION}.*"
