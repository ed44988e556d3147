"""One attempt at one turn: `await run_turn(request, clients=clients)`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from worker.conversation import event
from worker.engine.aggregator import ReplyAggregator
from worker.engine.capture import Capture
from worker.engine.compaction import Compaction, has_moved
from worker.engine.extraction import Extraction
from worker.engine.failures import BlankUserMessage, LLMNotConfigured, TurnFailed, TurnTimeout
from worker.engine.live_text import LiveText
from worker.engine.llm.borrowed import borrow
from worker.engine.nodes import Stage
from worker.engine.outcome import TurnOutcome
from worker.engine.outstanding import Outstanding
from worker.engine.pipeline import finished, running_pipeline
from worker.engine.recorder import Recorder
from worker.engine.recordings import RecordedSpeech
from worker.engine.replay import replay
from worker.engine.side_question import SideQuestions
from worker.engine.tool_runner import ToolRunner
from worker.engine.transcript import Transcript
from worker.workflow.definition import StartCallNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipecat.frames.frames import Frame
    from pipecat.services.llm_service import LLMService
    from pydantic import JsonValue

    from worker.engine.journal import Journal
    from worker.engine.live_text import TextSink
    from worker.engine.llm.borrowed import BorrowedModel
    from worker.engine.llm.clients import ProviderClients
    from worker.engine.recordings import Recordings
    from worker.engine.request import ResolvedModel, TurnRequest, UsageLedger
    from worker.engine.round import Round
    from worker.engine.tools.tool import NodeTools

END_NODE_REASON: Final = "user_qualified"
"""Why a session ends that came to an end node: the conversation went all the way."""

_First: TypeAlias = "Callable[[ReplyAggregator], Frame]"


def utc_now() -> datetime:
    """The time, for everything a turn dates."""
    return datetime.now(UTC)


async def run_turn(
    request: TurnRequest,
    *,
    clients: ProviderClients,
    usage_ledger: UsageLedger | None = None,
    tools: NodeTools | None = None,
    recordings: Recordings | None = None,
    journal: Journal | None = None,
    text_sink: TextSink | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> TurnOutcome:
    """Run one attempt at a turn, from a conversation's checkpoint to its next one.

    Needs no database and no queue. Nothing of the request is changed, and nothing is left running: cancelling the task
    stops what the turn started, its HTTP stream included, and raises `CancelledError` on.

    Args:
        request: The turn.
        clients: The SDK clients of this event loop.
        usage_ledger: Told of every LLM call as it ends, also in attempts that come to nothing.
        tools: Knows the tools of the nodes; None for none but transitions.
        recordings: Knows the organization's recordings; None for none.
        journal: What earlier attempts did, from which this one goes on, and where it writes its own steps; None for none.
        text_sink: Gets what the user reads while it is being said; None for nobody.
        clock: The current time, with its zone.

    Raises:
        TurnFailed: The attempt failed; its type says whether another may succeed.
        UnknownNode: The checkpoint stands on a node that the definition does not have.
    """
    turn = _Turn(
        request,
        clients=clients,
        usage_ledger=usage_ledger,
        tools=tools,
        recordings=recordings,
        journal=journal,
        text_sink=text_sink,
        clock=clock,
    )
    limit = asyncio.timeout(request.time_limit_seconds)
    try:
        async with limit:
            await turn.run()
        return turn.outcome()
    except TimeoutError:
        if not limit.expired():
            raise
        failure = TurnTimeout(request.time_limit_seconds, turn.outstanding.names)
        raise turn.capture.close_failed(failure) from None
    except TurnFailed as failure:
        raise turn.capture.close_failed(failure) from failure.__cause__
    finally:
        turn.let_go()


class _Turn:
    """The parts of one attempt and the order they act in."""

    def __init__(
        self,
        request: TurnRequest,
        *,
        clients: ProviderClients,
        usage_ledger: UsageLedger | None,
        tools: NodeTools | None,
        recordings: Recordings | None,
        journal: Journal | None,
        text_sink: TextSink | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.request = request
        self.clients = clients
        self.clock = clock
        self.initial_context = _with_runtime_configuration(request)
        self.capture = Capture(
            request.checkpoint.gathered_context,
            usage_ledger,
            clock,
            request.checkpoint.tool_state,
            LiveText(text_sink),
        )
        self.outstanding = Outstanding()
        self.transcript = Transcript(request.checkpoint.messages)
        self.stage = Stage(
            graph=request.graph,
            tools=tools,
            recorded=RecordedSpeech(recordings, self.capture, clock),
            initial_context=self.initial_context,
            capture=self.capture,
            clock=clock,
        )
        self.progress = replay(
            journal.steps if journal is not None else (),
            node_id=request.checkpoint.current_node_id,
            transcript=self.transcript,
            capture=self.capture,
        )
        self.recorder = Recorder(
            journal,
            transcript=self.transcript,
            capture=self.capture,
            stage=self.stage,
            outstanding=self.outstanding,
            node_id=self.progress.node_id,
            heard=len(request.user_messages),
        )
        self.deadline = asyncio.get_running_loop().time() + request.time_limit_seconds
        self.call_numbers = count(1)
        self.replies = self.progress.replies
        self.asked = False
        self.ended = False

    async def run(self) -> None:
        """Enter the node, open, answer, end; or go on from where an earlier attempt was."""
        self.capture.live.begin()
        entered = await self.stage.begin(self.progress.node_id)
        if self.progress.round is not None:
            await self._go_on(self.progress.round)
        else:
            greeted = entered and await self._greet()
            for content in self._unheard():
                self.transcript.add_user(content)
            if self.request.user_messages or not greeted:
                await self._answer()
        if (reason := self._end_reason()) is not None:
            self._end(reason)

    def outcome(self) -> TurnOutcome:
        """What the turn came to."""
        checkpoint = replace(
            self.request.checkpoint,
            anchor_turn_id=str(self.request.turn_id),
            current_node_id=self.stage.view.node.id,
            messages=self.transcript.finished(),
            gathered_context=self.capture.gathered_context,
            tool_state=self.capture.tool_state,
        )
        return TurnOutcome(
            assistant_text=self.capture.assistant_text,
            assistant_created_at=self.capture.assistant_created_at,
            events=tuple(self.capture.events),
            usage=self.capture.usage,
            checkpoint=checkpoint,
            gathered_context=self._told_context(),
            initial_context=self.initial_context,
            session_state="completed" if self.ended else "running",
        )

    def let_go(self) -> None:
        """Give up the conversation when the turn is over.

        pipecat's processors refer to one another, so what they refer to stays until the garbage is collected: a long
        conversation for each turn of it.
        """
        self.transcript.replace(())
        del self.request

    def _told_context(self) -> dict[str, JsonValue]:
        """What the conversation has learned, with what is only for whoever reads it."""
        url = self.request.trace_url
        return self.capture.gathered_context if url is None else {**self.capture.gathered_context, "trace_url": url}

    async def _greet(self) -> bool:
        node = self.stage.view.node
        greeting = await self.stage.greeting(node) if isinstance(node, StartCallNode) else ""
        if greeting:
            self.capture.say(greeting)
            self.transcript.add_assistant(greeting)
        return bool(greeting)

    def _unheard(self) -> list[JsonValue]:
        """The content of what the user said that has not come into the context yet."""
        messages = self.request.user_messages[self.progress.heard :]
        contents = [replace(message, text=message.text.strip()).content for message in messages]
        if not all(contents):
            raise BlankUserMessage("A user message holds nothing but white space. Send text, or no message at all.")
        return contents

    async def _go_on(self, begun: Round) -> None:
        """Finish the tool calls that an earlier attempt began, and what follows from them."""
        if begun.unanswered:
            # Nothing is unheard then: `carry_over` leaves no call open to a turn with further messages.
            await self._answer(lambda aggregator: aggregator.resume(begun))
            return
        self.transcript.add_tool_results(begun.ordered_results)
        unheard = self._unheard()
        for content in unheard:
            self.transcript.add_user(content)
        over = begun.closing or self.capture.end_reason is not None
        if unheard or not over:
            await self._answer()
        elif self.request.model is not None:
            await self._answer(None)

    def _model(self) -> ResolvedModel:
        if self.request.model is None:
            raise LLMNotConfigured(
                "No language model is configured for this organization or definition. Name one: turn-worker config set."
            )
        return self.request.model

    async def _answer(self, first: _First | None = ReplyAggregator.request) -> None:
        """Let the model and its tools take turns until there is nothing more to do, then learn from what was said.

        Args:
            first: How that begins; None when it is over already.
        """
        try:
            await self._converse(self._model(), first)
        except TurnFailed as failure:
            fallback = self.request.fallback_after(failure)
            if fallback is None:
                raise
            self.capture.fall_back(failure, fallback)
            # What the first model's calls and their tools came to stands; only its last, failed reply is asked for anew.
            self.outstanding.reset()
            await self._converse(fallback, ReplyAggregator.request if self.asked else first)

    async def _converse(self, model: ResolvedModel, first: _First | None) -> None:
        async with borrow(
            self.clients,
            model,
            limit=self.request.max_llm_calls,
            on_end=self.capture.count,
            on_failure=self.outstanding.fail,
            made=self.replies,
            numbers=self.call_numbers,
        ) as borrowed:
            questions = SideQuestions(borrowed.asking, self.outstanding, self._seconds_left)
            extraction = Extraction(questions.ask, self.stage.render, self.capture, self.clock)
            if first is not None:
                llm = borrowed.conversing(self.stage.view.system_prompt)
                aggregator = self._aggregator(llm, borrowed, extraction)
                try:
                    async with running_pipeline(llm, aggregator, self.outstanding) as pipeline:
                        await pipeline.queue_frame(first(aggregator))
                        await finished(pipeline, self.outstanding)
                finally:
                    self.asked = self.asked or borrowed.calls.reply_number > self.replies
                    self.replies = borrowed.calls.replies_taken
            await self._look_back(extraction, Compaction(questions, self.capture, self.clock))

    def _aggregator(self, llm: LLMService[Any], borrowed: BorrowedModel, extraction: Extraction) -> ReplyAggregator:
        tools = ToolRunner(
            self.stage,
            self.capture,
            self.recorder,
            self.clock,
            self.request.idempotency_root,
            before_leaving=lambda results: extraction.run(self.stage.view.node, self.transcript.so_far(results)),
        )
        return ReplyAggregator(
            llm=llm,
            calls=borrowed.calls,
            provider_id=borrowed.provider.message_id,
            stage=self.stage,
            transcript=self.transcript,
            tools=tools,
            capture=self.capture,
            outstanding=self.outstanding,
            clock=self.clock,
        )

    async def _look_back(self, extraction: Extraction, compaction: Compaction) -> None:
        """Learn from a conversation that is over, or keep the context of one that goes on small."""
        if self._end_reason() is not None:
            await extraction.run(self.stage.view.node, self.transcript.finished())
        elif self.request.compact_context and has_moved(self.capture.events):
            older = self.request.checkpoint.messages
            compacted = await compaction.run(older)
            if compacted is not None:
                self.transcript.replace([*compacted, *self.transcript.finished()[len(older) :]])

    def _end_reason(self) -> str | None:
        """Why the session is over; None when it goes on."""
        if self.capture.end_reason is not None:
            return self.capture.end_reason
        return END_NODE_REASON if self.stage.view.ends_session else None

    def _seconds_left(self) -> float:
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def _end(self, reason: str) -> None:
        """End the session: its disposition is what the conversation set, or else the reason."""
        known = self.capture.gathered_context.get("call_disposition")
        disposition = known if isinstance(known, str) and known else reason
        self.capture.learn("call_disposition", disposition)
        self.capture.learn("mapped_call_disposition", disposition)
        self.capture.append_once("call_tags", disposition)
        self.capture.events.append(event.session_end(self.clock(), reason=reason))
        self.ended = True


def _with_runtime_configuration(request: TurnRequest) -> dict[str, JsonValue]:
    initial_context = dict(request.initial_context)
    if request.model is not None:
        initial_context["runtime_configuration"] = {
            "llm_provider": request.model.provider,
            "llm_model": request.model.model,
        }
    return initial_context
