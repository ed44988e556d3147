from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.api import out_of_order

if TYPE_CHECKING:
    from tests.api import Tenant
    from worker.embedded.postgres import EmbeddedPostgres


def value(page: str, metric: str) -> float:
    found = re.search(rf"^{metric}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    assert found, page
    return float(found.group(1))


async def test_prometheus_reads_what_waits_and_what_was_enqueued(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    await api.turn(session["id"])
    await api.world.execute("UPDATE turns SET available_at = now() - interval '1 minute' WHERE id = :id", id=turn["id"])
    response = await api.http.get("/metrics", headers={"Authorization": ""})
    assert response.headers["content-type"].startswith("text/plain")
    assert value(response.text, "turn_worker_turns_enqueued_total") == 2
    assert value(response.text, "turn_worker_queue_depth") == 2
    assert value(response.text, "turn_worker_queue_age_seconds") >= 60


async def test_a_turn_that_stands_behind_another_has_not_waited_for_a_worker(api: Tenant) -> None:
    session = await api.session()
    first = await api.turn(session["id"])
    await api.turn(session["id"])
    await api.claim(first)
    page = (await api.http.get("/metrics")).text
    assert (value(page, "turn_worker_queue_depth"), value(page, "turn_worker_queue_age_seconds")) == (1, 0)


async def test_while_postgresql_is_away_the_other_metrics_are_shown_and_no_old_ones_of_the_queue(
    api: Tenant, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    await api.turn((await api.session())["id"])
    with out_of_order(postgres_server, database_url):
        response = await api.http.get("/metrics")
    assert response.status_code == 200
    assert value(response.text, "turn_worker_turns_enqueued_total") == 1
    assert "turn_worker_queue_depth " not in response.text
