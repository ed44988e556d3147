"""Conversations through the real system, as a service that uses it holds them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import worker.embedded
from worker.embedded.scripted_llm import Script

if TYPE_CHECKING:
    from typing import Any
    from uuid import UUID

    from tests.system import Caller, System

_EXAMPLES = Path(worker.embedded.__file__).parent / "examples"
_README = Path(__file__).parents[2] / "README.md"
_EXPORTED = Path(__file__).parents[1] / "unit" / "workflow" / "data" / "exported_workflow.json"

DETAILS_PLEASE = "May I have your full name and date of birth, and in a few words the reason of your visit?"
CONFIRM_PLEASE = (
    "Let me check that with you: Wednesday at 14:00 with Dr. Lindqvist, for Ada Lovelace, born on 10 December 1985. "
    "Is everything right?"
)
GOODBYE = "We expect you on Wednesday at 14:00; please come ten minutes early. Thank you, and goodbye!"


async def test_a_conversation_with_the_clinic_runs_from_post_to_its_end_and_all_of_it_is_heard_over_redis(
    caller: Caller, system: System
) -> None:
    system.llm.set_script(Script.from_file(_EXAMPLES / "clinic_script.json"))
    clinic = await caller.client.create_workflow("Clinic", json.loads((_EXAMPLES / "clinic.json").read_text()))
    session = await caller.client.create_session(clinic.id, initial_context={"patient_name": "Ada"})
    said = iter(
        (
            "I have a question: is there parking?",
            "Then I would like to come on Wednesday.",
            "Ada Lovelace, born 10 December 1985, for a check-up.",
            "Yes, perfect.",
        )
    )
    heard, answers = [], []
    async with (
        asyncio.timeout(60),
        caller.client.subscribe(session_id=session.id, redis_url=system.redis.url) as events,
    ):
        async for event in events:
            heard.append(event)
            if event.type == "turn.completed":
                answers.append((await caller.client.get_turn(str(event.turn_id))).assistant_text)
                if (text := next(said, None)) is not None:
                    await caller.client.enqueue(session.id, text)
    assert [answer.split("\n\n") for answer in answers if answer] == [
        ["Hello Ada, this is Riverside Clinic. Would you like to book an appointment, or do you have a question?"],
        ["Yes, you can park for free behind the building, at 12 Mill Lane. Which of the free times would you like?"],
        ["Good choice, I am holding that time for you.", DETAILS_PLEASE],
        [CONFIRM_PLEASE],
        ["Your appointment is booked.", GOODBYE],
    ]
    assert [event.sequence for event in heard] == list(range(1, len(heard) + 1))
    assert [(event.sequence, event.type) for event in heard] == [
        (event.sequence, event.type) for event in await caller.log_of(session.id)
    ]
    ended = await caller.client.get_session(session.id)
    assert (ended.state, ended.current_node_id) == ("completed", "goodbye")
    assert ended.gathered_context["nodes_visited"] == [
        "Reception", "Answer questions", "Choose a time", "Patient details", "Confirm", "Goodbye",
    ]  # fmt: skip


async def test_an_exported_workflow_is_accepted_and_its_agent_answers(caller: Caller, system: System) -> None:
    system.play({"when": {"tool_offered": "sales"}, "reply": [{"tool": "sales"}]})
    exported = await caller.client.create_workflow("Exported", json.loads(_EXPORTED.read_text()))
    session = await caller.client.create_session(exported.id, begins_with="user")
    turn = await caller.ask(session.id, "Hello.")
    assert (turn.status, turn.assistant_text) == ("completed", "You said: Hello.")


async def test_two_messages_sent_at_once_are_answered_one_after_the_other_in_their_order(
    caller: Caller, system: System
) -> None:
    system.play({"when": {"user_turn": 1}, "hold": "first", "reply": "Heard the first."})
    session = await caller.session()
    # Which of them is the first in line is for the API to say.
    messages = ["One.", "Another."]
    turns = await asyncio.gather(*(caller.client.enqueue(session, message) for message in messages))
    if [turn.position for turn in turns] == [2, 1]:
        turns.reverse()
        messages.reverse()
    await _are_answered_in_order(caller, system, session, [turn.id for turn in turns], messages)


async def test_the_order_of_two_messages_is_kept_when_redis_is_flushed_between_them(
    caller: Caller, system: System
) -> None:
    system.play({"when": {"user_turn": 1}, "hold": "first", "reply": "Heard the first."})
    session = await caller.session()
    first = await caller.client.enqueue(session, "The first.")
    with system.broker() as broker:
        broker.flushall()
        second = await caller.client.enqueue(session, "The second.")
        broker.flushall()
    await _are_answered_in_order(caller, system, session, [first.id, second.id], ["The first.", "The second."])


async def _are_answered_in_order(
    caller: Caller, system: System, session: UUID, turns: list[UUID], messages: list[str]
) -> None:
    first, second = turns
    await system.llm.wait_for_request(lambda request: request.user_text == messages[0])
    assert (await caller.client.get_turn(second)).status == "pending"
    system.llm.release("first")
    answered = await caller.client.wait(second, timeout_seconds=30)
    assert (answered.status, answered.parent_turn_id) == ("completed", first)
    completed = [event.turn_id for event in await caller.log_of(session) if event.type == "turn.completed"]
    assert completed == turns
    assert system.last_conversation() == [messages[0], "Heard the first.", messages[1]]


async def test_an_enqueue_repeated_with_its_idempotency_key_is_one_turn_answered_once(
    caller: Caller, system: System
) -> None:
    session = await caller.session()
    turns = await asyncio.gather(
        *(caller.client.enqueue(session, "Once.", idempotency_key="one wish") for _ in range(5))
    )
    (turn_id,) = {turn.id for turn in turns}
    answered = await caller.client.wait(turn_id)
    assert (await caller.client.enqueue(session, "Once.", idempotency_key="one wish")).id == turn_id
    assert (answered.status, answered.attempt) == ("completed", 1)
    assert len((await caller.client.list_turns(session)).data) == 1
    assert len(system.llm.requests) == 1


async def test_the_readmes_example_holds_a_conversation_and_follows_it_to_its_end(
    caller: Caller, system: System
) -> None:
    system.play({"reply": "Yes."})
    example, *_ = re.findall(r"```python\n(from api_stub.client .*?)```", _README.read_text(), re.DOTALL)
    example = example.replace("http://127.0.0.1:8080", system.url).replace("twk_...", caller.key)
    loop = asyncio.get_running_loop()
    printed: list[tuple[Any, ...]] = []

    async def end() -> None:
        await caller.client.end_session(names["session"].id)

    def note(*values: Any) -> None:
        printed.append(values)
        if values[-1] == "turn.completed":
            asyncio.run_coroutine_threadsafe(end(), loop).result()

    names: dict[str, Any] = {"workflow_id": caller.world.workflow_id, "print": note}
    async with asyncio.timeout(60):
        await asyncio.to_thread(exec, example, names)
    assert [answer for (answer,) in printed[:2]] == ["Yes.", "Yes."]
    events = printed[2:]
    assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
    assert [type_ for _, type_ in events].count("turn.completed") == 2
    assert "session.ended" in dict(events).values()
