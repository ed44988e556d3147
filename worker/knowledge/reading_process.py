"""The process in which one document is read: `python -m worker.knowledge.reading_process`.

Reading takes seconds of a processor that turns cannot spare, and what strangers made may be made to take all memory. So it
happens outside of the worker, under limits of the operating system, and knows no secret.

It is told what to do in one line of JSON on its standard input, followed by the document. It answers in lines of JSON: first
the number of chunks, then each chunk; or in place of all that, why there are none.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from worker.knowledge.chunking import split
from worker.knowledge.extraction import Limits, UnreadableDocument, extract_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


def answers(task: dict[str, Any], content: bytes) -> Iterator[Any]:
    """What the process says, value by value."""
    limits = Limits(**task["limits"])
    try:
        text = extract_text(content, task["media_type"], task["charset"], limits)
        chunks = split(text, task["media_type"], limit=limits.chunks)
    except UnreadableDocument as error:
        yield {"reason": error.reason, "message": error.message}
        return
    yield len(chunks)
    yield from chunks


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Read one document from `source` and write the answers to `sink`."""
    task = json.loads(source.readline())
    sink.writelines(json.dumps(answer).encode() + b"\n" for answer in answers(task, source.read()))


def limit_resources(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Take no more than this, write no file, and stand back behind everything else the machine does."""
    with suppress(ImportError):  # not on Windows
        import resource  # noqa: PLC0415 -- see above

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))  # SIGXCPU first, which says why
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(ValueError, OSError):  # macOS knows the limit and refuses it
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        os.nice(10)


if __name__ == "__main__":
    limit_resources(memory_bytes=int(sys.argv[1]), cpu_seconds=int(sys.argv[2]))
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except MemoryError:
        sys.exit("out of memory")
