"""The process that reads a document: what becomes of it, and of whoever waits for it."""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.pdf import pdf
from worker.knowledge import reader
from worker.knowledge.extraction import Limits, UnreadableDocument
from worker.knowledge.media_types import HTML, MARKDOWN, PDF, TEXT
from worker.knowledge.reader import ReadingInterrupted, reading
from worker.knowledge.reading_process import answers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LIMITS = Limits(characters=100_000_000, chunks=1_000_000)
SLOW = pdf(["A line of text. " * 40] * 500)


async def read(content: bytes, media_type: str, limits: Limits = LIMITS) -> list[str]:
    async with reading(content, media_type, None, limits) as document:
        chunks = [chunk async for chunk in document.chunks]
        assert len(chunks) == document.total
        return chunks


async def reader_process() -> psutil.Process:
    """The process that reads, as soon as there is one; nothing says when it is started but that it is there."""
    async with asyncio.timeout(10):
        while True:
            for child in psutil.Process().children():
                if "worker.knowledge.reading_process" in child.cmdline():
                    return child
            await asyncio.sleep(0)


async def test_chunks_come_from_the_process_as_they_would_be_made_here() -> None:
    content = "\n\n".join(f"# Topic {number}\n\nÜber \U0001f600 {number}. " * 30 for number in range(20)).encode()
    task = {"media_type": MARKDOWN, "charset": None, "limits": {"characters": 100_000_000}}
    total, *expected = answers(task, content)
    assert await read(content, MARKDOWN) == expected
    assert total == len(expected)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
async def test_a_process_ended_from_outside_is_no_fault_of_the_document(sent: signal.Signals) -> None:
    task = asyncio.create_task(read(SLOW, PDF))
    (await reader_process()).send_signal(sent)
    with pytest.raises(ReadingInterrupted):
        await task


async def test_nobody_reads_on_for_someone_who_has_gone() -> None:
    task = asyncio.create_task(read(SLOW, PDF))
    process = await reader_process()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not process.is_running()


async def test_the_process_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    task = asyncio.create_task(read(SLOW, PDF))
    environment = (await reader_process()).environ()
    task.cancel()
    assert "PATH" in environment
    assert "DATABASE_URL" not in environment
    await asyncio.gather(task, return_exceptions=True)


async def test_reading_the_rest_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it waits to be read: so little room is full with what the process writes first."""
    monkeypatch.setattr(reader, "_LONGEST_LINE_BYTES", 1536)

    async def first(content: bytes) -> AsyncGenerator[Any]:
        async with reading(content, TEXT, None, LIMITS) as document:
            async for chunk in document.chunks:
                yield chunk

    async with asyncio.timeout(30), aclosing(first(b"A sentence of some length. " * 20_000)) as chunks:
        assert (await anext(chunks)).startswith("A sentence")
    gc.collect()  # a pipe that was left open is a warning, and so an error


async def test_a_document_that_takes_all_memory_fails_and_nothing_else_does() -> None:
    with pytest.raises(UnreadableDocument) as refused:
        await read(b"<p>" * 2_000_000, HTML, Limits(characters=100_000_000, memory_bytes=160 * 1024**2))
    assert refused.value.reason == "document_broken"


async def test_a_document_that_takes_too_long_fails() -> None:
    long = pdf(["A line of text. " * 400] * 1_500)
    with pytest.raises(UnreadableDocument) as refused:
        await read(long, PDF, Limits(characters=100_000_000, cpu_seconds=1))
    assert refused.value.reason == "document_too_complex"
