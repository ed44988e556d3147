"""What LLM tokens cost. Amounts are exact decimals, and what has no price has no cost: nothing is guessed."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from pathlib import Path

_PER: Final = Decimal(1_000_000)


class InvalidPrices(TurnWorkerError):
    """The file of prices cannot be used; the message names everything that is wrong with it."""

    code = "invalid_prices"


def _exact(value: object) -> object:
    # JSON's 0.3 is meant as it is written, not as the binary fraction next to it.
    return str(value) if isinstance(value, float) else value


Price = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=20, decimal_places=10)]


class ModelPrice(BaseModel):
    """What a million tokens of one model cost, by kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217, e.g. USD.")] = "USD"
    input: Price = Field(description="Tokens of the prompt that no cache was asked for.")
    output: Price = Field(description="Tokens generated.")
    cache_read: Price | None = Field(default=None, description="Tokens of the prompt that the cache held.")
    cache_write: Price | None = Field(default=None, description="Tokens of the prompt that the cache took.")

    def of(self, *, prompt: int, output: int, cache_read: int, cache_creation: int) -> Decimal | None:
        """What so many tokens cost, in `currency`; None if a kind was used that has no price.

        Args:
            prompt: All of the prompt, whatever the cache held or took of it.
            output: What was generated.
            cache_read: How much of the prompt the cache held.
            cache_creation: How much of the prompt the cache took.
        """
        total = Decimal(0)
        for tokens, price in (
            (prompt - cache_read - cache_creation, self.input),
            (output, self.output),
            (cache_read, self.cache_read),
            (cache_creation, self.cache_write),
        ):
            if tokens and price is None:
                return None
            total += tokens * (price or Decimal(0))
        return total / _PER


def amount_text(amount: Decimal) -> str:
    """An amount as it is written down: exact, without an exponent and without trailing noughts."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


PriceList = dict[str, ModelPrice]
"""Prices by the provider's name of the model."""

_FILE: Final = TypeAdapter(PriceList)


def load_prices(path: Path | None) -> PriceList:
    """Read the operator's prices: a JSON object of prices by model. No file means no prices.

    Raises:
        InvalidPrices: The file cannot be read, or holds something else.
    """
    if path is None:
        return {}
    try:
        return _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidPrices(f"The prices in {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors()]
        raise InvalidPrices("\n".join([f"The prices in {path} cannot be used:", *problems])) from None
