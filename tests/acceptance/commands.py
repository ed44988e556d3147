"""The commands as a user runs them: real processes, with standard output and standard error apart."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from tests.integration.embedded.processes import has_ended
from tests.processes import Log

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
    from pathlib import Path

_CONFIGURED_BY = ("TURN_WORKER_", "DATABASE_URL", "REDIS_URL", "ANTHROPIC_", "OPENAI_", "NOTIFY_SOCKET")
_PATIENCE_SECONDS = 60.0


def environment(**given: str | Path) -> dict[str, str]:
    """This process's environment with nothing configured but what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_CONFIGURED_BY)}
    return {**inherited, **{name: str(value) for name, value in given.items()}}


def turn_worker(*arguments: str | Path, stdin: str = "", **given: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `turn-worker` to its end, with environment variables given by name."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "worker", *arguments],
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(**given),
        timeout=_PATIENCE_SECONDS,
    )


class Running:
    """A command that goes on until it is told to stop."""

    def __init__(self, process: subprocess.Popen[bytes], out: Log, err: Log) -> None:
        self.process = process
        self.out = out
        self.err = err

    def said(self, pattern: str, *, count: int = 1) -> str:
        """The `count`-th line of standard output that fits the regular expression, as soon as it is there."""
        return str(self.out.wait(pattern, {}, count, _PATIENCE_SECONDS)["event"])

    def complained(self, pattern: str, *, count: int = 1) -> str:
        """The same of standard error."""
        return str(self.err.wait(pattern, {}, count, _PATIENCE_SECONDS)["event"])

    def programs(self, command: str) -> list[psutil.Process]:
        """The processes it has started that run this command of `turn-worker`."""
        return [child for child in self.children() if child.cmdline()[-1:] == [command]]

    def servers(self, *names: str) -> list[psutil.Process]:
        """The servers it has started whose program has one of these names."""
        return [child for child in psutil.Process(self.process.pid).children() if child.name() in names]

    def children(self) -> list[psutil.Process]:
        """Every process it has started, and those that these have started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals) -> int:
        """Send the signal, wait for the end, and see that nothing it has started is left."""
        children = self.children()
        self.process.send_signal(how)
        status = self.process.wait(_PATIENCE_SECONDS)
        assert [child for child in children if not has_ended(child.pid, _PATIENCE_SECONDS)] == []
        return status


@contextmanager
def running(*arguments: str | Path, **given: str | Path) -> Iterator[Running]:
    """Start `turn-worker`, with environment variables given by name, and end it with the block."""
    out, err = Log(), Log()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "worker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out.output,
        stderr=err.output,
        env=environment(**given),
        process_group=0,
    )
    for log in (out, err):
        log.hand_over()
    try:
        yield Running(process, out, err)
    finally:
        process.kill()
        process.wait()
        for log in (out, err):
            log.join()
