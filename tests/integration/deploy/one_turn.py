"""A program that imports all of the project and prints the answer of one turn through pipecat, an SDK and HTTP."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil

from pydantic import SecretStr

import api_stub
import worker
from tests.integration.engine.talk import CLINIC, KEY, Talk
from worker.embedded.scripted_llm import ScriptedLLM
from worker.engine.llm.clients import ProviderClients
from worker.engine.request import ResolvedModel
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import WorkflowGraph


def import_everything() -> None:
    """Import every module of the project, but those that do something when they are imported."""
    for package in (worker, api_stub):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith((".__main__", ".migrations.env")):
                importlib.import_module(module.name)


async def answer_to(text: str) -> str | None:
    """What an agent says to this."""
    clients = ProviderClients()
    with ScriptedLLM() as llm:
        model = ResolvedModel(
            provider="anthropic", model="claude-sonnet-5", api_key=SecretStr(KEY), base_url=llm.base_url
        )
        talk = Talk(llm, clients, WorkflowGraph(WorkflowDefinition()), model)
        talk.draw(CLINIC)
        outcome = await talk.turn(text)
    await clients.close()
    return outcome.assistant_text


if __name__ == "__main__":
    import_everything()
    print(asyncio.run(answer_to("Hello")))  # noqa: T201 - its output
