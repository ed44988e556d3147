"""Workers that are killed while a tool runs, or after it: each effect outside happens once for its idempotency key."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.web_server import web_server
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.system import Caller, System
    from tests.web_server import WebServer

CALLS_ONCE: dict[str, Any] = {
    "when": {"tool_offered": "pay"},
    "times": 1,
    "reply": [{"text": "Well."}, {"tool": "pay"}],
}


@dataclass
class Bank:
    """A service outside that pays once for each idempotency key, however often it is asked."""

    server: WebServer
    payments: dict[str, int] = field(default_factory=dict)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def pay(self, request: web.Request) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        self.payments[key] = self.payments.get(key, 0) + 1
        self.asked.release()
        await self.may_answer.wait()
        return web.json_response({"payment": len(self.payments)})


@asynccontextmanager
async def bank() -> AsyncIterator[Bank]:
    async with web_server() as server:
        bank = Bank(server)
        server.handlers["/pay"] = bank.pay
        yield bank
        bank.may_answer.set()


async def paying_session(caller: Caller, bank: Bank, **tool: Any) -> UUID:
    """A session whose agent can pay."""
    async with caller.world.database.transaction() as connection:
        await change_settings(
            connection,
            organization_id=caller.world.organization_id,
            changes={"allowed_hosts": [bank.server.host]},
        )
    definition = {"type": "http_request", "name": "pay", "description": "Pays.", "method": "POST"}
    made = await caller.client.create_tool({**definition, "url": f"{bank.server.url}/pay", **tool})
    data = {"name": "Start", "prompt": "Pay.", "tool_uuids": [str(made.id)]}
    graph = {"nodes": [{"id": "start", "type": "startCall", "position": {"x": 0, "y": 0}, "data": data}], "edges": []}
    workflow = await caller.client.create_workflow("Payments", graph)
    return (await caller.client.create_session(workflow.id, begins_with="user")).id


async def tool_events(caller: Caller, session: UUID) -> list[tuple[str, Any]]:
    log = await caller.log_of(session)
    return [
        (event.type.removeprefix("turn.tool_call_"), (event.payload or {}).get("repeated"))
        for event in log
        if event.type.startswith("turn.tool_call_")
    ]


async def test_a_tool_that_ran_when_its_worker_was_killed_is_run_again_under_its_key_and_the_reply_is_not_asked_again(
    caller: Caller, system: System
) -> None:
    system.play(CALLS_ONCE, {"reply": "It said {tool_result}"})
    async with bank() as shop:
        session = await paying_session(caller, shop)
        turn = await caller.client.enqueue(session, "Pay.")
        await asyncio.wait_for(shop.asked.acquire(), 20)
        killed = await caller.holder(turn.id)
        killed.kill()
        await asyncio.wait_for(shop.asked.acquire(), 20)
        shop.may_answer.set()
        answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.attempt) == ("completed", 2)
    assert str(answered.assistant_text).startswith("Well.\n\nIt said")
    assert list(shop.payments.values()) == [2]
    assert await tool_events(caller, session) == [("started", None), ("started", True), ("result", None)]
    assert len(system.llm.requests) == 2
    assert await caller.holder(turn.id) in system.others(killed)


async def test_a_tool_that_was_finished_when_its_worker_was_killed_is_not_run_again(
    caller: Caller, system: System
) -> None:
    system.play(
        CALLS_ONCE,
        {"times": 1, "hold": "never", "reply": "Never said."},
        {"reply": "Paid."},
    )
    async with bank() as shop:
        shop.may_answer.set()
        session = await paying_session(caller, shop)
        turn = await caller.client.enqueue(session, "Pay.")
        answered_step = "SELECT FROM journal_steps WHERE turn_id = :id AND step ->> 'type' = 'answered'"
        await system.llm.wait_for_request(count=2)
        while not await caller.world.rows(answered_step, id=turn.id):
            pass
        (await caller.holder(turn.id)).kill()
        answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text) == ("completed", "Well.\n\nPaid.")
    assert list(shop.payments.values()) == [1]
    assert await tool_events(caller, session) == [("started", None), ("result", None)]


async def test_a_tool_that_must_not_be_repeated_is_not_and_the_model_is_told_that_nobody_knows_its_outcome(
    caller: Caller, system: System
) -> None:
    system.play(CALLS_ONCE, {"reply": "It said {tool_result}"})
    async with bank() as shop:
        session = await paying_session(caller, shop, repeatable=False)
        turn = await caller.client.enqueue(session, "Pay.")
        await asyncio.wait_for(shop.asked.acquire(), 20)
        (await caller.holder(turn.id)).kill()
        answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert answered.status == "completed"
    assert '"status": "unknown"' in str(answered.assistant_text)
    assert list(shop.payments.values()) == [1]
    assert await tool_events(caller, session) == [("started", None), ("result", None)]
