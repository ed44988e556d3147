"""The program's own processes, as they run in production: started, watched through their logs, and sent signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from worker.embedded.process import ChildProcess
from worker.embedded.readiness import ADDRESS_VARIABLE, ReadinessSocket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Line = dict[str, Any]

_PATIENCE_SECONDS = 60.0
_QUOTED_LINES = 25


class Log:
    """What a process writes, line by line, through a pipe: nobody has to look for news, it arrives."""

    def __init__(self) -> None:
        self._reading, self.output = os.pipe()
        self._lines: list[Line] = []
        self._ended = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="log-reader", daemon=True)
        self._thread.start()

    def hand_over(self) -> None:
        """Close this process's copy of the writing end, so that the log ends with the process that writes it."""
        os.close(self.output)

    def lines(self, event: str = "", **fields: Any) -> list[Line]:
        """The lines so far whose text fits the regular expression `event`, and that have these fields."""
        with self._news:
            return list(self._matching(event, fields))

    def wait(self, event: str, fields: Mapping[str, Any], count: int, timeout_seconds: float) -> Line:
        """The `count`-th line whose text fits the regular expression `event`, and that has these fields, once it is there."""

        def found() -> list[Line] | bool:
            matching = list(self._matching(event, fields))
            return matching if len(matching) >= count else self._ended

        with self._news:
            matching = self._news.wait_for(found, timeout_seconds)
            if isinstance(matching, list):
                return matching[count - 1]
        raise AssertionError(f"No line {event!r} {dict(fields)} (number {count}) came.\n{self.tail()}")

    def tail(self) -> str:
        """The last lines, for the message of a test that failed."""
        with self._news:
            return "\n".join(json.dumps(line) for line in self._lines[-_QUOTED_LINES:]) or "(nothing was logged)"

    def join(self) -> None:
        """Return when the process has closed its end and every line is read."""
        self._thread.join()

    def _matching(self, event: str, fields: Mapping[str, Any]) -> Iterator[Line]:
        for line in self._lines:
            if re.search(event, line["event"]) and all(line.get(name) == value for name, value in fields.items()):
                yield line

    def _read(self) -> None:
        with os.fdopen(self._reading, errors="replace") as pipe:
            for text in pipe:
                with self._news:
                    self._lines.append(_parsed(text))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Process:
    """`python -m MODULE ARGUMENTS`, which says that it is ready by the notification protocol of systemd."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], module: str = "worker") -> None:
        """Start it; `wait_until_ready` comes later, so that several can start side by side."""
        self.name = " ".join((module, *arguments))
        self.log = Log()
        self._readiness = ReadinessSocket()
        try:
            self._child = ChildProcess(
                [sys.executable, "-P", "-m", module, *arguments],
                env={**environment, ADDRESS_VARIABLE: self._readiness.address},
                output=self.log.output,
            )
        finally:
            self.log.hand_over()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def wait_until_ready(self) -> None:
        """Return when the process announced that it does its work."""
        assert self.came_up(), f"{self.name} ended with status {self._child.poll()}.\n{self.log.tail()}"

    def came_up(self) -> bool:
        """Wait until the process announced that it does its work, and return True; False when it ended before."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._readiness.was_announced():
            if self._child.wait(timeout=0.02) is not None:
                return False
            assert time.monotonic() < deadline, f"{self.name} was not ready in time.\n{self.log.tail()}"
        return True

    async def line(self, event: str, *, count: int = 1, timeout_seconds: float = 30.0, **fields: Any) -> Line:
        """The `count`-th line of the log that fits (see `Log.wait`), as soon as it is written."""
        return await asyncio.to_thread(self.log.wait, event, fields, count, timeout_seconds)

    def surprises(self, since: int = 0) -> list[Line]:
        """Failures nobody foresaw, from that line of the log on: tracebacks, except Celery's, which has one for every outage."""
        foreseen = ("celery", "kombu")
        return [
            line
            for line in self.log.lines()[since:]
            if line.get("exception") and not line["logger"].startswith(foreseen)
        ]

    def kill(self) -> None:
        """End it at once (SIGKILL): it cleans nothing up and tells nobody."""
        os.kill(self.pid, signal.SIGKILL)
        self._child.wait()

    def pause(self) -> None:
        """Let it stand still (SIGSTOP), as a machine that swaps or a suspended container does."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it stood (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and return at once."""
        os.kill(self.pid, signal.SIGTERM)

    async def exit_status(self, timeout_seconds: float = 30.0) -> int:
        """Its exit status, as soon as it has ended."""
        status = await asyncio.to_thread(self._child.wait, timeout_seconds)
        assert status is not None, f"{self.name} did not end in time.\n{self.log.tail()}"
        await asyncio.to_thread(self.log.join)
        return status

    def dispose(self) -> None:
        """End it, whatever state it is in, and let go of everything."""
        if self.is_running:
            self.kill()
        self._child.stop()
        self.log.join()
        self._readiness.close()


def _parsed(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) and "event" in line else {"event": text.rstrip("\n")}
