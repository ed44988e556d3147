"""Scheduled turns over HTTP: stored now, shown as scheduled, in line when their time comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from tests.api import Bell, Tenant


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_a_scheduled_turn_is_shown_with_its_time_and_without_a_place(api: Tenant, bell: Bell) -> None:
    session = await api.session()
    when = at(3600)
    scheduled = await api.turn(session["id"], "Later.", not_before=when, external_id="mine")
    assert scheduled == await api.get(f"/v1/turns/{scheduled['id']}")
    assert (scheduled["status"], scheduled["position"], scheduled["not_before"]) == ("scheduled", None, when)
    assert (scheduled["external_id"], scheduled["revision"]) == ("mine", 1)
    await api.services.dispatch.drain()
    assert bell.rung == []


async def test_lists_show_what_has_no_place_in_line_after_what_has_one_page_by_page(api: Tenant) -> None:
    session = await api.session()
    scheduled = [await api.turn(session["id"], "Later.", not_before=at(3600)) for _ in range(3)]
    placed = [await api.turn(session["id"]) for _ in range(2)]
    expected = [turn["id"] for turn in [*placed, *scheduled]]
    listed: list[str] = []
    cursor: dict[str, str] = {}
    while len(listed) < len(expected):
        page = await api.get(f"/v1/sessions/{session['id']}/turns", limit=1, **cursor)
        listed += [turn["id"] for turn in page["data"]]
        cursor = {"cursor": page["next_cursor"]}
    assert listed == expected


async def test_a_time_that_is_past_is_enqueued_and_rung_for(api: Tenant, bell: Bell) -> None:
    turn = await api.turn((await api.session())["id"], not_before=at(-60))
    assert (turn["status"], turn["position"]) == ("pending", 1)
    await bell.ringing_for(UUID(turn["id"]))


async def test_a_scheduled_turn_may_be_cancelled(api: Tenant) -> None:
    turn = await api.turn((await api.session())["id"], not_before=at(3600))
    cancelled = await api.made(api.http.post(f"/v1/turns/{turn['id']}/cancel"))
    assert (cancelled["status"], cancelled["position"]) == ("cancelled", None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"not_before": "2027-01-31T09:30:00"}, "invalid_request"),
        ({"not_before": "tomorrow"}, "invalid_request"),
        ({"not_before": "2999-01-31T09:30:00Z"}, "scheduled_too_far_ahead"),
        ({"not_before": at(60), "on_busy": "interrupt"}, "invalid_request"),
    ],
)
async def test_a_time_that_cannot_be_kept_is_refused(api: Tenant, body: dict[str, str], code: str) -> None:
    session = await api.session()
    refused = await api.http.post(f"/v1/sessions/{session['id']}/turns", json={"text": "Later.", **body})
    assert (refused.status_code, refused.json()["code"]) == (422, code)
