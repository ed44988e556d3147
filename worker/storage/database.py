"""Connections and transactions."""

from __future__ import annotations

import asyncio
import json
import select
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry

# A client that stops in mid-transaction (a paused process, a half-dead host) must not hold a session's lock for long.
_SERVER_OPTIONS = (
    "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=10s -c timezone=UTC -c jit=off"
)
CONNECT_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": _SERVER_OPTIONS,
    "application_name": "turn-worker",
}
_POOL_TIMEOUT_SECONDS = 10.0
_NEW = "new"

PATIENCE_SECONDS = 30.0
"""How long work on the database may take, at most. It is what the server allows one statement, too."""


class DatabaseUnavailable(TurnWorkerError):
    """PostgreSQL cannot be reached, refused the login, takes no writes, or went away in the middle of a statement."""

    code = "database_unavailable"
    retryable = True


class Database:
    """A pool of connections to PostgreSQL, one per process and event loop.

    Every write goes through `transaction()`, so that where a transaction begins and ends is visible at the call and
    the functions of this package take the connection they work on as an argument.
    """

    def __init__(self, url: str, *, pool_size: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Prepare to connect.

        Args:
            url: Where PostgreSQL is.
            pool_size: How many connections there are at most.
            patience_seconds: How long one statement or transaction may take in all. A server that keeps the connection but
                does not answer any more is given up then, and so is the connection.
        """
        self._patience_seconds = patience_seconds
        self._engine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT_SECONDS,
            pool_use_lifo=True,
            # Most work is one statement, which then is its own transaction and needs no round trips around it.
            isolation_level="AUTOCOMMIT",
            # Whoever opened a transaction has ended it by then.
            pool_reset_on_return=None,
            connect_args=CONNECT_ARGUMENTS,
            json_serializer=to_json,
        )
        event.listen(self._engine.sync_engine, "connect", _note_new_connection)
        event.listen(self._engine.sync_engine, "checkout", _refuse_dead_connection)
        event.listen(self._engine.sync_engine, "handle_error", _give_up_read_only_connection)
        self._transactional = self._engine.execution_options(isolation_level="READ COMMITTED")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseUnavailable: when there is no connection to be had, or it broke. A commit that raises it may or may not
                have happened; what follows must be safe in both cases.
        """
        async with self._patiently(), self._transactional.begin() as connection:
            yield connection

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is a transaction of its own: for reads and for single guarded writes.

        Raises:
            DatabaseUnavailable: as `transaction` does.
        """
        async with self._patiently(), self._engine.connect() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _patiently(self) -> AsyncIterator[None]:
        scope = asyncio.timeout(self._patience_seconds)
        try:
            with _translated():
                async with scope:
                    yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise unavailable(TimeoutError(f"no answer within {self._patience_seconds:g} s")) from error


def to_json(value: object) -> str:
    """Compact JSON in plain ASCII: what a model writes may hold what `json` columns refuse as raw text."""
    return json.dumps(value, separators=(",", ":"))


def sqlalchemy_url(database_url: str) -> str:
    """The URL in SQLAlchemy's form, whichever of the usual PostgreSQL forms it was given in."""
    url = make_url(database_url)
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


def libpq_url(database_url: str) -> str:
    """The URL in the form that libpq (and psycopg alone) understands."""
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def unavailable(error: Exception) -> DatabaseUnavailable:
    """What to tell an operator when PostgreSQL could not be used. The server's message carries no password."""
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return DatabaseUnavailable(f"PostgreSQL is not available: {reason}. Check DATABASE_URL and the server.")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise unavailable(error) from error
        raise


def _note_new_connection(_dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info[_NEW] = True


def _give_up_read_only_connection(context: ExceptionContext) -> None:
    # To psycopg that is a defect of the statement. It is a server that is no primary just now, and a connection kept to it
    # may lead there for ever.
    if isinstance(context.original_exception, ReadOnlySqlTransaction):
        context.is_disconnect = True


def _refuse_dead_connection(dbapi_connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    # A new one is not judged: the pool tries only twice, and then blames its user and not the server.
    if record.info.pop(_NEW, False):
        return
    # An idle connection has nothing to say. If it is readable, the server has said goodbye or is gone; the pool then
    # takes another. This costs a system call where a ping would cost a round trip for every use.
    poll = select.poll()
    poll.register(dbapi_connection.driver_connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError
