from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.unit.deploy.project import DEPLOY
from worker.settings import Settings
from worker.telemetry.telemetry import Telemetry

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """What a process shows to Prometheus that has seen everything once."""
    telemetry = Telemetry.start(Settings(), scraped=True)
    metrics = telemetry.metrics
    assert metrics is not None
    metrics.turn_enqueued()
    metrics.turn_began(0.1)
    metrics.turn_ended("retrying", 1.0, "llm_overloaded")
    metrics.turn_ended("lease_lost", 1.0, None)
    metrics.llm_began_to_reply("anthropic", "m", 0.1)
    metrics.llm_call_ended("anthropic", "m", 0.2, "llm_overloaded")
    metrics.llm_used("anthropic", "m", {"input": 1})
    metrics.tool_call_ended("tool", 0.1, None)
    metrics.events_published(1)
    metrics.queue_seen(1, 1.0)
    page = telemetry.page().decode()
    telemetry.close()
    return set(re.findall(r"^(\w+)(?:{| )", page, re.MULTILINE))


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_metric_of_the_dashboard_is_one_that_the_program_shows(title: str, query: str, shown: set[str]) -> None:
    metrics = re.findall(r"(?:turn_worker|gen_ai_client)_\w+", query)
    assert metrics, title
    assert set(metrics) <= shown
