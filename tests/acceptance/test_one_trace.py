"""A session's trace, told by an API and two workers as real processes to a collector over OTLP."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.system import System, calling
from worker.embedded.otlp_receiver import OtlpReceiver
from worker.telemetry import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.embedded.postgres import EmbeddedPostgres

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def observed(
    tmp_path: Path,
    postgres_server: EmbeddedPostgres,
    database_url: str,
    collector: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[System]:
    """A system whose processes all report to the collector."""
    monkeypatch.setitem(os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT", collector.grpc_url)
    monkeypatch.setitem(os.environ, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setitem(os.environ, "OTEL_BSP_SCHEDULE_DELAY", "100")
    with System(tmp_path, postgres_server, database_url) as system:
        yield system


async def test_three_turns_over_api_and_two_workers_are_one_trace_that_links_to_its_callers(
    observed: System, collector: OtlpReceiver
) -> None:
    async with calling(observed) as caller, httpx.AsyncClient(base_url=observed.url, headers=caller.headers) as http:
        session_id = await caller.session()
        for number in range(3):
            posted = await http.post(
                f"/v1/sessions/{session_id}/turns", json={"text": "Hi."}, headers={"traceparent": CALLER}
            )
            turn = await caller.client.wait(posted.json()["id"], timeout_seconds=60)
            if number == 0:  # the next ones run elsewhere, and the last spans of this worker go out with it
                holder = await caller.holder(turn.id)
                holder.terminate()
                assert await holder.exit_status() == 0
        metrics = (await http.get("/metrics")).text
    collector.wait_for(lambda received: len(received.named("turn")) == len(received.named("turn.enqueue")) == 3)
    assert {span.trace_id for span in collector.spans} == {tracing.trace_id(session_id)}
    ran_in = {span.resource["service.instance.id"] for span in collector.named("turn")}
    assert len(ran_in) == 2, "each worker ran some turn"
    enqueued = {span.attributes["turn.id"]: span for span in collector.named("turn.enqueue")}
    for attempt in collector.named("turn"):
        links = {attributes["link.source"]: (trace, span) for trace, span, attributes in attempt.links}
        assert links["caller"] == (CALLER[3:35], CALLER[36:52])
        enqueue = enqueued[attempt.attributes["turn.id"]]
        assert links["ring"] == (enqueue.trace_id, enqueue.span_id)
        assert enqueue.links[0][:2] == links["caller"]
    assert re.search(r"^turn_worker_turns_enqueued_total 3.0$", metrics, re.MULTILINE)


async def test_a_worker_shows_its_metrics_to_prometheus_where_the_settings_say(
    tmp_path: Path, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with System(tmp_path, postgres_server, database_url) as system:
        worker = system.start_worker(metrics_port=port)
        worker.wait_until_ready()
        for other in system.others(worker):
            other.terminate()
            assert await other.exit_status() == 0
        async with calling(system) as caller, httpx.AsyncClient() as http:
            await caller.ask(await caller.session(), "Hi.")
            page = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    assert re.search(r'^turn_worker_turns_total\{turn_outcome="completed"\} 1.0$', page, re.MULTILINE)
    assert re.search(r"^gen_ai_client_operation_duration_seconds_count\{.*claude", page, re.MULTILINE)


async def test_a_worker_whose_metrics_port_is_taken_ends_and_says_so_and_takes_no_turn(
    tmp_path: Path, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    with System(tmp_path, postgres_server, database_url) as system, socket.create_server(("127.0.0.1", 0)) as taken:
        worker = system.start_worker(metrics_port=taken.getsockname()[1])
        assert await worker.exit_status() == 1
        assert "needs a TURN_WORKER_METRICS_PORT of its own" in worker.log.tail()
