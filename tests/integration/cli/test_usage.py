from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def used(done: Callable[..., str], database_url: str) -> None:
    """Two calls of two models, in the books of Acme."""
    organization = done("org", "create", "Acme").strip()
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number, model in enumerate(("claude-sonnet-5", "claude-next"), 1):
            connection.execute(
                """INSERT INTO usage_entries
                   (organization_id, turn_id, attempt, call, processor, model, prompt_tokens, completion_tokens, total_tokens)
                   VALUES (%s, %s, 1, %s, 'AnthropicLLMService', %s, 1000, 200, 1200)""",
                [organization, uuid4(), number, model],
            )


def test_usage_and_cost_are_shown_by_model_and_what_has_no_price_is_named(
    done: Callable[..., str], used: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"claude-sonnet-5": {"input": "3", "output": "15"}}))
    monkeypatch.setenv("TURN_WORKER_PRICES_FILE", str(prices))
    heading, unpriced, priced = done("usage", "--org", "Acme", "--group-by", "model").splitlines()
    assert heading.split() == ["MODEL", "CALLS", "TOKENS", "COST", "WITHOUT", "A", "PRICE"]
    assert unpriced.split() == ["claude-next", "1", "1,200", "unknown", "claude-next"]
    assert priced.split() == ["claude-sonnet-5", "1", "1,200", "0.006", "USD"]


def test_every_group_is_shown_however_many_there_are(done: Callable[..., str], used: None, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO usage_entries
               (organization_id, turn_id, attempt, call, processor, model, prompt_tokens, completion_tokens, total_tokens)
               SELECT organization_id, turn_id, 1, 10 + number, processor, 'm' || number, 1, 1, 2
               FROM usage_entries, generate_series(1, 2000) AS number WHERE call = 1"""
        )
    shown = done("usage", "--org", "Acme", "--group-by", "model").splitlines()
    assert len(shown) == len({line.split()[0] for line in shown}) == 1 + 2 + 2000


def test_a_time_that_ends_before_it_begins_is_refused(command: Callable[..., Result], used: None) -> None:
    result = command("usage", "--org", "Acme", "--from", "2026-03-01", "--to", "2026-02-01")
    assert result.exit_code == 2
    assert "--from" in result.stderr
    assert "2026-02-01" in result.stderr


def test_prices_that_cannot_be_used_are_one_clear_message(
    command: Callable[..., Result], used: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURN_WORKER_PRICES_FILE", str(tmp_path / "none.json"))
    result = command("usage", "--org", "Acme")
    assert result.exit_code == 1
    assert "none.json cannot be read" in result.stderr
