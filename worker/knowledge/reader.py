"""Has a document read by a process of its own, and hands on its chunks as they come."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.errors import TurnWorkerError
from worker.knowledge.extraction import Limits, UnreadableDocument

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, AsyncIterator

# The process stands back behind everything else on its machine, so its own time passes more slowly.
_SECONDS_PER_CPU_SECOND: Final = 4
# A chunk as JSON, each character of it written as an escaped pair, and more.
_LONGEST_LINE_BYTES: Final = 64 * 1024
_SENT_FROM_OUTSIDE: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP)
_MODULE: Final = "worker.knowledge.reading_process"
# What Python needs to start and to find this package; nothing of what the worker was told.
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")


class ReadingInterrupted(TurnWorkerError):
    """Somebody ended the process: the system that had no memory left, or whoever stops this machine's services."""

    code = "reading_interrupted"
    retryable = True

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"The process that read the document was ended from outside (status {self.status})."


@dataclass(frozen=True, slots=True)
class Reading:
    """A document that is being read.

    Attributes:
        total: How many chunks it has.
        chunks: Each of them, in order.
    """

    total: int
    chunks: AsyncIterator[str]


@asynccontextmanager
async def reading(content: bytes, media_type: str, charset: str | None, limits: Limits) -> AsyncGenerator[Reading]:
    """Read a document. The process that does it ends with the block, whatever happens in it.

    Raises:
        UnreadableDocument: when there is no text in it, or reading takes too much memory or time.
        ReadingInterrupted: when somebody ended the process.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", _MODULE, str(limits.memory_bytes), str(limits.cpu_seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        limit=_LONGEST_LINE_BYTES,
        start_new_session=True,  # Ctrl-C is for the worker, which then ends this process
    )
    telling = asyncio.create_task(_tell(process, content, media_type, charset, limits))
    try:
        first = await _answer(process, limits)
        if isinstance(first, dict):
            raise UnreadableDocument(**first)
        yield Reading(first, _chunks(process, first, limits))
    finally:
        telling.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        # A process has ended for asyncio when its output is read to the end, which nobody else does any more.
        await asyncio.gather(telling, process.communicate(), return_exceptions=True)


async def _tell(process: Process, content: bytes, media_type: str, charset: str | None, limits: Limits) -> None:
    if process.stdin is None:
        raise AssertionError("the process was started with a pipe")
    task = {"media_type": media_type, "charset": charset, "limits": asdict(limits)}
    with suppress(ConnectionError):  # it ended: its exit status says why
        process.stdin.write(json.dumps(task).encode() + b"\n" + content)
        await process.stdin.drain()
        process.stdin.close()


async def _chunks(process: Process, total: int, limits: Limits) -> AsyncIterator[str]:
    for _ in range(total):
        yield await _answer(process, limits)


async def _answer(process: Process, limits: Limits) -> Any:
    if process.stdout is None:
        raise AssertionError("the process was started with a pipe")
    try:
        async with asyncio.timeout(_SECONDS_PER_CPU_SECOND * limits.cpu_seconds):
            line = await process.stdout.readline()
    except TimeoutError:
        raise _too_slow(limits) from None
    if line.endswith(b"\n"):
        return json.loads(line)
    status = await process.wait()
    if status == -signal.SIGXCPU:
        raise _too_slow(limits)
    if -status in _SENT_FROM_OUTSIDE:
        raise ReadingInterrupted(status)
    raise UnreadableDocument(
        "document_broken",
        "The document could not be read: reading it took too much memory, or the parser broke. Save it anew, or in parts.",
    )


def _too_slow(limits: Limits) -> UnreadableDocument:
    return UnreadableDocument(
        "document_too_complex",
        f"Reading the document took more than {limits.cpu_seconds} seconds. Save it anew in a simpler form, or in parts.",
    )
