"""A real Redis (or Valkey) server as a child process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.embedded.binaries import find_redis
from worker.embedded.process import ChildProcess
from worker.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

_PING_SECONDS = 5


class EmbeddedRedis(EmbeddedServer):
    """A Redis server in the given data folder; what it acknowledged is appended to disk once a second."""

    name = "Redis"

    @property
    def url(self) -> str:
        """`redis://:PASSWORD@127.0.0.1:PORT/0`, for redis-py and as Celery's broker."""
        return f"redis://:{self._address}/0"

    def _launch(self, log: int) -> ChildProcess:
        # The settings go in by standard input: on the command line every user of the machine could read the password.
        settings = f"""
            bind 127.0.0.1
            port {self._port}
            requirepass {self._password}
            dir {_quoted(self._folder.path)}
            appendonly yes
            save ""
            maxmemory-policy noeviction
            daemonize no
        """
        return ChildProcess(
            [find_redis(), "-"],
            stop_signal=signal.SIGTERM,
            feed=settings.encode(),
            cwd=self._folder.path,
            output=log,
            pass_fds=[self._folder.server_lock],
            umask=0o077,
        )

    def _is_ready(self) -> bool:
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis.from_url(self.url, socket_timeout=_PING_SECONDS, retry=once) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
