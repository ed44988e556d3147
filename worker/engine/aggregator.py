"""The assistant's half of the context: what the model says and calls goes in, and what it is asked next comes out.

It stands where pipecat's `LLMAssistantAggregator` would. That one writes each of several parallel tool calls as a message
of its own and forgets thinking it has no frame for, so a reply could not go back to its provider as it came, and it says
nothing when a turn is finished. This one works in direct mode, inside whoever pushes a frame: when a push returns,
ledger and transcript are up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipecat.frames.frames import (
    ControlFrame,
    Frame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    LLMUpdateSettingsFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import LLMSettings

from worker.conversation import event
from worker.engine.failures import LLMReplyEmpty
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

    from pipecat.services.llm_service import LLMService

    from worker.engine.capture import Capture
    from worker.engine.llm.calls import LLMCalls
    from worker.engine.llm.reply import EarlyStop, Reply, ToolCall
    from worker.engine.nodes import NodeView, Stage
    from worker.engine.outstanding import Outstanding
    from worker.engine.round import Round
    from worker.engine.tool_runner import ToolRunner
    from worker.engine.transcript import Transcript

_REQUEST: Final = "an LLM request"
_RESPONSE: Final = "an LLM response"


class _Resume(ControlFrame):
    """Starts the tool calls that an earlier attempt left; it travels to the aggregator through a pipeline that stands."""


class ReplyAggregator(FrameProcessor):
    """Follows the model through a turn: reply, tools, next request, until a reply calls for nothing more."""

    def __init__(
        self,
        *,
        llm: LLMService[Any],
        calls: LLMCalls,
        provider_id: str,
        stage: Stage,
        transcript: Transcript,
        tools: ToolRunner,
        capture: Capture,
        outstanding: Outstanding,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(name="ReplyAggregator", enable_direct_mode=True)
        self._llm = llm
        self._calls = calls
        self._provider_id = provider_id
        self._stage = stage
        self._transcript = transcript
        self._tools = tools
        self._capture = capture
        self._outstanding = outstanding
        self._clock = clock
        self._told: NodeView = stage.view
        self._text: list[str] = []
        self._round: Round | None = None
        self._awaited: dict[str, str] = {}
        llm.register_function(None, tools.handle)

    def request(self) -> LLMContextFrame:
        """What the model is asked now."""
        self._outstanding.begin(_REQUEST)
        return LLMContextFrame(self._transcript.request(self._provider_id, self._stage.view.schema))

    def resume(self, begun: Round) -> Frame:
        """What lets the turn go on with tool calls that an earlier attempt began."""
        if not begun.unanswered:  # they were finished beside a model that failed; what they came to is in the context
            return self.request()
        self._expect(begun)
        return _Resume()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take in what the model and the tools say; everything else passes."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            self._text.append(frame.text)
            self._capture.live.add(frame.text)
        elif isinstance(frame, LLMFullResponseStartFrame):
            self._outstanding.begin(_RESPONSE)
            self._outstanding.end(_REQUEST)
            self._capture.live.restart()
        elif isinstance(frame, LLMFullResponseEndFrame):
            reply = self._calls.take_reply()
            if reply is not None:  # None: the call failed, and the turn with it
                await self._take(reply)
                self._outstanding.end(_RESPONSE)
        elif isinstance(frame, FunctionCallResultFrame):
            await self._take_result(frame.tool_call_id)
        elif isinstance(frame, _Resume):
            await self._take_up()
        else:
            await self.push_frame(frame, direction)

    async def _take(self, reply: Reply) -> None:
        said, self._text = "".join(self._text).strip(), []
        try:
            shown = await self._stage.shown(said)
        except TurnWorkerError as error:
            self._outstanding.fail(error)
            return
        self._capture.say(shown)
        stop = reply.early_stop
        if not said and not reply.tool_calls and (stop is None or not stop.is_an_answer):
            why = f" ({stop.reason})" if stop is not None else ""
            self._outstanding.fail(LLMReplyEmpty(f"The model replied with nothing{why}. Try again."))
            return
        if stop is not None:
            self._note_early_stop(stop)
        if reply.message is not None:
            self._transcript.add_reply(reply.message)
        if reply.tool_calls:
            # An end node gets one closing reply, whatever else the model may want of it.
            closing = self._stage.view.ends_session and bool(said)
            begun = await self._tools.begin(reply.tool_calls, number=self._calls.reply_number, closing=closing)
            self._expect(begun)
            await self._run(begun)

    async def _take_up(self) -> None:
        if self._round is not None:
            await self._tools.resume(self._round)
            await self._run(self._round)

    def _expect(self, begun: Round) -> None:
        self._round = begun
        self._awaited = {call.id: _tool_call(call) for call in begun.unanswered}
        for name in self._awaited.values():
            self._outstanding.begin(name)

    async def _run(self, begun: Round) -> None:
        await self._llm.run_function_calls(
            [
                FunctionCallFromLLM(
                    function_name=call.name,
                    tool_call_id=call.id,
                    arguments=call.arguments or {},
                    context=None,
                )
                for call in begun.unanswered
            ]
        )

    async def _take_result(self, tool_call_id: str) -> None:
        name = self._awaited.pop(tool_call_id)
        if self._round is not None and not self._awaited:
            self._transcript.add_tool_results(self._round.ordered_results)
            if not self._round.closing and self._capture.end_reason is None:
                await self._ask_again()
        self._outstanding.end(name)

    async def _ask_again(self) -> None:
        view = self._stage.view
        if view is not self._told:
            self._told = view
            settings = LLMSettings(system_instruction=view.system_prompt or None)
            await self.push_frame(LLMUpdateSettingsFrame(delta=settings), FrameDirection.UPSTREAM)
        await self.push_frame(self.request(), FrameDirection.UPSTREAM)

    def _note_early_stop(self, stop: EarlyStop) -> None:
        self._capture.events.append(event.reply_stopped_early(self._clock(), reason=stop.reason, detail=stop.detail))


def _tool_call(call: ToolCall) -> str:
    return f"the tool call {call.name} ({call.id})"
