"""Watching over the silence of a provider, and the clients that are shared."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from worker.engine.failures import InvalidModelParameters, UnknownLLMProvider
from worker.engine.llm import clients as clients_module
from worker.engine.llm.calls import SilenceWatch
from worker.engine.llm.clients import ProviderClients
from worker.engine.llm.provider import check_parameters, provider
from worker.engine.request import ResolvedModel


def model(key: str) -> ResolvedModel:
    return ResolvedModel(
        provider="anthropic", model="claude-sonnet-5", api_key=SecretStr(key), base_url="http://localhost"
    )


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
