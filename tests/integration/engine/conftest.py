"""Fixtures of the engine's tests: a scripted LLM, clients, and a conversation in each provider's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.integration.engine.talk import CLINIC, KEY, Talk
from tests.service_account import service_account_key
from worker.embedded.scripted_llm import ScriptedLLM
from worker.engine.llm.clients import ProviderClients
from worker.engine.llm.provider import provider
from worker.engine.request import ResolvedModel
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import WorkflowGraph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM() as server:
        yield server


@pytest.fixture
async def clients() -> AsyncIterator[ProviderClients]:
    clients = ProviderClients()
    yield clients
    await clients.close()


@pytest.fixture(params=["anthropic", "openai"])
def model(request: pytest.FixtureRequest, llm: ScriptedLLM) -> ResolvedModel:
    """The scripted LLM, by the two protocols that most providers speak: what the engine promises holds for both.

    A test marked EVERY_PROTOCOL runs with the others too. What is particular to one has a file of its own.
    """
    provider(request.param)  # loads its SDK, so that no test's time limit has to allow for it
    path = "/v1" if request.param.startswith("openai") else ""
    key = service_account_key(llm.base_url) if request.param == "google-vertex" else KEY
    return ResolvedModel(
        provider=request.param, model="claude-sonnet-5", api_key=SecretStr(key), base_url=f"{llm.base_url}{path}"
    )


@pytest.fixture
def talk(llm: ScriptedLLM, clients: ProviderClients, model: ResolvedModel) -> Talk:
    talk = Talk(llm, clients, WorkflowGraph(WorkflowDefinition()), model)
    talk.draw(CLINIC)
    return talk
