"""Whatever a turn does, and wherever it is cut off, going on from its journal gives what it would have given."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.engine.talk import ANTHROPIC, MemoryJournal
from worker.conversation.checkpoint import Checkpoint
from worker.conversation.event import TOOL_CALL_STARTED
from worker.engine.journal import Answered, Replied, Started
from worker.engine.tool_runner import UNKNOWN_OUTCOME
from worker.engine.tools.tool import Tool, ToolInvocation, ToolResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.engine.talk import Talk
    from worker.engine.outcome import TurnOutcome

ORDINARY = ("note", "pay", "missing")
"""One that may be repeated, one that may not, and one that no node has."""

a_round = st.tuples(st.booleans(), st.lists(st.sampled_from((*ORDINARY, "move")), min_size=1, max_size=4))
a_turn = st.tuples(st.lists(a_round, max_size=4), st.sampled_from(("talk", "hang_up")))


@dataclass
class World:
    """What tools did outside: each effect by its idempotency key, and how often it was asked for."""

    asked_for: list[ToolInvocation] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)

    async def run(self, invocation: ToolInvocation) -> ToolResult:
        self.asked_for.append(invocation)
        number = self.effects.setdefault(invocation.idempotency_key, int(str(invocation.arguments["number"])))
        return ToolResult(
            result={"number": number},
            message=f"Did {number}.",
            learned={f"did_{number}": True},
            state=[number],
            end_reason="left" if invocation.arguments.get("ends") else None,
        )

    def tools(self) -> list[Tool]:
        return [
            Tool(name="note", description="May be repeated.", run=self.run),
            Tool(name="pay", description="May not.", run=self.run, repeatable=False),
            Tool(name="hang_up", description="Ends the session.", run=self.run),
        ]


def script(rounds: Sequence[tuple[bool, Sequence[str]]], end: str) -> list[dict[str, Any]]:
    """The replies of the model, one for each round, in which `move` is the way to the other of two nodes."""
    replies: list[Any] = []
    number, node = 0, "start"
    for talks, names in rounds:
        parts: list[dict[str, Any]] = [{"text": f"Round {len(replies)}."}] if talks else []
        for name in names:
            number += 1
            way = "book" if node == "start" else "back"
            parts.append({"tool": way} if name == "move" else {"tool": name, "input": {"number": number}})
        if "move" in names:
            node = "book" if node == "start" else "start"
        replies.append(parts)
    replies.append([{"tool": "hang_up", "input": {"number": 0, "ends": True}}] if end == "hang_up" else "Done.")
    return [{"times": 1, "reply": reply} for reply in replies]


async def run(
    talk: Talk, replies: Sequence[dict[str, Any]], journal: MemoryJournal, request: Any
) -> tuple[TurnOutcome, World]:
    world = World()
    talk.tools.by_node = {"start": world.tools(), "book": world.tools()}
    done = [step for step in journal.steps if isinstance(step, Replied)]
    talk.script(*replies[len(done) :])
    return await talk.run(request, journal), world


def comparable(outcome: TurnOutcome) -> Any:
    """An outcome without what a repetition may show, and with calls named in the order in which they came."""
    shown = {
        "text": outcome.assistant_text,
        "checkpoint": outcome.checkpoint.to_json(),
        "state": outcome.session_state,
        "events": sorted(json.dumps(event.to_json()) for event in outcome.events if "repeated" not in event.payload),
    }
    text = json.dumps(shown)
    ids = [str(event.payload["tool_call_id"]) for event in outcome.events if event.type == TOOL_CALL_STARTED]
    for number, call_id in enumerate(dict.fromkeys(ids)):
        text = text.replace(call_id, f"call-{number}")
    shown = json.loads(text)
    shown["events"] = sorted(shown["events"])
    return shown


def expect_effects(journal: MemoryJournal, full: World, resumed: World) -> bool:
    """Nothing finished was run again, and what was running has its old key. Whether an outcome is left unknown."""
    answered = {step.call_id for step in journal.steps if isinstance(step, Answered)}
    started = {call_id for step in journal.steps if isinstance(step, Started) for call_id in step.call_ids}
    keys = {invocation.tool_call_id: invocation.idempotency_key for invocation in full.asked_for}
    names = {call.id: call.name for step in journal.steps if isinstance(step, Replied) for call in step.calls}
    for invocation in resumed.asked_for:
        call_id = invocation.tool_call_id
        assert call_id not in answered
        assert invocation.repeated == (call_id in started)
        if call_id in names:
            assert invocation.idempotency_key == keys[call_id]
            assert not (invocation.repeated and names[call_id] == "pay")
    asked_for = [invocation.idempotency_key for invocation in resumed.asked_for]
    assert len(asked_for) == len(set(asked_for))
    return any(names[str(call_id)] == "pay" for call_id in started - answered)


@ANTHROPIC
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=a_turn)
async def test_a_turn_cut_off_after_any_step_comes_to_the_same_and_runs_no_finished_tool_again(
    talk: Talk, plan: tuple[list[tuple[bool, list[str]]], str]
) -> None:
    replies = script(*plan)
    talk.checkpoint = Checkpoint()
    request = talk.request("Hello", max_llm_calls=len(replies))
    whole = MemoryJournal()
    outcome, world = await run(talk, replies, whole, request)
    for length in range(len(whole.lines) + 1):
        journal = MemoryJournal(whole.lines[:length])
        resumed, again = await run(talk, replies, journal, request)
        if expect_effects(journal, world, again):
            assert str(UNKNOWN_OUTCOME["message"]) in json.dumps(resumed.checkpoint.to_json())
        else:
            assert comparable(resumed) == comparable(outcome)
        # Going on once more, from what the second attempt wrote too, runs nothing at all.
        third, nothing = await run(talk, replies, MemoryJournal(journal.lines), request)
        assert nothing.asked_for == []
        assert comparable(third) == comparable(resumed)
