"""`turn-worker api`."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import click
import structlog
import uvloop

from worker.cli.servers import RedisUnavailable, database_url, redis_url, require_database, require_redis
from worker.embedded.readiness import announce_ready
from worker.settings import load_settings
from worker.telemetry import names
from worker.telemetry.logging import configure_logging

if TYPE_CHECKING:
    from api_stub.server import ApiServer

_log = structlog.get_logger(__name__)


@click.command()
@click.option("--host", help="The address to listen on.  [default: TURN_WORKER_HOST, else 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 takes a free one.  [default: TURN_WORKER_PORT, else 8080]",
)
def api(host: str | None, port: int | None) -> None:
    """Run the HTTP API until SIGTERM or Ctrl-C; requests under way are finished first.

    It needs DATABASE_URL and REDIS_URL, and the schema that `turn-worker migrate` makes.
    """
    from api_stub.server import ApiServer  # noqa: PLC0415 - loads FastAPI and Celery: not for the help
    from worker.queue.doorbell import CeleryDoorbell  # noqa: PLC0415 - likewise

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = load_settings().model_copy(update=given)
    require_database(database_url(settings))
    broker_url = redis_url(settings)
    configure_logging(settings.log_level, settings.log_format)
    _warn_without_redis(broker_url)
    doorbell = CeleryDoorbell(broker_url)
    try:
        server = ApiServer(settings, doorbell)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(server))
    finally:
        doorbell.close()


async def _serve(server: ApiServer) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    serving = asyncio.create_task(server.run())
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
    if started.done():
        click.echo(f"The API listens on {server.url}", err=True)
        announce_ready()
    started.cancel()
    await serving


def _warn_without_redis(url: str) -> None:
    # Without Redis the API takes turns all the same, and workers find them a little later; so it starts.
    try:
        require_redis(url)
    except RedisUnavailable as error:
        _log.warning(names.CHANNEL_LOST, error=str(error))
