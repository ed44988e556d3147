"""`turn-worker worker`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import click

from worker.cli.servers import database_url, redis_url, require_redis, transaction
from worker.embedded.readiness import announce_ready
from worker.settings import load_settings
from worker.storage.secrets import Vault, require_secret_key
from worker.telemetry.logging import configure_logging

if TYPE_CHECKING:
    from pydantic import SecretStr


@click.command()
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    help="How many turns it runs at once.  [default: TURN_WORKER_CONCURRENCY, else 500]",
)
def worker(concurrency: int | None) -> None:
    """Run a worker process until SIGTERM or Ctrl-C; running turns may finish within the grace period.

    It needs DATABASE_URL and REDIS_URL, the schema that `turn-worker migrate` makes, and TURN_WORKER_SECRET_KEY if
    organizations have stored secrets.
    """
    settings = load_settings()
    if concurrency is not None:
        settings = settings.model_copy(update={"concurrency": concurrency})
    database, broker = database_url(settings), redis_url(settings)
    asyncio.run(_require_database(database, settings.secret_key))
    require_redis(broker)
    configure_logging(settings.log_level, settings.log_format)

    # pipecat takes seconds to load, and logs while it does: after the log is set up, and not for the help.
    from celery.signals import worker_ready  # noqa: PLC0415 - see above

    from worker.queue.tasks import run_worker  # noqa: PLC0415 - see above

    @worker_ready.connect(weak=False)
    def begin(**_: object) -> None:
        # Celery answers Ctrl-C with status 1, and a second one with a shutdown that loses turns. Here, it is as SIGTERM.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
        announce_ready()

    sys.exit(run_worker(settings, database_url=database, redis_url=broker))


async def _require_database(url: str, secret_key: SecretStr | None) -> None:
    async with transaction(url) as connection:
        await require_secret_key(connection, Vault(secret_key))
