"""Whose key and address a turn's model is called with, where no stored secret is involved."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from pydantic import SecretStr

from worker.settings import Settings
from worker.storage.database import Database
from worker.turns.model import ModelResolver
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.web_address import NO_HOSTS

if TYPE_CHECKING:
    from worker.engine.request import ResolvedModel

NEVER_ASKED = "postgresql://nobody@127.0.0.1:1/nothing"
OPERATORS = Settings(
    anthropic_api_key=SecretStr("of-anthropic"),
    openai_api_key=SecretStr("of-openai"),
    openai_base_url="https://a.example/v1",
)


async def resolved(provider: str) -> ResolvedModel | None:
    models = await ModelResolver(OPERATORS, Database(NEVER_ASKED, pool_size=1)).resolve(
        organization_id=uuid4(),
        model_defaults={"provider": provider, "model": "m"},
        definition=WorkflowDefinition(),
        allowed_hosts=NO_HOSTS,
    )
    return models.model


@pytest.mark.parametrize(
    ("provider", "key", "base_url"),
    [
        ("anthropic", "of-anthropic", None),
        ("openai", "of-openai", "https://a.example/v1"),
        ("openai-responses", "of-openai", "https://a.example/v1"),
    ],
)
async def test_a_model_without_a_key_of_its_own_is_called_with_the_operators_at_the_operators_address(
    provider: str, key: str, base_url: str | None
) -> None:
    model = await resolved(provider)

    assert model is not None
    assert model.api_key is not None
    assert (model.api_key.get_secret_value(), model.base_url) == (key, base_url)


async def test_a_provider_that_the_operator_has_no_key_for_is_not_configured() -> None:
    assert await resolved("groq") is None
