"""Runs the tool calls of one reply: the ordinary ones side by side, then the first transition, if there is one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import structlog

from worker.conversation import event
from worker.engine.round import Round
from worker.engine.tools.tool import ToolInvocation, ToolResult, idempotency_key
from worker.telemetry import names, observed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from pipecat.services.llm_service import FunctionCallParams
    from pydantic import JsonValue

    from worker.engine.capture import Capture
    from worker.engine.llm.reply import ToolCall
    from worker.engine.nodes import Stage
    from worker.engine.recorder import Recorder
    from worker.engine.tools.tool import Tool

log = structlog.get_logger(__name__)

DONE: Final[dict[str, JsonValue]] = {"status": "done"}
"""The result of a transition that was followed."""

UNKNOWN_OUTCOME: Final[dict[str, JsonValue]] = {
    "status": "unknown",
    "message": "The call was interrupted and is not made again: it may or may not have taken effect. Find out before you "
    "call the tool again, or say that it is not certain.",
}
"""The result of a call whose tool must not run twice and may have run."""


def error_result(message: str) -> dict[str, JsonValue]:
    """A result that tells the model what went wrong, so that it can go on without."""
    return {"status": "error", "message": message}


class ToolRunner:
    """Knows what the calls of the latest reply mean on the node they were made from, and answers them.

    Args:
        stage: Where the conversation stands.
        capture: Where the effects of the calls go.
        recorder: Writes the steps down.
        clock: The current time, with its zone.
        idempotency_root: What the idempotency keys derive from.
        before_leaving: Awaited before a node is left, with the results that the calls of the reply have so far.
    """

    def __init__(
        self,
        stage: Stage,
        capture: Capture,
        recorder: Recorder,
        clock: Callable[[], datetime],
        idempotency_root: UUID,
        *,
        before_leaving: Callable[[Mapping[str, JsonValue]], Awaitable[None]],
    ) -> None:
        self._stage = stage
        self._capture = capture
        self._recorder = recorder
        self._clock = clock
        self._idempotency_root = idempotency_root
        self._before_leaving = before_leaving
        self._round: Round | None = None

    async def begin(self, calls: Sequence[ToolCall], *, number: int, closing: bool) -> Round:
        """Take on the calls of a reply, the turn's `number`-th. `handle` is then called once for each.

        Raises:
            Exception: The journal does not take them; nothing may run.
        """
        transitions = [call.id for call in calls if call.name in self._stage.view.transitions]
        self._round = Round(calls, number=number, transitions=transitions, closing=closing)
        for call in calls:
            self._note_start(call)
        self._recorder.replied(self._round)
        await self._recorder.starting([call.id for call in calls if self._tool(call) is not None])
        return self._round

    async def resume(self, begun: Round) -> None:
        """Take on what is unanswered of the calls that an earlier attempt began.

        Raises:
            Exception: The journal does not take them; nothing may run.
        """
        self._round = begun
        runnable = [call for call in begun.unanswered if self._tool(call) is not None and not self._is_lost(call)]
        for call in runnable:
            if call.id in begun.started:
                self._note_start(call, repeated=True)
        await self._recorder.starting([call.id for call in runnable if call.id not in begun.started])

    async def handle(self, params: FunctionCallParams) -> None:
        """Answer one call; pipecat's handler for every function, so that none outlives the node it belongs to."""
        if self._round is None:
            raise RuntimeError(f"{params.function_name} was called outside of a reply")
        call = self._round.calls[params.tool_call_id]
        result = await self._answer(self._round, call)
        # From here to the journal nothing waits, so that a call's effects and its result are one step.
        self._capture.events.append(
            event.tool_call_result(self._clock(), function_name=call.name, tool_call_id=call.id, result=result)
        )
        self._recorder.answered(call.id, result)
        self._round.answer(call.id, result)
        await params.result_callback(result)

    def _note_start(self, call: ToolCall, *, repeated: bool = False) -> None:
        self._capture.events.append(
            event.tool_call_started(
                self._clock(),
                function_name=call.name,
                tool_call_id=call.id,
                arguments=call.arguments,
                repeated=repeated,
            )
        )

    def _tool(self, call: ToolCall) -> Tool | None:
        """The tool that a call would run; None for a transition, and for a call that is a mistake of the model's."""
        return None if call.arguments is None else self._stage.view.tools.get(call.name)

    def _is_lost(self, call: ToolCall) -> bool:
        """Whether the call was started, nobody knows how it ended, and it cannot be started again to find out."""
        tool = self._tool(call)
        return self._round is not None and call.id in self._round.started and (tool is None or not tool.repeatable)

    async def _answer(self, current: Round, call: ToolCall) -> JsonValue:
        if call.id in current.transitions:
            return await self._follow(current, call)
        if self._is_lost(call):
            return dict(UNKNOWN_OUTCOME)
        if call.arguments is None:
            return error_result("The arguments are not a JSON object. Call the tool again with valid arguments.")
        tool = self._tool(call)
        if tool is None:
            return error_result(f"There is no tool {call.name!r} at this point of the conversation.")
        return self._apply(tool, await self._run(tool, call, current))

    async def _follow(self, current: Round, call: ToolCall) -> JsonValue:
        if call.id != current.transitions[0]:
            return error_result("Another transition of the same reply was followed; only the first one counts.")
        await current.ordinary_calls_ended()
        if self._capture.end_reason is not None:
            return error_result("Another tool of the same reply ended the conversation.")
        with observed.tool_call(call.name, call.id, kind="transition", arguments=call.arguments) as watched:
            try:
                await self._before_leaving(current.results)
                await self._stage.move(self._stage.view.transitions[call.name])
            except Exception:
                log.warning(names.TRANSITION_FAILED, transition=call.name, exc_info=True)
                watched.failed("transition_failed")
                return error_result("The transition failed and the conversation stays where it was.")
        return dict(DONE)

    async def _run(self, tool: Tool, call: ToolCall, current: Round) -> ToolResult:
        invocation = ToolInvocation(
            arguments=call.arguments or {},
            tool_call_id=call.id,
            idempotency_key=idempotency_key(self._idempotency_root, current.number, call.id),
            repeated=call.id in current.started,
            initial_context=self._stage.initial_context,
            gathered_context=self._capture.gathered_context,
            now=self._clock(),
            state=self._capture.tool_state.get(_state_key(tool)),
        )
        with observed.tool_call(call.name, call.id, kind="tool", arguments=call.arguments) as watched:
            try:
                result = await tool.run(invocation)
                # What JSON cannot hold cannot be stored.
                json.dumps([result.result, dict(result.learned), result.state], allow_nan=False)
            except Exception:
                log.warning(names.TOOL_FAILED, tool=call.name, exc_info=True)
                watched.failed("tool_failed")
                return ToolResult(result=error_result(f"The tool {call.name!r} failed."))
            watched.returned(result.result)
        return result

    def _apply(self, tool: Tool, result: ToolResult) -> JsonValue:
        """Let a call have its effects on the conversation, and return what the model sees of it."""
        self._capture.say(result.message)
        for name, value in result.learned.items():
            self._capture.learn(name, value)
        if result.state is not None:
            self._capture.tool_state[_state_key(tool)] = result.state
        self._capture.events.extend(result.events)
        self._capture.end_reason = self._capture.end_reason or result.end_reason
        return result.result


def _state_key(tool: Tool) -> str:
    return tool.state_key or tool.name
