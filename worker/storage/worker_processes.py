"""Which worker processes live, and how many turns they can run at once: what there is to share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

SEEN_SECONDS: Final = 15
"""A process that has not said for so long that it lives is not counted. It says so each second or, while Redis does not
answer, after that has timed out."""

_UNKNOWN_CAPACITY: Final = 100

CAPACITY: Final = f"""
    coalesce(
        (
            SELECT sum(worker_processes.concurrency) FROM worker_processes
            WHERE worker_processes.seen_at > now() - interval '{SEEN_SECONDS} seconds'
        ),
        {_UNKNOWN_CAPACITY}
    )
"""
"""Part of a statement: how many turns all living worker processes run at once. When none has said that it lives, whoever
comes next will find so many rings, and not a whole backlog of them."""

BUSY: Final = """
    SELECT organization_id FROM turns WHERE status = 'running'
    UNION ALL
    SELECT organization_id FROM turns WHERE status = 'pending' AND rung_at IS NOT NULL
"""
"""Part of a statement: a row for each turn that takes some of that capacity, running or rung for and about to run."""

_KEEP_ALIVE = text("""
    INSERT INTO worker_processes (name, concurrency, seen_at) VALUES (:name, :concurrency, now())
    ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, seen_at = excluded.seen_at
""")
_LIVING = text(f"""
    SELECT count(*) FROM worker_processes WHERE seen_at > now() - interval '{SEEN_SECONDS} seconds'
""")
_SIGN_OFF = text("DELETE FROM worker_processes WHERE name = :name")
_FORGET_SILENT = text("""
    DELETE FROM worker_processes WHERE name IN (
        SELECT name FROM worker_processes WHERE seen_at < now() - interval '1 hour' FOR UPDATE SKIP LOCKED
    )
""")


async def keep_alive(connection: AsyncConnection, *, name: str, concurrency: int) -> None:
    """Note that this worker process lives, and how many turns it runs at once."""
    await connection.execute(_KEEP_ALIVE, {"name": name, "concurrency": concurrency})


async def living_workers(connection: AsyncConnection) -> int:
    """How many worker processes live."""
    return int(await connection.scalar(_LIVING) or 0)


async def sign_off(connection: AsyncConnection, *, name: str) -> None:
    """Note that this worker process takes no more turns."""
    await connection.execute(_SIGN_OFF, {"name": name})


async def forget_silent(connection: AsyncConnection) -> None:
    """Remove processes that ended without saying so, long after they stopped counting."""
    await connection.execute(_FORGET_SILENT)
