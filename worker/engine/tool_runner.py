"""Runs the tool calls of one reply: the ordinary ones side by side, then the first transition, if there is one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import structlog

from worker.conversation import event
from worker.engine.tools.tool import ToolInvocation, ToolResult, idempotency_key
from worker.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    from pipecat.services.llm_service import FunctionCallParams
    from pydantic import JsonValue

    from worker.engine.capture import Capture
    from worker.engine.llm.reply import ToolCall
    from worker.engine.nodes import NodeView, Stage
    from worker.engine.tools.tool import Tool

log = structlog.get_logger(__name__)

DONE: Final[dict[str, JsonValue]] = {"status": "done"}
"""The result of a transition that was followed."""


def error_result(message: str) -> dict[str, JsonValue]:
    """A result that tells the model what went wrong, so that it can go on without."""
    return {"status": "error", "message": message}


class ToolRunner:
    """Knows what the calls of the latest reply mean on the node they were made from, and answers them."""

    def __init__(self, stage: Stage, capture: Capture, clock: Callable[[], datetime], idempotency_root: UUID) -> None:
        self._stage = stage
        self._capture = capture
        self._clock = clock
        self._idempotency_root = idempotency_root
        self._round: _Round | None = None

    def begin(self, calls: Sequence[ToolCall], *, llm_call: int) -> None:
        """Take on the calls of a reply, the turn's `llm_call`-th. `handle` is then called once for each."""
        self._round = _Round(self._stage.view, calls, llm_call)
        for call in calls:
            self._capture.events.append(
                event.tool_call_started(
                    self._clock(), function_name=call.name, tool_call_id=call.id, arguments=call.arguments
                )
            )

    async def handle(self, params: FunctionCallParams) -> None:
        """Answer one call; pipecat's handler for every function, so that none outlives the node it belongs to."""
        current = self._round
        if current is None:
            raise RuntimeError(f"{params.function_name} was called outside of a reply")
        call = current.calls[params.tool_call_id]
        result = await self._answer(current, call)
        self._capture.events.append(
            event.tool_call_result(self._clock(), function_name=call.name, tool_call_id=call.id, result=result)
        )
        await params.result_callback(result)

    async def _answer(self, current: _Round, call: ToolCall) -> JsonValue:
        if call.name in current.view.transitions:
            return await self._follow(current, call)
        try:
            if call.arguments is None:
                return error_result("The arguments are not a JSON object. Call the tool again with valid arguments.")
            tool = current.view.tools.get(call.name)
            if tool is None:
                return error_result(f"There is no tool {call.name!r} at this point of the conversation.")
            return self._apply(tool, await self._run(tool, call, current.llm_call))
        finally:
            current.ordinary_call_ended()

    async def _follow(self, current: _Round, call: ToolCall) -> JsonValue:
        if call.id != current.first_transition:
            return error_result("Another transition of the same reply was followed; only the first one counts.")
        await current.ordinary_calls_ended.wait()
        if self._capture.end_reason is not None:
            return error_result("Another tool of the same reply ended the conversation.")
        try:
            await self._stage.move(current.view.transitions[call.name])
        except Exception:
            log.warning(names.TRANSITION_FAILED, transition=call.name, exc_info=True)
            return error_result("The transition failed and the conversation stays where it was.")
        return dict(DONE)

    async def _run(self, tool: Tool, call: ToolCall, llm_call: int) -> ToolResult:
        invocation = ToolInvocation(
            arguments=call.arguments or {},
            tool_call_id=call.id,
            idempotency_key=idempotency_key(self._idempotency_root, llm_call, call.id),
            initial_context=self._stage.initial_context,
            gathered_context=self._capture.gathered_context,
            now=self._clock(),
            state=self._capture.tool_state.get(_state_key(tool)),
        )
        try:
            result = await tool.run(invocation)
            json.dumps([result.result, dict(result.learned), result.state])  # what JSON cannot hold cannot be stored
        except Exception:
            log.warning(names.TOOL_FAILED, tool=call.name, exc_info=True)
            return ToolResult(result=error_result(f"The tool {call.name!r} failed."))
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


class _Round:
    """The calls of one reply.

    Attributes:
        view: The node they were made from.
        llm_call: The number of the reply within the turn.
        calls: The calls by id.
        first_transition: The id of the transition that counts, if there is any.
        ordinary_calls_ended: Set when every call that is no transition has its result.
    """

    def __init__(self, view: NodeView, calls: Sequence[ToolCall], llm_call: int) -> None:
        self.view = view
        self.llm_call = llm_call
        self.calls = {call.id: call for call in calls}
        transitions = [call.id for call in calls if call.name in view.transitions]
        self.first_transition = transitions[0] if transitions else None
        self._running = len(calls) - len(transitions)
        self.ordinary_calls_ended = asyncio.Event()
        if not self._running:
            self.ordinary_calls_ended.set()

    def ordinary_call_ended(self) -> None:
        self._running -= 1
        if not self._running:
            self.ordinary_calls_ended.set()


def _state_key(tool: Tool) -> str:
    return tool.state_key or tool.name
