"""Watching over the silence of a provider, and the clients that are shared."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from anthropic._models import construct_type
from anthropic.types.beta import BetaRawMessageStreamEvent
from pydantic import SecretStr

from worker.engine.failures import (
    InvalidModelParameters,
    LLMReplyCutShort,
    LLMStreamBroken,
    LLMTimeout,
    TurnFailed,
    UnknownLLMProvider,
)
from worker.engine.llm import clients as clients_module
from worker.engine.llm.anthropic import AnthropicReader
from worker.engine.llm.calls import LLMCalls
from worker.engine.llm.clients import ProviderClients
from worker.engine.llm.provider import check_parameters, provider
from worker.engine.llm.reply_stream import ReplyStream, SilenceWatch
from worker.engine.request import LLMCall, ResolvedModel

if TYPE_CHECKING:
    from worker.engine.llm.reply import Reply


def model(key: str) -> ResolvedModel:
    return ResolvedModel(
        provider="anthropic", model="claude-sonnet-5", api_key=SecretStr(key), base_url="http://localhost"
    )


class Source:
    """A provider's stream that says so much and then ends, in as good an order as HTTP knows."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.closed = False
        self._events = iter(events)

    async def __anext__(self) -> Any:
        for event in self._events:
            return construct_type(type_=BetaRawMessageStreamEvent, value=event)
        raise StopAsyncIteration

    async def close(self) -> None:
        self.closed = True


class SilentSource(Source):
    """One that says so much and then nothing more, without ending."""

    def __init__(self, *events: dict[str, Any]) -> None:
        super().__init__(*events)
        self.silent = asyncio.Event()

    async def __anext__(self) -> Any:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self.silent.set()
            return await asyncio.get_running_loop().create_future()


class Calls:
    """The calls of one attempt, and what was heard of them."""

    def __init__(self, silence_seconds: float = 60) -> None:
        self.ended: list[LLMCall] = []
        self.failures: list[TurnFailed] = []
        self.calls = LLMCalls(
            provider="anthropic",
            processor="AnthropicLLMService",
            model="claude-sonnet-5",
            limit=2,
            silence_seconds=silence_seconds,
            classify=lambda error, _: TurnFailed(repr(error)),
            on_end=self.ended.append,
            on_failure=self.failures.append,
        )

    async def stream(self, source: Source) -> ReplyStream:
        async def send() -> Source:
            return source

        return await self.calls.stream(send, {}, AnthropicReader())

    async def ask(self, source: Source) -> Reply:
        async def send() -> Source:
            return source

        return await self.calls.ask(send, {}, AnthropicReader())


HELLO = (
    {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
)
STOPPED: dict[str, Any] = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 2},
}
STOP: dict[str, Any] = {"type": "message_stop"}


async def test_a_stream_that_ends_before_its_reply_does_is_a_broken_one() -> None:
    heard = Calls()
    source = Source(*HELLO)

    with pytest.raises(LLMStreamBroken):
        [event async for event in await heard.stream(source)]

    (failure,) = heard.failures
    assert isinstance(failure, LLMStreamBroken)
    assert source.closed
    assert heard.calls.take_reply() is None
    assert [call.number for call in heard.ended] == [1]


async def test_a_reply_that_nobody_reads_to_its_end_is_closed_and_counted() -> None:
    heard = Calls()
    source = Source(*HELLO)
    stream = await heard.stream(source)
    await anext(stream)

    await heard.calls.aclose()
    await heard.calls.aclose()

    assert source.closed
    assert heard.failures == []
    assert [call.usage.prompt_tokens for call in heard.ended] == [3]


async def test_a_complete_reply_can_be_taken_once() -> None:
    heard = Calls()
    stream = await heard.stream(Source(*HELLO, STOPPED, STOP))

    assert len([event async for event in stream]) == 1

    reply = heard.calls.take_reply()
    assert reply is not None
    assert reply.message == {"role": "assistant", "content": "Hello"}
    assert heard.calls.take_reply() is None


