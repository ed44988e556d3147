"""Base URLs given by tenants lead to public addresses and allowed hosts only, by every provider's SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.integration.engine.talk import EVERY_PROTOCOL
from tests.web_server import web_server
from worker.engine.failures import LLMAddressRefused, LLMConnectionFailed, LLMRequestInvalid
from worker.workflow.web_address import NO_HOSTS, AllowedHosts

if TYPE_CHECKING:
    from tests.integration.engine.talk import Talk

pytestmark = EVERY_PROTOCOL


async def test_a_tenants_base_url_that_leads_to_a_private_address_fails_the_turn_for_good(talk: Talk) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, allowed_hosts=NO_HOSTS)
    with pytest.raises(LLMAddressRefused, match="allowed hosts") as failed:
        await talk.turn("Hello?")
    assert not failed.value.retryable
    assert talk.llm.requests == []


async def test_a_tenants_base_url_may_lead_to_a_host_that_is_allowed(talk: Talk) -> None:
    assert talk.model is not None
    host = urlsplit(str(talk.model.base_url)).netloc
    talk.model = replace(talk.model, allowed_hosts=AllowedHosts.of([host]))
    talk.at("start")
    talk.script({"reply": "Hello over there."})
    assert (await talk.turn("Hello?")).assistant_text == "Hello over there."


async def test_a_client_of_an_allowed_host_is_not_lent_to_whom_it_is_not_allowed(talk: Talk) -> None:
    assert talk.model is not None
    model = talk.model
    host = urlsplit(str(model.base_url)).netloc
    await talk.turn("Hello?", model=replace(model, allowed_hosts=AllowedHosts.of([host])))
    with pytest.raises(LLMAddressRefused):
        await talk.turn("Hello?", model=replace(model, allowed_hosts=NO_HOSTS))


async def test_a_tenants_base_url_that_nobody_listens_at_is_a_transient_failure(talk: Talk) -> None:
    assert talk.model is not None
    talk.model = replace(talk.model, base_url="http://127.0.0.1:1", allowed_hosts=AllowedHosts.of(["127.0.0.1"]))
    with pytest.raises(LLMConnectionFailed, match=r"127\.0\.0\.1:1"):
        await talk.turn("Hello?")


async def test_a_redirect_of_a_tenants_base_url_is_not_followed(talk: Talk) -> None:
    async with web_server() as server:
        for path in (
            "/v1/messages",
            "/chat/completions",
            "/responses",
            "/v1beta/models/claude-sonnet-5:streamGenerateContent",
            "/model/claude-sonnet-5/converse-stream",
        ):
            server.answer(path, "", status=307, headers={"Location": "http://127.0.0.2/"})
        assert talk.model is not None
        talk.model = replace(talk.model, base_url=server.url, allowed_hosts=AllowedHosts.of([server.host]))
        with pytest.raises(LLMRequestInvalid):
            await talk.turn("Hello?")
        assert len(server.received) == 1
