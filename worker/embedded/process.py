"""Child processes that never outlive this one, however it ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import IO

# The guard learns whom to guard from its standard input, then waits there. A further line means that the child has
# ended; the end of the input without one means that this process has died, even by SIGKILL, without ending the child.
_GUARD = 'trap "" INT HUP TERM; read -r pid && ! read -r ended && kill -s "$0" "$pid"'


class ChildProcess:
    """A program in a session of its own, which is told to stop when this process ends, even by SIGKILL.

    A session of its own keeps the terminal's Ctrl-C away from it: this process decides when it stops. The
    promise that it does not outlive this process is kept by a tiny shell, the guard, at the other end of a pipe:
    the kernel closes the pipe when this process ends. It works alike on every POSIX system and whichever thread
    started the child (unlike `PR_SET_PDEATHSIG`, which is Linux only and fires when that thread ends).

    Constructing it starts the program; as a context manager it stops it in the end. A copy of this process made by
    fork alone shares the pipe: the child then lives until both have ended.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        feed: bytes = b"",
        output: int | None = None,
        pass_fds: Sequence[int] = (),
        umask: int = -1,
    ) -> None:
        """Start `command`.

        Args:
            command: the program and its arguments.
            stop_signal: what asks it to stop.
            env: its environment; by default this process's.
            cwd: its working folder; by default this process's.
            feed: what it reads on standard input, up to a pipe's capacity (64 KiB on Linux, 16 KiB elsewhere).
            output: the file descriptor standard output and error go to; by default where this process's go.
            pass_fds: further file descriptors it inherits.
            umask: its umask; by default this process's.
        """
        self._stop_signal = stop_signal
        self._guard = subprocess.Popen(  # noqa: S603 - the constant script above
            ["/bin/sh", "-c", _GUARD, stop_signal.name.removeprefix("SIG")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603 - starting the caller's program is the purpose
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                umask=umask,
                start_new_session=True,
            )
        except BaseException:
            self._dismiss_guard()
            raise
        self._tell_guard(str(self._process.pid))
        if self._process.stdin is not None:
            _write(self._process.stdin, feed)
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        return self._noted(self._process.poll())

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait up to `timeout` seconds (by default without limit) for its end; None if it still runs."""
        try:
            return self._noted(self._process.wait(timeout))
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout: float = 30.0) -> int:
        """Ask it to stop, kill it after `timeout` seconds, and return its exit status. Harmless if it has ended."""
        if self.poll() is None:
            self._process.send_signal(self._stop_signal)
            if self.wait(timeout) is None:
                self._process.kill()
        status = self._process.wait()
        self._noted(status)
        return status

    def _noted(self, status: int | None) -> int | None:
        if status is not None:
            # From here on the process id may belong to a stranger: the guard must not signal it.
            self._dismiss_guard()
        return status

    def _dismiss_guard(self) -> None:
        guard_input = self._guard.stdin
        if guard_input is not None and not guard_input.closed:
            self._tell_guard("ended")
            guard_input.close()
            self._guard.wait()

    def _tell_guard(self, line: str) -> None:
        if self._guard.stdin is not None:
            _write(self._guard.stdin, f"{line}\n".encode())


def _write(pipe: IO[bytes], data: bytes) -> None:
    # Whoever should read it may have ended already; its exit status tells the rest.
    with contextlib.suppress(BrokenPipeError):
        pipe.write(data)
        pipe.flush()
