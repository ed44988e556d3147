"""What a worker tells a collector, over the real protocols."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.integration.turns.test_executor import play
from worker.embedded.otlp_receiver import OtlpReceiver
from worker.engine.llm.clients import ProviderClients
from worker.engine.llm.provider import provider
from worker.engine.turn import run_turn
from worker.storage.secrets import Vault, put_secret
from worker.telemetry import names, signals
from worker.telemetry.telemetry import Telemetry
from worker.turns.organization_traces import OrganizationTraces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM
    from worker.settings import Settings

    MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]

CALLER = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
GRAPH: dict[str, Any] = {
    "nodes": [
        {"id": "start", "type": "startCall", "data": {"name": "Reception", "prompt": "Receive."}},
        {"id": "book", "type": "agentNode", "data": {"name": "Booking", "prompt": "Book."}},
    ],
    "edges": [{"id": "1", "source": "start", "target": "book", "data": {"label": "Book", "condition": "wants a date"}}],
}


@pytest.fixture(autouse=True)
def loaded() -> None:
    """The SDK is loaded, as in a worker: loading it holds up the event loop, and with it everything that is measured."""
    provider("anthropic")


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def trace_of(session_id: UUID) -> str:
    return hashlib.sha256(f"text-chat:{session_id}".encode()).hexdigest()[:32]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_turn_is_told_as_spans_over_either_protocol(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, collector: OtlpReceiver, protocol: str
) -> None:
    play(llm, {"reply": "Good morning.", "usage": {"input_tokens": 20, "output_tokens": 5}})
    session = await world.session(external_id="Call 7")
    turn = await world.enqueue(session.session_id, "Hi.", trace_context=CALLER)
    url = collector.grpc_url if protocol == "grpc" else collector.http_url
    to = {"otlp_endpoint": url, "otlp_protocol": protocol, "otlp_headers": SecretStr("x-key=abc%20d")}
    async with make_worker(**to) as worker:
        assert await worker.execute(turn.turn_id) == "completed"
        await worker.dispatch.drain()
    names = {span.name for span in collector.spans}
    assert names == {"turn", "turn.queue_wait", "turn.commit", "turn.publish", "chat claude-sonnet-5"}
    assert all(headers["x-key"] == "abc d" for headers in collector.headers)
    for span in collector.spans:
        assert span.trace_id == trace_of(session.session_id)
        assert span.attributes["conversation.id"] == str(session.session_id)
        assert span.attributes["conversation.type"] == "text"
        assert span.attributes["langfuse.trace.name"] == "Call 7"
        assert span.attributes["organization.id"] == str(world.organization_id)
        assert (span.attributes["turn.id"], span.attributes["turn.attempt"]) == (str(turn.turn_id), 1)
        assert span.error is None
        assert span.resource["service.name"] == "turn-worker"
    (whole,) = collector.named("turn")
    (call,) = collector.named("chat claude-sonnet-5")
    (waited,) = collector.named("turn.queue_wait")
    assert whole.kind == "consumer"
    assert whole.attributes["turn.outcome"] == "completed"
    assert whole.links == ((CALLER["traceparent"][3:35], CALLER["traceparent"][36:52], {"link.source": "caller"}),)
    assert (waited.parent_id, waited.ended_ns) == (whole.parent_id, whole.started_ns)
    assert waited.started_ns < waited.ended_ns
    assert (call.parent_id, call.kind) == (whole.span_id, "client")
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.provider.name"] == "anthropic"
    assert call.attributes["gen_ai.request.model"] == "claude-sonnet-5"
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] < 10


async def test_three_turns_on_two_workers_are_one_trace(
    world: World, make_worker: MakeWorker, collector: OtlpReceiver
) -> None:
    session = await world.session()
    async with (
        make_worker(otlp_endpoint=collector.http_url) as one,
        make_worker(otlp_endpoint=collector.http_url) as two,
    ):
        for worker in (one, two, one):
            turn = await world.enqueue(session.session_id)
            await worker.execute(turn.turn_id)
    assert len(collector.named("turn")) == 3
    assert {span.trace_id for span in collector.spans} == {trace_of(session.session_id)}
    assert {span.attributes["langfuse.trace.name"] for span in collector.spans} == {f"text-chat-{session.session_id}"}


async def test_a_transition_is_a_span_and_what_was_said_is_in_none(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, collector: OtlpReceiver
) -> None:
    await world.draw(GRAPH)
    play(llm, {"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]}, {"reply": "A secret answer."})
    session = await world.session()
    turn = await world.enqueue(session.session_id, "A secret question.")
    async with make_worker(otlp_endpoint=collector.http_url) as worker:
        await worker.execute(turn.turn_id)
    (tool,) = collector.named("execute_tool book")
    assert (tool.attributes["gen_ai.tool.name"], tool.attributes["tool.kind"]) == ("book", "transition")
    assert tool.parent_id == collector.named("turn")[0].span_id
    assert len(collector.named("chat claude-sonnet-5")) == 2
    assert "secret" not in str(collector.spans)


async def test_what_was_said_is_in_the_spans_only_when_the_operator_wants_it_there(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, collector: OtlpReceiver
) -> None:
    play(llm, {"reply": "It is sk-ant-0123456789abcdef."})
    session = await world.session()
    turn = await world.enqueue(session.session_id, "What is your key?")
    async with make_worker(otlp_endpoint=collector.http_url, trace_content=True) as worker:
        await worker.execute(turn.turn_id)
    (call,) = collector.named("chat claude-sonnet-5")
    assert "What is your key?" in call.attributes["gen_ai.input.messages"]
    assert "Be helpful." in call.attributes["gen_ai.system_instructions"]
    assert json.loads(call.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "content": "It is sk-ant-***."}
    ]


async def test_a_failure_is_told_with_its_code_on_the_call_and_on_the_turn(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, collector: OtlpReceiver
) -> None:
    play(llm, {"error": {"status": 401, "type": "authentication_error", "message": "No."}})
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    async with make_worker(otlp_endpoint=collector.http_url) as worker:
        assert await worker.execute(turn.turn_id) == "failed"
    for name in ("chat claude-sonnet-5", "turn"):
        (span,) = collector.named(name)
        assert span.attributes["error.type"] == "llm_authentication_failed"
        assert span.error


async def test_a_turn_given_back_was_cancelled_in_the_middle_of_its_call(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, collector: OtlpReceiver
) -> None:
    play(llm, {"hold": "never", "reply": "Never said."})
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    async with make_worker(otlp_endpoint=collector.http_url) as worker:
        running = worker.start(turn.turn_id)
        await llm.wait_for_request(lambda _: True)
        worker.executor.give_back()
        assert await running == "given back"
    (call,) = collector.named("chat claude-sonnet-5")
    assert call.attributes["error.type"] == "cancelled"
    assert collector.named("turn")[0].attributes["turn.outcome"] == "given_back"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("behaviour", ["refuses", "never answers"])
async def test_a_collector_that_is_away_costs_a_turn_nothing_and_an_end_a_few_seconds(
    world: World, make_worker: MakeWorker, protocol: str, behaviour: str
) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    with OtlpReceiver(answers=False) as receiver, socket.create_server(("127.0.0.1", 0)) as unused:
        url = receiver.grpc_url if protocol == "grpc" else receiver.http_url
        if behaviour == "refuses":
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            unused.close()
        async with make_worker(otlp_endpoint=url, otlp_protocol=protocol) as worker:
            began = time.monotonic()
            assert await worker.execute(turn.turn_id) == "completed"
            assert time.monotonic() - began < 5
            began = time.monotonic()
        assert time.monotonic() - began < 20
    assert (await world.row("turns", turn.turn_id)).status == "completed"


async def test_spans_that_a_collector_does_not_take_are_dropped_and_not_heaped_up(
    world: World, make_worker: MakeWorker
) -> None:
    with OtlpReceiver(answers=False) as receiver:
        async with make_worker(otlp_traces_endpoint=f"{receiver.http_url}/v1/traces") as worker:
            sessions = [await world.session() for _ in range(20)]
            turns = [await world.enqueue(session.session_id) for session in sessions]
            endings = await asyncio.gather(*(worker.execute(turn.turn_id) for turn in turns))
    assert set(endings) == {"completed"}


async def test_metrics_are_sent_under_their_documented_names(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM, collector: OtlpReceiver
) -> None:
    await world.draw(GRAPH)
    play(
        llm,
        {"times": 1, "error": {"status": 529, "type": "overloaded_error", "message": "Busy."}},
        {"when": {"tool_offered": "book"}, "reply": [{"tool": "book"}]},
        {"reply": "Done."},
    )
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    async with make_worker(otlp_endpoint=collector.http_url) as worker:
        assert await worker.execute(turn.turn_id) == "retrying"
        await worker.doorbell.wait_for(worker.reference(turn.turn_id))
        assert await worker.execute(turn.turn_id) == "completed"
        await worker.dispatch.drain()

    def value(metric: str, **attributes: str) -> tuple[float, int]:
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        found = [point for point in collector.last(metric).values() if wanted.items() <= dict(point.attributes).items()]
        return sum(point.value for point in found), sum(point.count for point in found)

    assert value(signals.TURNS, turn__outcome="completed")[0] == 1
    assert value(signals.TURNS, turn__outcome="retrying", error__type="llm_overloaded")[0] == 1
    assert value(signals.TURN_RETRIES, error__type="llm_overloaded")[0] == 1
    assert value(signals.TURN_DURATION, turn__outcome="completed")[1] == 1
    assert value(signals.TURNS_RUNNING) == (0, 1)
    assert value(signals.QUEUE_WAIT)[1] == 2
    assert value(signals.LLM_DURATION, gen_ai__provider__name="anthropic")[1] == 3
    assert value(signals.LLM_ERRORS, gen_ai__request__model="claude-sonnet-5", error__type="llm_overloaded")[0] == 1
    assert value(signals.LLM_TIME_TO_FIRST_CHUNK)[1] == 1
    assert value(signals.LLM_TOKENS, gen_ai__token__type="input")[0] > 0
    assert value(signals.LLM_TOKENS, gen_ai__token__type="output")[1] == 2
    assert value(signals.TOOL_DURATION, tool__kind="transition")[1] == 1
    assert value(signals.EVENTS_PUBLISHED)[0] > 4


async def own_collector(world: World, url: str, *, allowed: bool, **traces: Any) -> None:
    settings = {"traces": {"endpoint": url, **traces}, "allowed_hosts": ["127.0.0.1"] if allowed else []}
    await world.execute("UPDATE organizations SET settings = :settings", settings=json.dumps(settings))


async def test_an_organization_s_spans_go_to_its_own_collector_with_its_secret(
    world: World, make_worker: MakeWorker, collector: OtlpReceiver
) -> None:
    key = Fernet.generate_key().decode()
    async with world.database.transaction() as connection:
        await put_secret(
            connection,
            Vault(SecretStr(key)),
            organization_id=world.organization_id,
            name="collector",
            value="authorization=Basic%20abc",
        )
    with OtlpReceiver() as own:
        await own_collector(world, own.http_url, allowed=True, headers_secret="collector", content=True)
        session = await world.session()
        turn = await world.enqueue(session.session_id, "A secret question.")
        async with make_worker(otlp_endpoint=collector.http_url, secret_key=SecretStr(key)) as worker:
            assert await worker.execute(turn.turn_id) == "completed"
        assert {span.trace_id for span in own.spans} == {trace_of(session.session_id)}
        assert "A secret question." in str(own.spans)
        assert own.headers[0]["authorization"] == "Basic abc"
    assert collector.spans == []
    assert any(point.metric == signals.TURNS for point in collector.points), "metrics are the operator's"


async def test_a_turn_that_runs_while_the_collectors_settings_change_is_told_to_its_end(
    world: World, make_worker: MakeWorker, llm: ScriptedLLM
) -> None:
    play(llm, {"times": 1, "hold": "go on", "reply": "At last."}, {"reply": "At once."})
    with OtlpReceiver() as own:
        await own_collector(world, own.http_url, allowed=True)
        slow, quick = [await world.enqueue((await world.session()).session_id) for _ in range(2)]
        async with make_worker() as worker:
            running = worker.start(slow.turn_id)
            await llm.wait_for_request(lambda _: True)
            await own_collector(world, own.http_url, allowed=True, content=True)
            assert await worker.execute(quick.turn_id) == "completed"
            llm.release("go on")
            assert await running == "completed"
        assert {span.attributes["turn.id"] for span in own.named("turn")} == {str(slow.turn_id), str(quick.turn_id)}


async def test_turns_that_begin_together_share_one_connection_to_their_organizations_collector(
    world: World, worker_settings: Settings
) -> None:
    traces = OrganizationTraces(worker_settings, world.database, Telemetry())
    settings = {"traces": {"endpoint": "https://otlp.example", "headers_secret": "none"}}
    with capture_logs() as lines:
        found = await asyncio.gather(*(traces.of(world.organization_id, settings) for _ in range(20)))
    await traces.close()
    assert found == [None] * 20
    assert [line["event"] for line in lines] == [names.SPANS_DROPPED], "the secret was asked for once"


async def test_a_collector_at_an_address_that_is_not_public_gets_nothing_unless_the_operator_allows_its_host(
    world: World, make_worker: MakeWorker
) -> None:
    with OtlpReceiver() as own:
        await own_collector(world, own.http_url, allowed=False)
        session = await world.session()
        turn = await world.enqueue(session.session_id)
        with capture_logs() as lines:
            async with make_worker() as worker:
                assert await worker.execute(turn.turn_id) == "completed"
        assert own.headers == []
    dropped = [line["error"] for line in lines if line["event"] == names.SPANS_DROPPED]
    assert dropped
    assert all("not public (loopback)" in error for error in dropped)


async def test_an_organization_whose_secret_is_missing_is_traced_nowhere_and_served_all_the_same(
    world: World, make_worker: MakeWorker, collector: OtlpReceiver
) -> None:
    await own_collector(world, collector.http_url, allowed=True, headers_secret="none")
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    with capture_logs() as lines:
        async with make_worker(secret_key=SecretStr(Fernet.generate_key().decode())) as worker:
            assert await worker.execute(turn.turn_id) == "completed"
    assert collector.spans == []
    assert [line["event"] for line in lines if line["event"] == names.SPANS_DROPPED]


async def test_the_outcome_says_where_the_trace_is_and_the_checkpoint_does_not(
    world: World, make_worker: MakeWorker
) -> None:
    session = await world.session()
    turn = await world.enqueue(session.session_id)
    clients = ProviderClients()
    async with make_worker(trace_url_template="https://traces.example/{trace_id}") as worker:
        loaded = await worker.executor._loader.load(await world.claim(turn.turn_id))
        outcome = await run_turn(loaded.request, clients=clients)
    await clients.close()
    assert outcome.gathered_context["trace_url"] == f"https://traces.example/{trace_of(session.session_id)}"
    assert "trace_url" not in str(outcome.checkpoint)
