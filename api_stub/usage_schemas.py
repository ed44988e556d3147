"""What the API answers about usage and cost. Amounts of money are decimals written as text, exact to the last digit."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_PART = "; part of the prompt"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Money(_Answer):
    """An amount of money."""

    currency: str = Field(description="ISO 4217.")
    amount: str = Field(description="A decimal.", examples=["0.0123"])


class ModelUsage(_Answer):
    """What the calls of one model used."""

    processor: str = Field(description="What made the calls.")
    model: str
    calls: int = Field(description="How many calls the provider answered.")
    prompt_tokens: int = Field(description="In the provider's own counting, with or without what a cache held or took.")
    completion_tokens: int
    total_tokens: int = Field(description="Everything, counted once.")
    cache_read_input_tokens: int = Field(description=f"What a cache held{_PART}.")
    cache_creation_input_tokens: int = Field(description=f"What a cache took{_PART}.")
    cost: Money | None = Field(description="null: the model, or a kind of token that was used, has no price.")


class Usage(_Answer):
    """What some calls used and cost, those of failed, cancelled and lost attempts included."""

    calls: int
    total_tokens: int
    cost: dict[str, str] | None = Field(
        description="The sum by currency; null as soon as a model has no price, for a sum without it would be wrong."
    )
    unpriced_models: list[str] = Field(description="The models that have no price, or none for a kind of token used.")
    models: list[ModelUsage] = Field(description="Each model by itself.")


class UsageGroup(Usage):
    """What the calls with the same key used."""

    key: str | None = Field(
        description="The day (UTC), model, purpose, or id of the workflow or session; null if there is no grouping, or "
        "the session was erased."
    )


class UsagePage(_Answer):
    """What the organization used in a span of time, in the order of the groups' keys."""

    since: datetime
    until: datetime
    group_by: Literal["day", "model", "workflow", "session", "purpose"] | None
    data: list[UsageGroup]
    next_cursor: str | None = Field(description="Pass it as `cursor` to go on; null at the end.")
