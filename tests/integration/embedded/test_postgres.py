from __future__ import annotations

import os
import signal
from threading import Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy

from worker.embedded.errors import ServerStartFailed
from worker.embedded.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from pathlib import Path


def setting(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_its_url_serves_psycopg_and_sqlalchemy(postgres_server: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.info.dbname == "turn_worker"
    engine = sqlalchemy.create_engine(postgres_server.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT current_user")) == "turn_worker"
    engine.dispose()


def test_text_is_unicode_whatever_the_machine_speaks(postgres_server: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SELECT upper('é'), length('🙂')").fetchone() == ("É", 1)
    assert setting(postgres_server, "server_encoding") == "UTF8"
    assert setting(postgres_server, "TimeZone") == "UTC"


def test_it_takes_as_many_connections_as_asked(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, max_connections=23, durable=False) as server:
        assert setting(server, "max_connections") == "23"


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_it_is_durable_unless_told_otherwise(tmp_path: Path, durable: bool, fsync: str) -> None:  # noqa: FBT001 - a parameter of the test
    with EmbeddedPostgres(tmp_path, durable=durable) as server:
        assert setting(server, "fsync") == fsync
        assert setting(server, "synchronous_commit") == fsync


def test_the_users_own_postgresql_variables_do_not_disturb_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGPORT", "1")
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        assert setting(server, "port") != "1"


def test_a_pid_file_left_from_before_a_reboot_does_not_stop_it(tmp_path: Path) -> None:
    """After a reboot the process id in the file may belong to any other process."""
    with EmbeddedPostgres(tmp_path) as server:
        pid_file = tmp_path / "data" / "postmaster.pid"
        left_behind = pid_file.read_text().replace(str(server.pid), str(os.getppid()), 1)
    pid_file.write_text(left_behind)
    with EmbeddedPostgres(tmp_path) as server:
        assert server.is_running


def test_a_server_that_lost_its_lock_files_is_still_protected_by_its_pid_file(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        (tmp_path / "owner.lock").unlink()
        (tmp_path / "server.lock").unlink()
        with pytest.raises(ServerStartFailed, match=rf"(?s)postmaster\.pid.*already exists.*\(PID {server.pid}\)"):
            EmbeddedPostgres(tmp_path).start()
        assert (tmp_path / "data" / "postmaster.pid").exists()


def test_an_initialisation_that_was_broken_off_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "data.new" / "base").mkdir(parents=True)
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        assert server.is_running


def test_a_failed_start_quotes_the_log_and_leaves_the_folder_free(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False):
        pass
    version = tmp_path / "data" / "PG_VERSION"
    current = version.read_text()
    version.write_text("9.6\n")
    with pytest.raises(
        ServerStartFailed, match=r"(?s)ended with status 1\..*server\.log.*initialized by PostgreSQL version 9\.6"
    ):
        EmbeddedPostgres(tmp_path, durable=False).start()
    version.write_text(current)
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        assert server.is_running


def test_data_whose_password_was_lost_says_so(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False):
        pass
    (tmp_path / "password").unlink()
    with pytest.raises(ServerStartFailed, match=r"refused its own user \(.*password authentication failed"):
        EmbeddedPostgres(tmp_path, durable=False).start()


def test_a_failed_initialisation_quotes_the_log(tmp_path: Path) -> None:
    (tmp_path / "data.new").touch()
    with pytest.raises(
        ServerStartFailed, match=r"(?s)initdb ended with status 1.*initdb: error: could not access directory"
    ):
        EmbeddedPostgres(tmp_path, durable=False).start()


def test_a_crash_of_the_server_waits_for_its_last_process_before_a_restart(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server, psycopg.connect(server.url, autocommit=True) as connection:
        backend = connection.info.backend_pid
        # A stopped process cannot notice that its server has died, until it goes on.
        os.kill(backend, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        restart = Thread(target=server.restart)
        restart.start()
        restart.join(timeout=0.2)
        assert restart.is_alive()
        os.kill(backend, signal.SIGCONT)
        restart.join()
        assert server.is_running
