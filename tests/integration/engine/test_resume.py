"""A turn that goes on from its journal: nothing that was finished is done, or said, again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.integration.engine.talk import ANTHROPIC, NOW, MemoryJournal, model_of
from worker.conversation.event import HAND_OVER, NODE_TRANSITION, TOOL_CALL_RESULT, TOOL_CALL_STARTED, hand_over
from worker.conversation.user_message import Image, UserMessage
from worker.engine.failures import LLMOverloaded, TooManyLLMCalls, TurnTimeout
from worker.engine.journal import Answered, Replied, Started
from worker.engine.replay import CALLED_OFF, carry_over
from worker.engine.tool_runner import UNKNOWN_OUTCOME
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from tests.integration.engine.talk import Talk
    from worker.engine.journal import Step
    from worker.engine.outcome import TurnOutcome

BUSY = {"error": {"status": 529, "type": "overloaded_error", "message": "Busy."}}


@dataclass
class Effects:
    """What tools did outside, in order."""

    seen: list[ToolInvocation] = field(default_factory=list)

    def tool(self, name: str, *, repeatable: bool = True, **effects: Any) -> Tool:
        async def run(invocation: ToolInvocation) -> ToolResult:
            self.seen.append(invocation)
            return ToolResult(result=f"{name} done", **effects)

        return Tool(name=name, description=f"Does {name}.", run=run, repeatable=repeatable)


@pytest.fixture
def effects() -> Effects:
    return Effects()


def kinds(outcome: TurnOutcome, kind: str) -> list[dict[str, Any]]:
    return [event.payload for event in outcome.events if event.type == kind]


def calls(*names: str, text: str = "") -> dict[str, Any]:
    return {"times": 1, "reply": [*([{"text": text}] if text else []), *({"tool": name} for name in names)]}


async def interrupted(talk: Talk, *rules: dict[str, Any], **changes: Any) -> tuple[Any, MemoryJournal]:
    """A turn whose last LLM call failed for now, and what it wrote."""
    talk.script(*rules, BUSY)
    request, journal = talk.request("Go on", **changes), MemoryJournal()
    with pytest.raises(LLMOverloaded):
        await talk.run(request, journal)
    return request, journal


async def test_a_plain_turn_writes_nothing(talk: Talk) -> None:
    journal = MemoryJournal()
    await talk.run(talk.request("Hi"), journal)
    assert journal.lines == []


async def test_a_finished_tool_is_not_run_again_and_its_result_is_answered(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay", message="Paid.", learned={"paid": True}, state=[1])]
    request, journal = await interrupted(talk, calls("pay", text="One moment."))
    talk.script({"reply": "It said {tool_result}"})

    outcome = await talk.run(request, MemoryJournal(journal.lines))

    assert len(effects.seen) == 1
    assert outcome.assistant_text == 'One moment.\n\nPaid.\n\nIt said "pay done"'
    assert outcome.gathered_context["paid"] is True
    assert outcome.checkpoint.tool_state == {"pay": [1]}
    assert [event.type for event in outcome.events] == [TOOL_CALL_STARTED, TOOL_CALL_RESULT]
    assert [message["role"] for message in outcome.checkpoint.messages] == ["user", "assistant", "tool", "assistant"]


async def test_the_reply_is_in_the_journal_before_its_first_tool_runs(talk: Talk) -> None:
    journal = MemoryJournal()
    written: list[str] = []

    async def run(_: ToolInvocation) -> ToolResult:
        written.extend(json.loads(line)["type"] for line in journal.lines)
        return ToolResult(result="noted")

    talk.at("book")
    talk.tools.by_node["book"] = [Tool(name="note", description="Notes.", run=run)]
    talk.script(calls("note"), {"reply": "Noted."})
    await talk.run(talk.request("Note this"), journal)
    assert written == ["replied", "started"]


async def test_a_tool_that_was_running_is_run_again_with_the_same_key_and_marked_as_repeated(
    talk: Talk, effects: Effects
) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    request, journal = await interrupted(talk, calls("pay"))
    talk.script({"reply": "Paid."})

    outcome = await talk.run(request, MemoryJournal(journal.lines[:-1]))

    first, second = effects.seen
    assert (first.idempotency_key, first.tool_call_id) == (second.idempotency_key, second.tool_call_id)
    assert (first.repeated, second.repeated) == (False, True)
    assert [start.get("repeated") for start in kinds(outcome, TOOL_CALL_STARTED)] == [None, True]
    assert len(kinds(outcome, TOOL_CALL_RESULT)) == 1


@ANTHROPIC
async def test_a_model_that_cannot_be_told_what_a_resumed_call_came_to_is_stood_in_for_by_the_fallback(
    talk: Talk, effects: Effects
) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    picture = UserMessage("Pay this", (Image(url="https://a.example/bill.png"),))
    talk.script(calls("pay"), BUSY)
    request, journal = talk.request(picture), MemoryJournal()
    with pytest.raises(LLMOverloaded):
        await talk.run(request, journal)
    talk.script({"reply": "Paid."})
    # Bedrock takes no pictures by address: that is found out while the request is written, before anything is asked.
    bedrock = model_of(talk, provider="aws", model="anthropic.claude-sonnet-4")

    outcome = await talk.run(
        replace(request, model=bedrock, fallback_model=request.model), MemoryJournal(journal.lines[:-1])
    )

    assert outcome.assistant_text == "Paid."
    assert [message["role"] for message in outcome.checkpoint.messages] == ["user", "assistant", "tool", "assistant"]


async def test_a_call_that_was_not_started_yet_is_run_for_the_first_time(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay", repeatable=False)]
    request, journal = await interrupted(talk, calls("pay"))
    effects.seen.clear()
    talk.script({"reply": "Paid."})

    resumed = MemoryJournal(journal.lines[:1])
    outcome = await talk.run(request, resumed)

    (invocation,) = effects.seen
    assert not invocation.repeated
    assert len(kinds(outcome, TOOL_CALL_STARTED)) == 1
    assert [json.loads(line)["type"] for line in resumed.lines] == ["replied", "started", "answered"]


async def test_a_tool_that_must_not_be_repeated_is_not_and_the_model_is_told_that_its_outcome_is_unknown(
    talk: Talk, effects: Effects
) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay", repeatable=False)]
    request, journal = await interrupted(talk, calls("pay"))
    talk.script({"reply": "I cannot tell."})

    outcome = await talk.run(request, MemoryJournal(journal.lines[:-1]))

    assert len(effects.seen) == 1
    (result,) = kinds(outcome, TOOL_CALL_RESULT)
    assert result["result"] == UNKNOWN_OUTCOME
    assert json.loads(str(outcome.checkpoint.messages[2]["content"])) == UNKNOWN_OUTCOME


async def test_of_parallel_calls_only_those_without_a_result_are_run(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool(name) for name in ("a", "b", "c")]
    request, journal = await interrupted(talk, calls("a", "b", "c"))
    (answered,) = [n for n, line in enumerate(journal.lines) if '"b done"' in line]
    kept = [*journal.lines[:2], journal.lines[answered]]
    effects.seen.clear()
    talk.script({"reply": "Done."})

    outcome = await talk.run(request, MemoryJournal(kept))

    assert len(effects.seen) == 2
    contents = [message["content"] for message in outcome.checkpoint.messages if message["role"] == "tool"]
    assert contents == ['"a done"', '"b done"', '"c done"']


async def test_a_change_of_node_is_not_repeated_and_its_prompt_and_tools_are_those_of_the_new_node(talk: Talk) -> None:
    talk.at("start")
    request, journal = await interrupted(talk, calls("book"))
    talk.script({"reply": "When?"})

    outcome = await talk.run(request, MemoryJournal(journal.lines))

    assert outcome.checkpoint.current_node_id == "book"
    assert outcome.assistant_text == "One moment, Ada.\n\nWhen?"
    assert len(kinds(outcome, NODE_TRANSITION)) == 1
    assert "Book." in str(talk.llm.requests[-1].system)
    assert set(talk.llm.requests[-1].tools) == {"back", "booked"}


async def test_a_second_transition_of_the_reply_is_still_the_second_after_the_first_was_followed(talk: Talk) -> None:
    talk.at("start")
    request, journal = await interrupted(talk, calls("book", "leave"))
    moved = [line for line in journal.lines if '"node_id"' in line or '"replied"' in line]
    talk.script({"reply": "When?"})

    outcome = await talk.run(request, MemoryJournal(moved))

    assert outcome.checkpoint.current_node_id == "book"
    results = [json.loads(str(m["content"]))["status"] for m in outcome.checkpoint.messages if m["role"] == "tool"]
    assert results == ["done", "error"]


async def test_a_tool_that_ended_the_session_ends_it_without_asking_the_model_again(
    talk: Talk, effects: Effects
) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("hang_up", end_reason="caller_left", message="Goodbye.")]
    talk.script(calls("hang_up"))
    request, journal = talk.request("Bye"), MemoryJournal()
    ended = await talk.run(request, journal)
    talk.llm.clear()

    resumed = await talk.run(request, MemoryJournal(journal.lines))

    assert talk.llm.requests == []
    assert len(effects.seen) == 1
    assert replace(resumed, usage=ended.usage) == ended
    assert resumed.session_state == "completed"


async def test_the_greeting_of_an_opening_is_not_said_twice(talk: Talk, effects: Effects) -> None:
    talk.tools.by_node["start"] = [effects.tool("look")]
    request, journal = await interrupted(talk, calls("look"))
    talk.script({"reply": "Here."})

    outcome = await talk.run(request, MemoryJournal(journal.lines))

    assert outcome.assistant_text == "Hello Ada.\n\nHere."
    assert outcome.events[0].type == NODE_TRANSITION
    assert len(kinds(outcome, NODE_TRANSITION)) == 1


async def test_replies_are_counted_over_all_attempts_so_that_keys_stay_apart(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    root = UUID(int=7)
    request, journal = await interrupted(talk, calls("pay"), retry_root_id=root)
    talk.script(calls("pay"), {"reply": "Paid twice, as you wished."})

    await talk.run(request, second := MemoryJournal(journal.lines))

    numbers = [step.number for step in MemoryJournal(second.lines).steps if isinstance(step, Replied)]
    assert numbers == [1, 2]
    assert len({invocation.idempotency_key for invocation in effects.seen}) == 2


async def test_the_limit_of_llm_calls_holds_over_all_attempts(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    request, journal = await interrupted(talk, calls("pay"), calls("pay"))
    talk.script({"reply": [{"tool": "pay"}]})

    with pytest.raises(TooManyLLMCalls):
        await talk.run(replace(request, max_llm_calls=3), MemoryJournal(journal.lines))

    assert len(effects.seen) == 3


@ANTHROPIC
async def test_a_tool_does_not_start_before_its_start_is_journalled_and_the_limit_names_what_it_waits_for(
    talk: Talk, effects: Effects
) -> None:
    class Away(MemoryJournal):
        async def written(self) -> None:
            await asyncio.Event().wait()

    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    talk.script(calls("pay"))

    with pytest.raises(TurnTimeout, match="the journal"):
        await talk.run(talk.request("Pay", time_limit_seconds=0.3), Away())

    assert effects.seen == []


@ANTHROPIC
async def test_a_journal_that_refuses_a_step_stops_the_turn_before_the_tool_runs(talk: Talk, effects: Effects) -> None:
    class Refused(TurnWorkerError):
        code = "refused"

    class Refusing(MemoryJournal):
        async def written(self) -> None:
            raise Refused("somebody else has the turn")

    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    talk.script(calls("pay"))

    with pytest.raises(Refused):
        await talk.run(talk.request("Pay"), Refusing())

    assert effects.seen == []


async def test_what_the_user_said_meanwhile_is_heard_after_the_results(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("pay")]
    request, journal = await interrupted(talk, calls("pay"))
    talk.script({"reply": "All done."})
    request = replace(request, user_messages=(UserMessage("Go on"), UserMessage("And hurry")))

    outcome = await talk.run(request, MemoryJournal(journal.lines))
    said = [message.get("content") for message in outcome.checkpoint.messages if message["role"] != "assistant"]
    assert said == ["Go on", '"pay done"', "And hurry"]
    assert talk.llm.requests[-1].user_text == "And hurry"


def steps_of(journal: MemoryJournal) -> list[Step]:
    return list(MemoryJournal(journal.lines).steps)


async def test_a_turn_that_interrupts_another_takes_over_its_finished_calls_and_none_that_was_running(
    talk: Talk, effects: Effects
) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("look", message="Looking."), effects.tool("pay")]
    request, journal = await interrupted(talk, calls("look", "pay", text="One moment."))
    lines = [line for line in journal.lines if '"pay done"' not in line]
    effects.seen.clear()
    talk.script({"reply": "Stopped."})
    carried = MemoryJournal()
    carried.steps = carry_over(steps_of(MemoryJournal(lines)), NOW)

    request = replace(request, turn_id=uuid4(), user_messages=(UserMessage("Go on"), UserMessage("Stop!")))
    outcome = await talk.run(request, carried)

    assert effects.seen == []
    assert outcome.assistant_text == "Stopped."
    results = [json.loads(str(m["content"])) for m in outcome.checkpoint.messages if m["role"] == "tool"]
    assert results == ["look done", CALLED_OFF]
    assert [m["content"] for m in outcome.checkpoint.messages if m["role"] == "user"] == ["Go on", "Stop!"]
    assert len(kinds(outcome, TOOL_CALL_RESULT)) == 2


async def test_a_hand_over_that_was_interrupted_is_told_to_nobody(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    told = hand_over(NOW, reason="handed_over", destination="desk", summary="Wants a person.")
    ending: dict[str, Any] = {"end_reason": "handed_over", "learned": {"call_disposition": "handed_over"}}
    talk.tools.by_node["book"] = [effects.tool("hand_over", events=[told], **ending)]
    talk.script(calls("hand_over"), {"reply": "As you like."})
    journal = MemoryJournal()
    ended = await talk.run(talk.request("A person, please"), journal)
    assert (ended.completed, len(kinds(ended, HAND_OVER))) == (True, 1)
    carried = MemoryJournal()
    carried.steps = carry_over(steps_of(journal), NOW)
    talk.at("book")

    outcome = await talk.run(talk.request("A person, please", "No, wait!"), carried)

    assert (outcome.assistant_text, outcome.completed) == ("As you like.", False)
    assert kinds(outcome, HAND_OVER) == []
    assert "call_disposition" not in outcome.gathered_context


def test_a_turn_that_interrupts_another_before_it_called_anything_takes_over_nothing() -> None:
    assert carry_over([], NOW) == []


async def test_steps_come_back_from_json_as_they_were(talk: Talk, effects: Effects) -> None:
    talk.at("book")
    talk.tools.by_node["book"] = [effects.tool("look", message="Ein \ud83d Halbes.", learned={"a": [1, 1.0, None]})]
    _, journal = await interrupted(talk, calls("look"))
    steps = steps_of(journal)
    assert [type(step) for step in steps] == [Replied, Started, Answered]
    again = MemoryJournal()
    for step in steps:
        again.record(step)
    assert again.lines == journal.lines
