"""Usage and cost, from the ledger to the API and both its clients."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from worker.storage.usage import UsageEntry, record_usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api import Tenant
    from worker.settings import Settings

PRICES = '{"claude-sonnet-5": {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75"}}'


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "prices.json"
    file.write_text(PRICES)
    return settings.model_copy(update={"prices_file": file})


async def use(api: Tenant, turn_id: str, **changes: Any) -> None:
    """Put one call into the ledger."""
    values: dict[str, Any] = {
        "organization_id": api.world.organization_id,
        "turn_id": UUID(turn_id),
        "attempt": 1,
        "call": 1,
        "processor": "AnthropicLLMService",
        "model": "claude-sonnet-5",
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        **changes,
    }
    async with api.world.database.statement() as connection:
        await record_usage(connection, [UsageEntry(**values)])


async def turn_in(api: Tenant, session: dict[str, Any]) -> str:
    return str((await api.turn(session["id"]))["id"])


@pytest.mark.parametrize("half", ["\ud800", "gpt\udfff"])
async def test_a_cursor_with_half_a_character_is_refused(api: Tenant, half: str) -> None:
    cursor = urlsafe_b64encode(json.dumps([half]).encode()).decode()
    refused = await api.http.get("/v1/usage", params={"group_by": "model", "cursor": cursor})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/cursor")


async def test_a_turn_costs_what_all_its_attempts_used(api: Tenant) -> None:
    session = await api.session()
    turn = await api.turn(session["id"])
    attempt = await api.claim(turn)
    await use(api, turn["id"], attempt=1)
    await api.world.fail(attempt)
    await use(api, turn["id"], attempt=2, total_tokens=9200, cache_read_input_tokens=8000)
    used = await api.get(f"/v1/turns/{turn['id']}/usage")
    assert (used["calls"], used["total_tokens"]) == (2, 10_400)
    (line,) = used["models"]
    assert line["cost"] == {"currency": "USD", "amount": "0.0144"}
    assert used["cost"] == {"USD": "0.0144"}
    assert used["unpriced_models"] == []


async def test_a_session_costs_what_its_turns_did(api: Tenant) -> None:
    session, another = await api.session(), await api.session()
    for _ in range(2):
        await use(api, await turn_in(api, session))
    await use(api, await turn_in(api, another))
    used = await api.get(f"/v1/sessions/{session['id']}/usage")
    assert (used["calls"], used["cost"]) == (2, {"USD": "0.012"})


async def test_a_model_without_a_price_is_named_and_its_cost_is_not_guessed(api: Tenant) -> None:
    turn = await turn_in(api, await api.session())
    await use(api, turn)
    await use(api, turn, call=2, model="claude-next")
    used = await api.get(f"/v1/turns/{turn}/usage")
    assert (used["cost"], used["unpriced_models"]) == (None, ["claude-next"])
    assert [line["cost"] for line in used["models"]] == [None, {"currency": "USD", "amount": "0.006"}]


async def test_an_organization_s_own_prices_replace_the_operator_s(api: Tenant) -> None:
    await api.world.execute(
        """UPDATE organizations SET settings =
           '{"prices": {"claude-sonnet-5": {"currency": "EUR", "input": "1", "output": "1"}}}'"""
    )
    turn = await turn_in(api, await api.session())
    await use(api, turn)
    assert (await api.get(f"/v1/turns/{turn}/usage"))["cost"] == {"EUR": "0.0012"}


async def test_usage_is_grouped_by_day_model_workflow_session_and_purpose(api: Tenant) -> None:
    session = await api.session()
    turn = await turn_in(api, session)
    await use(api, turn)
    await use(api, turn, call=2, purpose="extraction", model="claude-haiku-5")
    await api.world.execute("UPDATE usage_entries SET created_at = now() - interval '1 day' WHERE call = 1")

    async def keys(group_by: str) -> list[str]:
        return [group["key"] for group in (await api.get("/v1/usage", group_by=group_by))["data"]]

    assert len(await keys("day")) == 2
    assert await keys("model") == ["claude-haiku-5", "claude-sonnet-5"]
    assert await keys("workflow") == [str(api.world.workflow_id)]
    assert await keys("session") == [session["id"]]
    assert await keys("purpose") == ["conversation", "extraction"]
    (whole,) = (await api.get("/v1/usage"))["data"]
    assert (whole["key"], whole["calls"], whole["total_tokens"]) == (None, 2, 2400)


async def test_only_calls_within_the_span_count(api: Tenant) -> None:
    turn = await turn_in(api, await api.session())
    await use(api, turn)
    await use(api, turn, call=2)
    await api.world.execute("UPDATE usage_entries SET created_at = '2026-03-01T00:00:00Z' WHERE call = 1")
    await api.world.execute("UPDATE usage_entries SET created_at = '2026-03-02T00:00:00Z' WHERE call = 2")
    page = await api.get("/v1/usage", **{"from": "2026-03-01", "to": "2026-03-02", "group_by": "day"})
    assert [(group["key"], group["calls"]) for group in page["data"]] == [("2026-03-01", 1)]


async def test_groups_come_in_pages(api: Tenant) -> None:
    turn = await turn_in(api, await api.session())
    for number, model in enumerate(("c", "B", "a"), 1):
        await use(api, turn, call=number, model=model)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.get("/v1/usage", group_by="model", limit=2, **cursor)
        seen += [group["key"] for group in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ["B", "a", "c"]


async def test_what_an_erased_session_used_stays_in_the_books(api: Tenant) -> None:
    session = await api.session()
    await use(api, await turn_in(api, session))
    assert (await api.http.delete(f"/v1/sessions/{session['id']}")).is_success
    page = await api.get("/v1/usage", group_by="session")
    assert [(group["key"], group["calls"]) for group in page["data"]] == [(None, 1)]


async def test_another_organization_sees_none_of_it(api: Tenant, other: Tenant) -> None:
    session = await api.session()
    turn = await turn_in(api, session)
    await use(api, turn)
    assert (await other.get("/v1/usage"))["data"] == []
    assert (await other.http.get(f"/v1/turns/{turn}/usage")).status_code == 404
    assert (await other.http.get(f"/v1/sessions/{session['id']}/usage")).status_code == 404


@pytest.mark.parametrize(
    "span",
    [
        {"from": "2026-03-02", "to": "2026-03-01"},
        {"from": "2024-01-01", "to": "2026-01-01"},
        {"to": "0001-01-01"},
        {"from": "yesterday"},
        {"group_by": "colour"},
    ],
)
async def test_a_span_that_makes_no_sense_is_refused(api: Tenant, span: dict[str, str]) -> None:
    response = await api.http.get("/v1/usage", params=span)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
