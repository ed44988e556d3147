"""What a turn costs the engine, beside the bare SDK streaming the same reply from the same endpoint.

    python -m tests.benchmarks.engine

The scripted LLM runs in a process of its own, logging goes nowhere at the level of production, and the process is
prepared as a worker prepares itself. Bare calls and turns take turns, so that a noisy neighbour disturbs both alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psutil
from pydantic import SecretStr

from worker.conversation.checkpoint import Checkpoint
from worker.conversation.user_message import UserMessage
from worker.engine.llm.clients import ProviderClients
from worker.engine.process import prepare_process
from worker.engine.request import ResolvedModel, TurnRequest
from worker.engine.turn import run_turn
from worker.telemetry.logging import configure_logging
from worker.workflow.definition import WorkflowDefinition
from worker.workflow.graph import WorkflowGraph

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

WARM_UP: Final = 300
ROUNDS: Final = 10
PER_ROUND: Final = 50

REPLY: Final = (
    "We are open from Monday to Friday between eight and six. Would you like me to look for a free time with one of our "
    "doctors this week, or do you have another question that I can help you with today?"
)
SCRIPT: Final = {
    "rules": [
        {"when": {"user_contains": "book", "tool_offered": "book"}, "reply": [{"tool": "book"}]},
        {"reply": REPLY, "chunk_characters": 16},
    ]
}
GRAPH: Final = {
    "nodes": [
        {"id": "start", "type": "startCall", "data": {"name": "Reception", "prompt": "Receive {{ name }}."}},
        {"id": "book", "type": "agentNode", "data": {"name": "Booking", "prompt": "Find a time."}},
        {"id": "all", "type": "globalNode", "data": {"name": "Persona", "prompt": "You are the front desk."}},
    ],
    "edges": [
        {"id": "1", "source": "start", "target": "book", "data": {"label": "Book", "condition": "wants a date"}},
        {"id": "2", "source": "book", "target": "start", "data": {"label": "Back", "condition": "has a question"}},
    ],
}


async def measure_engine() -> dict[str, float]:
    """Measure; milliseconds are wall-clock times of one at a time, CPU times those of this process alone."""
    with scripted_llm() as base_url:
        model = ResolvedModel(
            provider="anthropic", model="claude-sonnet-5", api_key=SecretStr("benchmark"), base_url=base_url
        )
        clients = ProviderClients()
        try:
            async with clients.lend(model) as (_, client):
                return await _measure(clients, client, model)
        finally:
            await clients.close()


async def _measure(clients: ProviderClients, client: Any, model: ResolvedModel) -> dict[str, float]:
    graph = WorkflowGraph(WorkflowDefinition.model_validate({"graph": GRAPH}))

    async def turn(message: str) -> None:
        outcome = await run_turn(
            TurnRequest(
                organization_id=uuid4(),
                session_id=uuid4(),
                turn_id=uuid4(),
                attempt=1,
                graph=graph,
                checkpoint=Checkpoint(current_node_id="start"),
                user_messages=(UserMessage(message),),
                initial_context={"name": "Ada"},
                model=model,
            ),
            clients=clients,
        )
        assert outcome.assistant_text == REPLY

    async def bare() -> None:
        stream = await client.beta.messages.create(
            model=model.model,
            max_tokens=4096,
            system="You are the front desk.\n\nReceive Ada.",
            messages=[{"role": "user", "content": "When are you open?"}],
            stream=True,
        )
        text = [event.delta.text async for event in stream if event.type == "content_block_delta"]
        assert "".join(text) == REPLY

    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "bare": bare,
        "text": lambda: turn("When are you open?"),
        "tool": lambda: turn("book please"),
    }
    for run in kinds.values():
        for _ in range(WARM_UP):
            await run()
    prepare_process(model.provider)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu = dict.fromkeys(kinds, 0.0)
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(ROUNDS):
        for kind, run in kinds.items():
            cpu_before = time.process_time()
            for _ in range(PER_ROUND):
                began = time.perf_counter()
                await run()
                times[kind].append((time.perf_counter() - began) * 1000)
            cpu[kind] += time.process_time() - cpu_before
    growth = (process.memory_info().rss - before) / 1_048_576
    p50 = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        "bare_sdk_call_ms_p50": p50["bare"],
        "engine_text_turn_ms_p50": p50["text"],
        "engine_tool_turn_ms_p50": p50["tool"],
        "engine_over_sdk_ratio": p50["text"] / p50["bare"],
        "bare_sdk_call_cpu_ms": cpu["bare"] * 1000 / (ROUNDS * PER_ROUND),
        "engine_text_turn_cpu_ms": cpu["text"] * 1000 / (ROUNDS * PER_ROUND),
        "engine_tool_turn_cpu_ms": cpu["tool"] * 1000 / (ROUNDS * PER_ROUND),
        "engine_rss_growth_mb_500_turns": growth,
    }


@contextmanager
def scripted_llm() -> Iterator[str]:
    """The scripted LLM in a process of its own, and its address."""
    with TemporaryDirectory() as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps(SCRIPT))
        command = [
            sys.executable,
            "-m",
            "worker.embedded.scripted_llm",
            "--script",
            str(script),
            "--keep-requests",
            "1",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                address = re.search(r"http://[\d.:]+", process.stdout.readline())
                assert address is not None
                yield address[0]
            finally:
                process.terminate()


def main() -> None:
    """Measure and print."""
    with Path(os.devnull).open("w") as nowhere:
        configure_logging(level="INFO", log_format="json", stream=nowhere)
        results = asyncio.run(measure_engine())
    for name, value in results.items():
        sys.stdout.write(f"{name:34} {value:8.2f}\n")


if __name__ == "__main__":
    main()
