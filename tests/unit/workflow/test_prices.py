from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from worker.workflow.organization_settings import OrganizationSettings
from worker.workflow.prices import InvalidPrices, ModelPrice, amount_text, load_prices

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

SONNET = ModelPrice.model_validate({"input": "3", "output": 15, "cache_read": 0.3, "cache_write": "3.75"})


def test_each_kind_of_token_has_its_own_price_and_the_sum_is_exact() -> None:
    # 1,000 of the prompt were plain, 8,000 read from the cache and 1,000 written to it.
    cost = SONNET.of(prompt=10_000, output=500, cache_read=8_000, cache_creation=1_000)
    assert cost == Decimal("0.003") + Decimal("0.0024") + Decimal("0.00375") + Decimal("0.0075")


def test_a_kind_of_token_that_was_used_and_has_no_price_leaves_the_cost_unknown() -> None:
    price = ModelPrice(input=Decimal(3), output=Decimal(15))
    assert price.of(prompt=10, output=1, cache_read=0, cache_creation=0) == Decimal("0.000045")
    assert price.of(prompt=10, output=1, cache_read=5, cache_creation=0) is None


@pytest.mark.parametrize(
    ("amount", "written"), [("0.0100", "0.01"), ("100", "100"), ("1E-7", "0.0000001"), ("0", "0"), ("1E+2", "100")]
)
def test_an_amount_is_written_out(amount: str, written: str) -> None:
    assert amount_text(Decimal(amount)) == written


def test_prices_come_from_a_file_and_none_from_no_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"gpt-5-mini": {"currency": "EUR", "input": 0.25, "output": "2"}}')
    assert load_prices(file)["gpt-5-mini"] == ModelPrice(currency="EUR", input=Decimal("0.25"), output=Decimal(2))
    assert load_prices(None) == {}


def test_everything_that_is_wrong_with_a_file_of_prices_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"a": {"input": -1, "output": "x"}, "b": {"input": "1", "output": "1", "currency": "dollars"}}')
    with pytest.raises(InvalidPrices) as refused:
        load_prices(file)
    for place in ("a.input", "a.output", "b.currency"):
        assert place in str(refused.value)
    with pytest.raises(InvalidPrices, match="cannot be read"):
        load_prices(tmp_path / "none.json")


def test_an_organization_s_prices_are_stored_as_exactly_as_they_were_given() -> None:
    given: dict[str, JsonValue] = {"claude-sonnet-5": {"input": 0.1, "output": "15"}}
    settings = OrganizationSettings().changed({"prices": given})
    assert settings.document() == {"prices": {"claude-sonnet-5": {"input": "0.1", "output": "15"}}}
    assert OrganizationSettings.model_validate(settings.document()) == settings
