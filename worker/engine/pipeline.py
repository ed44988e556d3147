"""The short-lived pipecat pipeline of one turn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pipecat.adapters.llm.base_llm_adapter import LLMContextConversionError
from pipecat.frames.frames import EndFrame, ErrorFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.utils.asyncio.task_manager import TaskManager
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.base_worker import WorkerParams
from pipecat.workers.runner import WorkerRunner

from worker.engine.failures import LLMRequestInvalid, TurnInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.llm_service import LLMService

    from worker.engine.outstanding import Outstanding

_CANCEL_SECONDS = 2.0
"""How long pipecat waits for its processors when a turn is cut off."""


@asynccontextmanager
async def running_pipeline(
    llm: LLMService[Any], aggregator: FrameProcessor, outstanding: Outstanding
) -> AsyncIterator[PipelineWorker]:
    """Run the two processors of a text turn, with nothing that only a voice call needs.

    Leaving in good order lets queued frames drain. Leaving by an exception, a cancellation among them, stops everything
    the pipeline started, tools and LLM calls too, before the exception goes on.
    """
    tasks = TaskManager()
    worker = PipelineWorker(
        Pipeline([llm, aggregator]),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
        check_dangling_tasks=False,
        cancel_timeout_secs=_CANCEL_SECONDS,
        task_manager=tasks,
    )

    async def on_error(_: PipelineWorker, frame: ErrorFrame) -> None:
        # Without an exception, it is the service itself that refuses: pictures, say, for a model that takes none.
        if frame.exception is None or isinstance(frame.exception, LLMContextConversionError):
            outstanding.fail(LLMRequestInvalid(f"The provider cannot be sent this conversation. {frame.error}"))
        elif frame.category is not ErrorCategory.APPLICATION:
            outstanding.fail(TurnInterrupted(f"The turn's pipeline broke: {frame.error}. This is a defect: report it."))

    worker.add_event_handler("on_pipeline_error", on_error)
    # A runner gives the worker its place; its own signal handling and bus have no part in a turn.
    runner = WorkerRunner(handle_sigint=False, task_manager=tasks)
    await worker.attach(registry=runner.registry, bus=runner.bus, worker_runner=runner)
    task = asyncio.create_task(worker.run(WorkerParams(task_manager=tasks)))
    task.add_done_callback(
        lambda _: outstanding.fail(TurnInterrupted("The turn's pipeline ended before the turn did."))
    )
    try:
        yield worker
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    await worker.queue_frame(EndFrame())
    await _ended(task)


class Flushable(Protocol):
    """What can confirm that nothing is on its way: pipecat's `PipelineWorker`."""

    async def flush_pipeline(self) -> bool:
        """Wait until everything queued has passed; False when that could not be confirmed."""
        ...


async def finished(pipeline: Flushable, outstanding: Outstanding) -> None:
    """Wait until nothing is outstanding and a flush has confirmed that nothing was on its way either.

    Raises:
        Exception: The failure of the turn, as soon as there is one.
    """
    begun = -1
    while begun != outstanding.begun:
        await outstanding.settled()
        begun = outstanding.begun
        if not await pipeline.flush_pipeline():
            begun = -1
    await outstanding.settled()


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a pipeline that is ending, also when cancelled: one cancelled while it cleans up leaves tasks behind."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
