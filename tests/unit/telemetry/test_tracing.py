from __future__ import annotations

import subprocess
import sys
from uuid import UUID

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from worker.telemetry import observed, tracing
from worker.telemetry.metrics import Metrics

SESSION = UUID("01a20ae1-2466-713d-9d06-dc7dd7ee1eb6")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_session_s_trace_follows_from_its_id() -> None:
    assert tracing.trace_id(SESSION) == tracing.trace_id(str(SESSION)) == "0dae026ac21831149ddd1e081ffdbb34"


def test_a_trace_is_looked_at_where_the_template_says() -> None:
    url = tracing.trace_url("https://jaeger.example/trace/{trace_id}", SESSION)
    assert url == f"https://jaeger.example/trace/{tracing.trace_id(SESSION)}"
    assert tracing.trace_url(None, SESSION) is None


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        PARENT.upper(),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        PARENT + "-more",
    ],
)
def test_a_trace_context_that_is_not_well_formed_is_none(parent: str) -> None:
    assert tracing.trace_context({"traceparent": parent, "tracestate": "a=1"}) == {}


def test_a_trace_context_keeps_its_state_unless_that_is_too_long() -> None:
    assert tracing.trace_context({"traceparent": PARENT}) == {"traceparent": PARENT}
    state = {"traceparent": PARENT, "tracestate": "a=1"}
    assert tracing.trace_context(state) == state
    assert tracing.trace_context({"traceparent": PARENT, "tracestate": "a" * 513}) == {"traceparent": PARENT}


def test_outside_of_a_trace_there_is_nothing_to_tell() -> None:
    assert tracing.outgoing_context() == {}
    assert tracing.here() is None
    with tracing.span("work") as span:
        assert span is tracing.NO_SPAN
    call = observed.llm_call("anthropic", "claude-sonnet-5", "conversation")
    call.replies()
    call.ended()


@pytest.mark.parametrize(
    ("provider", "name"), [("anthropic", "anthropic"), ("aws", "aws.bedrock"), ("google-vertex", "gcp.vertex_ai")]
)
def test_a_provider_goes_by_the_name_that_the_conventions_give_it(provider: str, name: str) -> None:
    reader = InMemoryMetricReader()
    turn = observed.TurnObserved(tracing.NO_SPAN, Metrics(MeterProvider([reader]).get_meter("test")))
    with observed.observing(turn):
        observed.llm_call(provider, "a-model", "conversation").ended()
    assert f'"gen_ai.provider.name": "{name}"' in str(reader.get_metrics_data().to_json())  # type: ignore[union-attr]


def test_opentelemetry_is_not_loaded_where_nobody_collects() -> None:
    program = (
        "import sys; from worker.settings import Settings; from worker.telemetry.telemetry import Telemetry;"
        "import worker.telemetry.observed; Telemetry.start(Settings(), scraped=False).close();"
        "sys.exit(any(name.startswith(('opentelemetry', 'prometheus_client')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
