"""What the stack is made of: programs that are started, watched and started again."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from worker.embedded.errors import EmbeddedServerError, ServerStartFailed
from worker.embedded.port import ReservedPort
from worker.embedded.private_files import keep_secret, kept_secret, private_folder, read_secret
from worker.embedded.program import Listening, Program
from worker.embedded.readiness import ReadinessSocket, announce_ready
from worker.embedded.supervisor import Supervisor
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ANNOUNCE = "from worker.embedded.readiness import announce_ready; announce_ready(); "


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Makes a program of a line of Python."""
    made: list[Program] = []

    def make(code: str, **values: object) -> Program:
        given: dict[str, object] = {"environment": os.environ, "log_file": tmp_path / "log"}
        made.append(Program("Example", [sys.executable, "-c", code], **given | values))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_a_program_is_ready_when_it_says_so(program: Callable[..., Program]) -> None:
    example = program(_ANNOUNCE + "import signal; signal.pause()")
    example.start()
    example.wait_until_ready()
    assert example.is_running
    example.stop()
    assert (example.is_running, example.pid) == (False, None)


def test_a_program_that_listens_is_ready_when_it_can_be_reached(program: Callable[..., Program]) -> None:
    with ReservedPort("127.0.0.1", 0, what="Example") as port:
        code = f"import socket, signal; s = socket.create_server(('127.0.0.1', {port.number})); signal.pause()"
        example = program(code, readiness=Listening(port.number))
        example.start()
        example.wait_until_ready()
        with socket.create_connection(("127.0.0.1", port.number)):
            pass


def test_a_program_that_ends_instead_of_starting_is_quoted(program: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an earlier run\n")
    example = program("import sys; print('There is no such thing.'); sys.exit(3)")
    example.start()
    with pytest.raises(ServerStartFailed) as caught:
        example.wait_until_ready()
    assert str(caught.value) == (
        "Example ended with status 3 instead of starting. "
        f"The end of its log ({tmp_path / 'log'}):\n  There is no such thing."
    )


def test_a_program_that_cannot_be_run_at_all_is_named(tmp_path: Path) -> None:
    example = Program("Example", [tmp_path / "missing"], environment=os.environ)
    with pytest.raises(ServerStartFailed, match=r"Example cannot be started: No such file or directory \(.*missing\)"):
        example.start()
    example.stop()


def test_what_a_program_writes_is_for_its_owner_alone(program: Callable[..., Program], tmp_path: Path) -> None:
    example = program("print('hello', flush=True); " + _ANNOUNCE + "import signal; signal.pause()")
    example.start()
    example.wait_until_ready()
    example.stop()
    assert (tmp_path / "log").read_text() == "hello\n"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_program_can_be_started_again(program: Callable[..., Program]) -> None:
    example = program(_ANNOUNCE + "import signal; signal.pause()")
    example.start()
    example.wait_until_ready()
    first = example.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    example.restart()
    example.wait_until_ready()
    assert example.pid != first


class Fragile:
    """A service that fails as often as it is told to."""

    name = "Fragile"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.is_running = False
        self.started = threading.Event()

    def restart(self) -> None:
        if self.failures:
            self.failures -= 1
            raise TurnWorkerError("It does not want to.")
        self.is_running = True
        self.started.set()


def test_what_ends_is_started_again_with_growing_pauses_until_it_runs() -> None:
    service = Fragile(failures=1)
    reports: list[str] = []
    supervisor = Supervisor([service], reports.append)
    supervisor.start()
    assert service.started.wait(10)
    supervisor.stop()
    assert reports == [
        "Fragile ended unexpectedly. It is started again in 0.5 s.",
        "Fragile could not be started again; the next try is in 1 s: It does not want to.",
    ]


def test_a_stopped_supervisor_starts_nothing_again() -> None:
    service = Fragile(failures=0)
    service.is_running = True
    supervisor = Supervisor([service], lambda _: None)
    supervisor.start()
    supervisor.stop()
    service.is_running = False
    assert not service.started.is_set()


def test_readiness_is_heard_once_per_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = ReadinessSocket()
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    assert not listener.was_announced()
    announce_ready()
    assert listener.was_announced()
    assert not listener.was_announced()
    listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_readiness_reaches_a_supervisor_with_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"\0turn-worker-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@turn-worker-test-{os.getpid()}")
        announce_ready()
        assert supervisor.recv(100) == b"READY=1"


def test_readiness_with_nobody_to_tell_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    announce_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    announce_ready()


def test_a_reserved_port_is_given_to_nobody_but_a_server_that_says_it_may_share() -> None:
    with ReservedPort("127.0.0.1", 0, what="Example") as port:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port.number))
        with socket.create_server(("127.0.0.1", port.number)):
            pass
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port.number))


def test_a_port_that_somebody_listens_on_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError) as caught:
            ReservedPort("127.0.0.1", number, what="The API")
    assert str(caught.value) == (
        f"The API cannot listen on 127.0.0.1:{number}: Address already in use. Choose another port; 0 takes a free one."
    )


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(EmbeddedServerError, match=r"The API cannot listen on 192\.0\.2\.1:0: Cannot assign requested"):
        ReservedPort("192.0.2.1", 0, what="The API")


def test_a_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert read_secret(file) is None
    assert kept_secret(file, lambda: "first") == "first"
    assert kept_secret(file, lambda: "second") == "first"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keep_secret(file, "third")
    assert read_secret(file) == "third"
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_a_private_folder_is_its_owners_alone(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    complaint = r"cannot be used: Not a directory\. Set TURN_WORKER_DATA_DIR"
    with pytest.raises(EmbeddedServerError, match=complaint):
        private_folder(tmp_path / "file" / "data")
    with pytest.raises(EmbeddedServerError, match=complaint):
        keep_secret(tmp_path / "file" / "secret", "x")
    with pytest.raises(EmbeddedServerError, match=complaint):
        read_secret(tmp_path / "file" / "secret")
