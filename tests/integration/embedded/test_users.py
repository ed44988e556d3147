"""The servers run for whoever starts them: root, an ordinary user, a user id without a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from tests.integration.embedded.processes import has_ended
from tests.integration.embedded.users import as_root_on_linux, as_user, in_chroot

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = as_root_on_linux

SERVE = Path(__file__).with_name("serve.py")
SERVE_HERE = [sys.executable, str(SERVE)]
NOBODY = 65534
NAMELESS = 54321


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can enter (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="turn-worker-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def served(command: list[str]) -> Iterator[dict[str, Any]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            server = json.loads(program.stdout.readline())
            yield server
        finally:
            program.kill()
    if "pid" in server:
        assert has_ended(server["pid"])


def remember(server: dict[str, Any]) -> None:
    with psycopg.connect(server["url"]) as connection:
        connection.execute("CREATE TABLE remembered ()")


def remembers(server: dict[str, Any]) -> bool:
    with psycopg.connect(server["url"]) as connection:
        return connection.execute("SELECT to_regclass('remembered')").fetchone() != (None,)


@pytest.mark.parametrize("user", [NOBODY, NAMELESS])
@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_an_ordinary_user_can_run_it(kind: str, user: int, public: Path) -> None:
    home = public / "home"
    home.mkdir(mode=0o700)
    os.chown(home, user, user)
    with served(as_user(user, public, SERVE, kind, str(home / "data"))) as server:
        assert "error" not in server
        assert psutil.Process(server["pid"]).uids().real == user
        assert {path.stat().st_uid for path in home.rglob("*")} == {user}
        if kind == "postgres":
            remember(server)


def test_root_runs_postgresql_with_its_files_staying_roots(tmp_path: Path) -> None:
    with served([*SERVE_HERE, "postgres", str(tmp_path / "data")]) as server:
        remember(server)
        assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {0}


def test_root_runs_postgresql_as_nobody_where_it_may_not_make_namespaces(public: Path, tmp_path: Path) -> None:
    """The data lies below a folder that is closed to nobody and stays so, and no user is added."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    accounts = Path("/etc/passwd").read_bytes()
    command = in_chroot(public, [*SERVE_HERE, "postgres", str(closed / "data")])
    for first in (True, False):
        with served(command) as server:
            assert "error" not in server
            assert psutil.Process(server["pid"]).uids() == (NOBODY, NOBODY, NOBODY)
            remember(server) if first else None
            assert remembers(server)
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == 0
    assert Path("/etc/passwd").read_bytes() == accounts


def test_data_goes_on_being_used_when_namespaces_are_forbidden_and_allowed_again(public: Path, tmp_path: Path) -> None:
    command = [*SERVE_HERE, "postgres", str(tmp_path / "data")]
    with served(command) as server:
        remember(server)
    for how in (in_chroot(public, command), command):
        with served(how) as server:
            assert "error" not in server
            assert remembers(server)


def test_root_is_told_whose_the_data_is_rather_than_taking_it_over(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with served([*SERVE_HERE, "postgres", str(folder)]):
        pass
    for path in (folder / "data", *(folder / "data").rglob("*")):
        os.chown(path, NAMELESS, NAMELESS)
    with served([*SERVE_HERE, "postgres", str(folder)]) as server:
        assert "The server must be started by the user that owns the data directory" in server["error"]
    assert (folder / "data").stat().st_uid == NAMELESS


def test_root_without_any_way_to_stop_being_root_is_told_what_to_do(public: Path, tmp_path: Path) -> None:
    powerless = ["setpriv", "--bounding-set=-setuid", *SERVE_HERE, "postgres", str(tmp_path / "data")]
    with served(in_chroot(public, powerless)) as server:
        assert "neither a user namespace nor changing to nobody" in server["error"]
        assert "Run as an ordinary user, or set DATABASE_URL." in server["error"]
