from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.telemetry.tracing import trace_id

if TYPE_CHECKING:
    from tests.api import Tenant
    from worker.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"trace_url_template": "https://traces.example/{trace_id}"})


async def test_a_session_says_where_its_trace_is_and_stores_nothing_of_it(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.answer(turn, checkpoint={"version": 1, "gathered_context": {"name": "Ada"}})
    url = f"https://traces.example/{trace_id(session['id'])}"
    read = await api.get(f"/v1/sessions/{session['id']}")
    assert read["gathered_context"] == {"name": "Ada", "trace_url": url}
    (listed,) = (await api.get("/v1/sessions"))["data"]
    assert listed == read
    (row,) = await api.world.rows("SELECT checkpoint FROM turns")
    assert "trace_url" not in str(row.checkpoint)


async def test_an_organization_with_a_collector_of_its_own_is_led_to_its_own_traces(api: Tenant) -> None:
    await api.world.execute(
        """UPDATE organizations SET settings =
           '{"traces": {"endpoint": "https://otlp.example.com", "url_template": "https://own.example/{trace_id}"}}'"""
    )
    session = await api.session()
    read = await api.get(f"/v1/sessions/{session['id']}")
    assert read["gathered_context"]["trace_url"] == f"https://own.example/{trace_id(session['id'])}"


async def test_the_trace_context_of_a_request_is_kept_with_the_turn_it_asks_for(api: Tenant) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    session = await api.session()
    path = f"/v1/sessions/{session['id']}/turns"
    for headers in ({"traceparent": parent, "tracestate": "a=1"}, {"traceparent": "nonsense"}):
        assert (await api.http.post(path, json={"text": "Hi."}, headers=headers)).status_code == 202
    rows = await api.world.rows("SELECT trace_context FROM turns ORDER BY position")
    assert [row.trace_context for row in rows] == [{"traceparent": parent, "tracestate": "a=1"}, None]
