"""Puts prices to what was used."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.storage.usage_report import ModelTotals
    from worker.workflow.prices import ModelPrice


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount of money."""

    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class PricedUsage:
    """What some calls used and cost.

    Attributes:
        cost: By currency; None as soon as one model has no price, since the sum of the others would be read as the whole.
        unpriced_models: The models that have no price, or none for a kind of token that was used.
        models: Each model by itself, with its cost if it has one.
    """

    calls: int
    total_tokens: int
    cost: Mapping[str, Decimal] | None
    unpriced_models: tuple[str, ...]
    models: tuple[tuple[ModelTotals, Cost | None], ...]


def priced(models: Iterable[ModelTotals], prices: Mapping[str, ModelPrice]) -> PricedUsage:
    """Put prices to the totals of some models."""
    lines = tuple((totals, _cost(totals, prices)) for totals in models)
    sums: dict[str, Decimal] = {}
    for _, cost in lines:
        if cost is not None:
            sums[cost.currency] = sums.get(cost.currency, Decimal(0)) + cost.amount
    unpriced = tuple(dict.fromkeys(totals.model for totals, cost in lines if cost is None))
    return PricedUsage(
        calls=sum(totals.calls for totals, _ in lines),
        total_tokens=sum(totals.total_tokens for totals, _ in lines),
        cost=None if unpriced else sums,
        unpriced_models=unpriced,
        models=lines,
    )


def _cost(totals: ModelTotals, prices: Mapping[str, ModelPrice]) -> Cost | None:
    price = prices.get(totals.model)
    if price is None:
        return None
    amount = price.of(
        # The total counts everything once, whatever the provider's own way of counting the prompt.
        prompt=totals.total_tokens - totals.completion_tokens,
        output=totals.completion_tokens,
        cache_read=totals.cache_read_input_tokens,
        cache_creation=totals.cache_creation_input_tokens,
    )
    return None if amount is None else Cost(price.currency, amount)
