"""A cancelled turn stops where it runs, within about a second, whatever it is doing and whatever is away."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tests.web_server import web_server
from worker.storage.organizations import change_settings

if TYPE_CHECKING:
    from aiohttp import web

    from tests.system import Caller, System

# A second, and what a busy machine adds.
SOON = 3.0

STORY = {"reply": "Once upon a time. " * 50, "hold": "rest", "hold_after": 5}


async def test_a_turn_is_cancelled_in_the_middle_of_an_llm_stream_and_the_next_message_is_answered(
    caller: Caller, system: System
) -> None:
    system.play({"when": {"user_contains": "story"}, **STORY})
    session = await caller.session()
    turn = await caller.running(session, "Tell me a story.")
    worker = await caller.holder(turn.id)
    cancelled = await caller.client.cancel_turn(turn.id, reason="too long")
    answered_at = time.monotonic()
    assert (cancelled.status, cancelled.assistant_text) == ("cancelled", None)
    await worker.line("turn.cancelled", turn_id=str(turn.id))
    await _the_llm_sees_that_nobody_reads_on(system)
    assert time.monotonic() - answered_at < SOON
    following = await caller.ask(session, "Then something else.")
    assert following.assistant_text == "You said: Then something else."
    # The cancelled message is no part of the conversation.
    assert system.last_conversation() == ["Then something else."]
    assert (await caller.client.get_turn(turn.id)).status == "cancelled"


async def test_with_redis_away_a_cancelled_turn_stops_all_the_same(caller: Caller, system: System) -> None:
    system.play(STORY)
    turn = await caller.running(await caller.session(), "Tell me a story.")
    worker = await caller.holder(turn.id)
    await asyncio.to_thread(system.redis.stop)
    cancelled = await caller.client.cancel_turn(turn.id)
    answered_at = time.monotonic()
    assert cancelled.status == "cancelled"
    await worker.line("turn.cancelled", turn_id=str(turn.id))
    assert time.monotonic() - answered_at < SOON
    await asyncio.to_thread(system.redis.start)


async def test_a_turn_is_cancelled_in_the_middle_of_a_tool_call_whose_connection_is_closed(
    caller: Caller, system: System
) -> None:
    calls: asyncio.Queue[web.Request] = asyncio.Queue()

    async def never_answer(request: web.Request) -> web.StreamResponse:
        calls.put_nowait(request)
        never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await never

    system.play({"when": {"tool_offered": "look_up"}, "reply": [{"tool": "look_up"}]})
    async with web_server() as server:
        server.handlers["/slow"] = never_answer
        async with caller.world.database.transaction() as connection:
            changes: dict[str, Any] = {"allowed_hosts": [server.host]}
            await change_settings(connection, organization_id=caller.world.organization_id, changes=changes)
        tool = await caller.client.create_tool(
            {"type": "http_request", "name": "look_up", "description": "Look up.", "url": f"{server.url}/slow"}
        )
        data = {"name": "Desk", "prompt": "Help.", "tool_uuids": [str(tool.id)]}
        graph: dict[str, Any] = {"nodes": [{"id": "desk", "type": "startCall", "data": data}], "edges": []}
        workflow = await caller.client.create_workflow("Desk", graph)
        session = await caller.client.create_session(workflow.id, begins_with="user")
        turn = await caller.client.enqueue(session.id, "Look it up.")
        request = await asyncio.wait_for(calls.get(), 10)
        worker = await caller.holder(turn.id)
        cancelled = await caller.client.cancel_turn(turn.id)
        answered_at = time.monotonic()
        assert cancelled.status == "cancelled"
        await worker.line("turn.cancelled", turn_id=str(turn.id))
        async with asyncio.timeout(10):
            while request.transport is not None:
                await caller.client.get_turn(turn.id)
        assert time.monotonic() - answered_at < SOON


async def test_what_was_used_until_the_cancellation_is_in_the_books(caller: Caller, system: System) -> None:
    system.play(STORY)
    turn = await caller.running(await caller.session(), "Tell me a story.")
    worker = await caller.holder(turn.id)
    await caller.client.cancel_turn(turn.id)
    await worker.line("turn.cancelled", turn_id=str(turn.id))
    async with asyncio.timeout(10):
        while not (used := (await caller.client.get_turn(turn.id)).usage["llm"]):
            pass
    ((_, counts),) = used.items()
    assert counts["prompt_tokens"] > 0


async def test_an_interrupting_message_is_answered_together_with_the_one_it_interrupted(
    caller: Caller, system: System
) -> None:
    system.play({"times": 1, **STORY}, {"reply": "A short one, about a cat."})
    session = await caller.session()
    interrupted = await caller.running(session, "Tell me a story.")
    worker = await caller.holder(interrupted.id)
    turn = await caller.client.enqueue(session, "A short one, please.", on_busy="interrupt")
    await worker.line("turn.cancelled", turn_id=str(interrupted.id))
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text) == ("completed", "A short one, about a cat.")
    assert _user_texts(system) == ["Tell me a story.", "A short one, please."]


async def test_messages_typed_in_a_row_become_one_turn(caller: Caller) -> None:
    session = await caller.client.create_session(
        caller.world.workflow_id, begins_with="user", on_busy="merge", merge_window_seconds=1
    )
    turns = [await caller.client.enqueue(session.id, text) for text in ("Hello.", "I have a question.", "It is this.")]
    assert len({turn.id for turn in turns}) == 1
    answered = await caller.client.wait(turns[0].id, timeout_seconds=30)
    assert (answered.status, answered.user_messages) == ("completed", ["Hello.", "I have a question.", "It is this."])


async def test_a_retry_answers_what_a_cancelled_turn_did_not(caller: Caller, system: System) -> None:
    system.play({"times": 1, **STORY}, {"reply": "The end."})
    session = await caller.session()
    turn = await caller.running(session, "Tell me a story.")
    await caller.client.cancel_turn(turn.id)
    retry = await caller.client.retry_turn(turn.id)
    answered = await caller.client.wait(retry.id, timeout_seconds=30)
    assert (answered.status, answered.assistant_text) == ("completed", "The end.")
    assert _user_texts(system) == ["Tell me a story."]


async def test_a_fork_goes_on_from_an_earlier_turn_while_its_source_goes_its_own_way(
    caller: Caller, system: System
) -> None:
    session = await caller.session()
    first = await caller.ask(session, "One.")
    await caller.ask(session, "Two.")
    fork = await caller.client.fork_session(session, first.id)
    await caller.ask(fork.id, "Three.")
    assert system.last_conversation() == ["One.", "You said: One.", "Three."]
    await caller.client.rewind_session(session, None)
    await caller.ask(session, "Anew.")
    assert system.last_conversation() == ["Anew."]


async def test_a_scheduled_turn_runs_when_its_time_comes(caller: Caller) -> None:
    session = await caller.session()
    (row,) = await caller.world.rows("SELECT now() + interval '2 s' AS due")
    turn = await caller.client.enqueue(session, "Later.", not_before=row.due)
    assert turn.status == "scheduled"
    answered = await caller.client.wait(turn.id, timeout_seconds=30)
    assert answered.status == "completed"
    assert answered.first_claimed_at is not None
    assert 0 <= (answered.first_claimed_at - row.due).total_seconds() < SOON


async def _the_llm_sees_that_nobody_reads_on(system: System) -> None:
    gone = await system.llm.wait_for_request(lambda request: request.client_gone)
    assert gone.client_gone


def _user_texts(system: System) -> list[str]:
    """What the user had said when the LLM was asked last, however its API joins messages that follow each other."""
    said: list[Any] = [message for message in system.llm.requests[-1].body["messages"] if message["role"] == "user"]
    blocks = [message["content"] for message in said]
    return [
        text
        for content in blocks
        for text in ([content] if isinstance(content, str) else [block["text"] for block in content])
    ]
