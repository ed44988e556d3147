"""What holds for both embedded servers."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING, TypeAlias

import psutil
import psycopg
import pytest
import redis

from tests.integration.embedded.processes import has_ended
from worker.embedded.errors import DataFolderInUse, EmbeddedServerError
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.redis import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Server: TypeAlias = EmbeddedPostgres | EmbeddedRedis

both = pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedRedis])


@pytest.fixture
def server(kind: type[Server], tmp_path: Path) -> Iterator[Server]:
    with kind(tmp_path / "data") as server:
        yield server


def remember(url: str) -> None:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE remembered ()")
    else:
        with redis.Redis.from_url(url) as client:
            client.set("remembered", 1)
            client.waitaof(1, 0, 0)  # on disk, as a PostgreSQL commit is


def remembers(url: str) -> bool:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT to_regclass('remembered')").fetchone() != (None,)
    with redis.Redis.from_url(url) as client:
        return bool(client.exists("remembered"))


@both
def test_a_restart_keeps_the_data_and_the_address(server: Server) -> None:
    url, pid = server.url, server.pid
    remember(url)
    server.restart()
    assert server.url == url
    assert server.pid != pid
    assert remembers(url)


@both
def test_a_new_server_on_the_same_folder_finds_the_data_and_the_password(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path) as first:
        remember(first.url)
    with kind(tmp_path) as second:
        assert remembers(second.url)
        assert second.url.split("@")[0] == first.url.split("@")[0]


@both
def test_a_server_can_be_started_again_after_a_stop(server: Server) -> None:
    url = server.url
    remember(url)
    server.stop()
    server.start()
    assert server.url == url
    assert remembers(url)


@both
@pytest.mark.parametrize("again", ["start", "restart"])
def test_a_server_that_was_killed_starts_again_with_what_it_had_acknowledged(server: Server, again: str) -> None:
    remember(server.url)
    os.kill(server.pid, signal.SIGKILL)
    assert has_ended(server.pid)
    assert not server.is_running
    getattr(server, again)()
    assert remembers(server.url)


@both
def test_a_stop_does_not_wait_for_clients_to_leave(server: Server) -> None:
    with psycopg.connect(server.url) if server.name == "PostgreSQL" else redis.Redis.from_url(server.url):
        server.stop()
    last_line = server.log_file.read_text().splitlines()[-1]
    assert re.search("database system is shut down|ready to exit", last_line)


@both
def test_stopping_twice_is_harmless(server: Server) -> None:
    server.stop()
    server.stop()
    assert not server.is_running
    with pytest.raises(EmbeddedServerError, match="is not running"):
        _ = server.pid


@both
def test_a_stopped_server_leaves_its_port_free_and_no_process_behind(server: Server) -> None:
    pid, port = server.pid, int(server.url.split("/")[-2].rpartition(":")[2])
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with socket.create_server(("127.0.0.1", port), reuse_port=False):
        pass


@both
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets two sockets share a port before one listens")
def test_the_port_stays_taken_while_the_server_is_down(server: Server) -> None:
    """Nobody is given the port between the choice of it and the server's start, or during a restart."""
    port = int(server.url.split("/")[-2].rpartition(":")[2])
    os.kill(server.pid, signal.SIGKILL)
    assert has_ended(server.pid)
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port))


@both
def test_it_listens_on_the_port_it_is_told(kind: type[Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with kind(tmp_path, port=port) as server:
        assert f"@127.0.0.1:{port}/" in server.url


@both
def test_a_port_that_is_taken_is_named(kind: type[Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=rf"Port {port} .* cannot be used: Address already in use"):
            kind(tmp_path, port=port).start()


@both
def test_a_second_start_of_the_same_server_is_refused(server: Server) -> None:
    with pytest.raises(EmbeddedServerError, match=rf"running already \(process {server.pid}\)"):
        server.start()
    assert server.is_running


@both
def test_a_second_server_on_the_same_folder_is_refused_with_the_holder_named(
    server: Server, kind: type[Server], tmp_path: Path
) -> None:
    with pytest.raises(DataFolderInUse, match=rf"data is in use by process {os.getpid()}\."):
        kind(tmp_path / "data").start()
    remember(server.url)


@both
def test_the_address_is_unknown_before_the_first_start(kind: type[Server], tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no address before it is started"):
        _ = kind(tmp_path, port=5432).url


@both
def test_nobody_else_can_enter_the_folder_or_read_a_file_in_it(server: Server, tmp_path: Path) -> None:
    remember(server.url)
    folder = tmp_path / "data"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path for path in folder.rglob("*") if path.stat().st_mode & 0o077] == []


@both
def test_other_users_do_not_see_the_password_on_the_command_line(server: Server) -> None:
    password = server.url.split(":")[2].split("@")[0]
    assert password not in " ".join(psutil.Process(server.pid).cmdline())


@both
def test_a_client_without_the_password_is_refused(server: Server) -> None:
    password = server.url.split(":")[2].split("@")[0]
    if isinstance(server, EmbeddedPostgres):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(password, "guess"))
    else:
        with (
            redis.Redis.from_url(server.url.replace(password, "guess")) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


@both
def test_the_servers_ctrl_c_is_ours_to_handle(server: Server) -> None:
    assert os.getsid(server.pid) == server.pid


@both
def test_a_folder_that_cannot_be_made_is_named(kind: type[Server], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"file/data cannot be used: Not a directory.*TURN_WORKER_DATA_DIR"):
        kind(tmp_path / "file" / "data").start()


@both
def test_a_folder_with_blanks_and_quotes_in_its_name_works(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path / "a 'quoted' \"name\" é") as server:
        remember(server.url)
