"""Learns from a conversation that was ended from outside what its last node still wanted to know."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from worker.engine.capture import Capture
from worker.engine.extraction import Extraction
from worker.engine.live_text import LiveText
from worker.engine.llm.calls import LLMCalls
from worker.engine.llm.errors import classify
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
    from worker.engine.request import TurnRequest, UsageLedger


async def extract_finally(
    request: TurnRequest,
    *,
    clients: ProviderClients,
    usage_ledger: UsageLedger | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> tuple[dict[str, JsonValue], list[TurnEvent]]:
    """Extract the variables of the node that the conversation stands on, as at the end of a turn that ends its session.

    Returns:
        The gathered context with what was learned, and what happened. Without a model, or if the extraction fails, nothing
        is learned; that never raises.
    """
    capture = Capture(request.checkpoint.gathered_context, usage_ledger, clock, {}, LiveText(None))
    model, node_id = request.model, request.checkpoint.current_node_id
    if model is None or node_id is None:
        return capture.gathered_context, []
    outstanding = Outstanding()
    deadline = asyncio.get_running_loop().time() + request.time_limit_seconds
    async with clients.lend(model) as (provider, client):
        calls = LLMCalls(
            provider=model.provider,
            processor=provider.processor,
            model=model.model,
            limit=request.max_llm_calls,
            silence_seconds=model.timeout_seconds,
            classify=lambda error, replying: classify(error, provider.errors, model, replying=replying),
            on_end=capture.count,
            on_failure=outstanding.fail,
        )
        async with aclosing(calls):
            questions = SideQuestions(
                lambda prompt: provider.service(client, model, calls, prompt, cache_prompt=False),
                outstanding,
                lambda: max(0.0, deadline - asyncio.get_running_loop().time()),
            )
            extraction = Extraction(
                questions,
                lambda template: render(template, dict(request.initial_context), capture.gathered_context, clock()),
                capture,
                clock,
            )
            await extraction.run(request.graph.node(node_id), request.checkpoint.messages)
    return capture.gathered_context, list(capture.events)
