"""Learns from a conversation that was ended from outside what its last node still wanted to know."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from worker.engine.capture import Capture
from worker.engine.extraction import Extraction
from worker.engine.failures import TurnFailed
from worker.engine.llm.borrowed import borrow
from worker.engine.outstanding import Outstanding
from worker.engine.side_question import SideQuestions
from worker.engine.turn import utc_now
from worker.workflow.template import render

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.engine.llm.clients import ProviderClients
    from worker.engine.request import ResolvedModel, TurnRequest, UsageLedger
    from worker.engine.side_question import SideQuestion


async def extract_finally(
    request: TurnRequest,
    *,
    clients: ProviderClients,
    usage_ledger: UsageLedger | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> tuple[dict[str, JsonValue], list[TurnEvent]]:
    """Extract the variables of the node that the conversation stands on, as at the end of a turn that ends its session.

    The request's fallback is asked where its model fails, as in a turn.

    Returns:
        The gathered context with what was learned, and what happened. Without a model, or if the extraction fails, nothing
        is learned; that never raises.
    """
    capture = Capture(request.checkpoint.gathered_context, usage_ledger, clock)
    model, node_id = request.model or request.fallback_model, request.checkpoint.current_node_id
    if model is None or node_id is None:
        return capture.gathered_context, []
    outstanding, numbers = Outstanding(), count(1)
    deadline = asyncio.get_running_loop().time() + request.time_limit_seconds

    async def ask_of(asked: ResolvedModel, question: SideQuestion) -> str:
        async with borrow(
            clients,
            asked,
            limit=request.max_llm_calls,
            on_end=capture.count,
            on_failure=outstanding.fail,
            numbers=numbers,
        ) as borrowed:
            questions = SideQuestions(
                borrowed.asking, outstanding, lambda: max(0.0, deadline - asyncio.get_running_loop().time())
            )
            return await questions.ask(question)

    async def ask(question: SideQuestion) -> str:
        try:
            return await ask_of(model, question)
        except TurnFailed as failure:
            fallback = request.fallback_after(failure)
            if fallback is None or fallback is model:
                raise
            capture.fall_back(failure, fallback)
            return await ask_of(fallback, question)

    extraction = Extraction(
        ask,
        lambda template: render(template, dict(request.initial_context), capture.gathered_context, clock()),
        capture,
        clock,
    )
    await extraction.run(request.graph.node(node_id), request.checkpoint.messages)
    return capture.gathered_context, list(capture.events)