async def test_a_side_question_is_answered_without_a_word_to_the_conversation() -> None:
    heard = Calls()
    stream = await heard.stream(Source(*HELLO, STOPPED, STOP))

    reply = await heard.ask(Source(*HELLO, STOPPED, STOP))

    assert reply.text == "Hello"
    assert heard.calls.take_reply() is None
    assert len([event async for event in stream]) == 1
    assert heard.calls.take_reply() is not None
    assert sorted(call.number for call in heard.ended) == [1, 2]
    assert heard.calls.reply_number == 1


async def test_a_side_question_that_breaks_off_is_its_askers_failure_alone_and_counted() -> None:
    heard = Calls()
    source = Source(*HELLO)

    with pytest.raises(LLMStreamBroken):
        await heard.ask(source)

    assert heard.failures == []
    assert source.closed
    assert [call.usage.prompt_tokens for call in heard.ended] == [3]


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
async def test_an_answer_that_is_not_whole_is_none(reason: str) -> None:
    heard = Calls()
    cut_short = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}}

    with pytest.raises(LLMReplyCutShort, match=reason):
        await heard.ask(Source(*HELLO, cut_short, STOP))

    assert len(heard.ended) == 1


async def test_silence_ends_a_side_question_and_closes_its_stream() -> None:
    heard = Calls(silence_seconds=0.05)
    source = SilentSource(*HELLO)

    with pytest.raises(LLMTimeout, match="said nothing"):
        await heard.ask(source)

    assert heard.failures == []
    assert source.closed
    assert len(heard.ended) == 1


async def test_a_side_question_that_is_cancelled_is_closed_and_counted() -> None:
    heard = Calls()
    source = SilentSource(*HELLO)
    question = asyncio.create_task(heard.ask(source))
    await source.silent.wait()

    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question

    assert source.closed
    assert [call.usage.prompt_tokens for call in heard.ended] == [3]


async def test_silence_is_noticed() -> None:
    silent = asyncio.Event()
    SilenceWatch(0.01, silent.set)

    await silent.wait()


async def test_a_watch_that_was_stopped_notices_nothing() -> None:
    noticed: list[str] = []
    done = asyncio.Event()
    SilenceWatch(0.01, lambda: noticed.append("stopped")).stop()
    SilenceWatch(0.03, done.set)

    await done.wait()

    assert noticed == []


async def test_hearing_something_puts_silence_off() -> None:
    loop = asyncio.get_running_loop()
    silent = asyncio.Event()
    began = loop.time()
    watch = SilenceWatch(0.05, silent.set)
    loop.call_later(0.03, watch.heard)

    await silent.wait()

    assert loop.time() - began >= 0.08


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "MAX_IDLE_CLIENTS", 2)


async def test_only_so_many_idle_clients_are_kept_and_the_oldest_go_first(room_for_two: None) -> None:
    clients = ProviderClients()
    lent: dict[str, Any] = {}
    for key in ("a", "b", "a", "c"):
        async with clients.lend(model(key)) as (_, client):
            assert lent.setdefault(key, client) is client

    assert [lent[key].is_closed() for key in "abc"] == [False, True, False]
    await clients.close()
    assert all(client.is_closed() for client in lent.values())


async def test_a_client_in_use_is_never_closed_to_make_room(room_for_two: None) -> None:
    clients = ProviderClients()
    async with clients.lend(model("in use")) as (_, busy):
        for key in "abc":
            async with clients.lend(model(key)):
                pass
        assert not busy.is_closed()
    await clients.close()


def test_the_known_providers_are_listed_for_one_that_is_not() -> None:
    with pytest.raises(UnknownLLMProvider, match="Known are anthropic, openai"):
        provider("Anthropic")


def test_parameters_that_belong_to_the_engine_are_named() -> None:
    with pytest.raises(InvalidModelParameters, match="messages, tools"):
        check_parameters({"tools": [], "messages": [], "top_k": 3})
