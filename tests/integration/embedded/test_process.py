from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.embedded.processes import has_ended
from worker.embedded.process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEPER = ["/bin/sh", "-c", "exec sleep 600"]

# A parent that starts a child in a thread, says which when the thread has ended, and waits to be killed.
PARENT = """
import signal, threading
from worker.embedded.process import ChildProcess

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it, and would pass that on
signal.signal(signal.SIGHUP, signal.SIG_DFL)

children = []
thread = threading.Thread(target=lambda: children.append(ChildProcess(["/bin/sh", "-c", "exec sleep 600"])))
thread.start()
thread.join()
print(children[0].pid, flush=True)
signal.pause()
"""


@contextmanager
def parent_of_one() -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A parent in a process group of its own, its child's process id, and that of the guard."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            guard, *others = (process.pid for process in psutil.Process(parent.pid).children() if process.pid != child)
            assert others == []
            yield parent, child, guard
        finally:
            parent.kill()


def test_a_child_is_asked_to_stop_and_its_status_tells_how_it_ended() -> None:
    with ChildProcess(SLEEPER) as process:
        assert process.poll() is None
        assert process.stop() == -signal.SIGTERM
        assert process.poll() == -signal.SIGTERM


def test_a_child_is_asked_with_the_signal_of_its_choice() -> None:
    with ChildProcess(SLEEPER, stop_signal=signal.SIGUSR1) as process:
        assert process.stop() == -signal.SIGUSR1


def test_a_child_that_ignores_the_request_is_killed_after_the_timeout() -> None:
    reading, writing = os.pipe()
    with ChildProcess(
        ["/bin/sh", "-c", 'trap "" TERM; echo deaf; while :; do sleep 600; done'], output=writing
    ) as process:
        os.close(writing)
        os.read(reading, 5)  # the trap is set
        os.close(reading)
        lingering = psutil.Process(process.pid).children()
        assert process.stop(timeout=0.1) == -signal.SIGKILL
    for sleeper in lingering:
        sleeper.kill()


def test_stopping_a_child_that_has_ended_is_harmless() -> None:
    with ChildProcess(["/bin/sh", "-c", "exit 3"]) as process:
        assert process.wait() == 3
        assert process.stop() == 3


def test_waiting_gives_up_after_its_timeout() -> None:
    with ChildProcess(SLEEPER) as process:
        assert process.wait(timeout=0.01) is None


def test_a_child_reads_what_it_is_fed() -> None:
    with ChildProcess(["/bin/sh", "-c", 'read -r word && test "$word" = hello'], feed=b"hello\n") as process:
        assert process.wait() == 0


def test_a_child_that_does_not_read_what_it_is_fed_only_ends() -> None:
    with ChildProcess(["/bin/true"], feed=b"hello\n" * 1000) as process:
        assert process.wait() == 0


def test_a_program_that_does_not_exist_leaves_nothing_behind() -> None:
    before = psutil.Process().children()
    with pytest.raises(FileNotFoundError):
        ChildProcess(["/no/such/program"])
    assert psutil.Process().children() == before


def test_a_child_that_ended_leaves_no_guard_behind() -> None:
    before = psutil.Process().children()
    with ChildProcess(SLEEPER) as process:
        assert len(psutil.Process().children()) == len(before) + 2
        process.stop()
        assert psutil.Process().children() == before


def test_ctrl_c_in_the_terminal_does_not_reach_a_child() -> None:
    with ChildProcess(SLEEPER) as process:
        assert os.getsid(process.pid) == process.pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_child_ends_with_its_parent_however_that_ends(how: signal.Signals) -> None:
    with parent_of_one() as (parent, child, guard):
        parent.send_signal(how)
        assert has_ended(child)
        assert has_ended(guard)


def test_a_child_ends_with_its_parent_even_if_the_whole_process_group_is_killed() -> None:
    with parent_of_one() as (parent, child, _):
        os.killpg(parent.pid, signal.SIGKILL)
        assert has_ended(child)


def test_the_guard_is_not_ended_by_what_stops_all_processes_of_a_service() -> None:
    with parent_of_one() as (parent, child, guard):
        for request in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(guard, request)
        parent.kill()
        assert has_ended(child)


def test_a_child_started_by_a_thread_outlives_that_thread() -> None:
    with parent_of_one() as (_, child, _):
        assert not has_ended(child, timeout=0)
