"""Whose a base URL is decides where it may lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.world import definition
from worker.storage.organizations import change_settings, set_model_defaults
from worker.storage.workflows import put_definition

if TYPE_CHECKING:
    from tests.integration.turns.conftest import Worker
    from tests.world import World
    from worker.embedded.scripted_llm import ScriptedLLM


async def asked(world: World, worker: Worker) -> Any:
    session = await world.session()
    turn = await world.enqueue(session.session_id, "Hi.")
    await worker.execute(turn.turn_id)
    return await world.row("turns", turn.turn_id)


@pytest.fixture
async def own_address(world: World, llm: ScriptedLLM) -> str:
    """The workflow wants another address of its own; returns its host."""
    base_url = f"{llm.base_url}/"
    wanted = definition() | {"workflow_configurations": {"model_overrides": {"base_url": base_url}}}
    async with world.database.transaction() as connection:
        await put_definition(
            connection, organization_id=world.organization_id, workflow_id=world.workflow_id, definition=wanted
        )
    return urlsplit(base_url).netloc


async def test_a_definitions_base_url_may_not_lead_into_the_operators_network(
    world: World, worker: Worker, own_address: str
) -> None:
    turn = await asked(world, worker)
    assert (turn.status, turn.error["code"]) == ("failed", "llm_address_refused")


async def test_a_definitions_base_url_may_lead_to_a_host_the_operator_allows(
    world: World, worker: Worker, own_address: str
) -> None:
    async with world.database.transaction() as connection:
        await change_settings(
            connection, organization_id=world.organization_id, changes={"allowed_hosts": [own_address]}
        )
    assert (await asked(world, worker)).status == "completed"


async def test_the_organizations_defaults_are_the_operators_and_may_lead_anywhere(
    world: World, worker: Worker, llm: ScriptedLLM
) -> None:
    async with world.database.transaction() as connection:
        await set_model_defaults(
            connection, organization_id=world.organization_id, model_defaults={"base_url": llm.base_url}
        )
    assert (await asked(world, worker)).status == "completed"
