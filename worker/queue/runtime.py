"""Everything one worker process holds open, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import structlog

from worker.channel.envelope import CANCELLATIONS
from worker.channel.publisher import Publisher
from worker.channel.subscriber import Subscriber
from worker.channel.text_stream import TextStreams
from worker.engine.llm.clients import ProviderClients
from worker.engine.process import prepare_process
from worker.engine.web.client import WebClient
from worker.knowledge.embeddings import Embedder
from worker.knowledge.ingestion import Ending as IngestionEnding
from worker.knowledge.ingestion import IngestionWorker
from worker.queue.doorbell import CeleryDoorbell
from worker.queue.loop import LoopThread
from worker.storage.database import Database
from worker.telemetry import names
from worker.telemetry.telemetry import Telemetry
from worker.turns.cancellations import stop_cancelled_turns
from worker.turns.completion import CompletionWorker
from worker.turns.completion import Ending as CompletionEnding
from worker.turns.dispatch import Dispatch, TurnReference
from worker.turns.executor import TurnExecutor
from worker.turns.lease import LeaseKeeper
from worker.turns.queue_watch import QueueWatch
from worker.turns.sweeper import Sweeper

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.storage.completions import SessionReference
    from worker.storage.documents import DocumentReference
    from worker.turns.endings import Ending

log = structlog.get_logger(__name__)


class WorkerRuntime:
    """A worker process's loop with the executor, the lease keeper and the sweeper on it.

    Celery's threads call `execute` between `start` and `stop`; Celery's signals call `begin_shutdown` and `stop`.
    """

    def __init__(self, settings: Settings, *, database_url: str, redis_url: str) -> None:
        self._settings = settings
        self._telemetry = Telemetry.start(settings, scraped=settings.metrics_port > 0)
        self._loop = LoopThread()
        self._database = Database(database_url, pool_size=settings.database_pool_size)
        self._publisher = Publisher(redis_url)
        self._texts = TextStreams(redis_url)
        self._redis_url = redis_url
        self._doorbell = CeleryDoorbell(redis_url)
        self._leases = LeaseKeeper(
            database_url,
            self._loop.loop,
            lease_seconds=settings.lease_seconds,
            renewal_seconds=settings.lease_renewal_seconds,
            look_seconds=settings.cancellation_check_seconds,
            stall_seconds=settings.loop_stall_seconds,
        )
        self.name = f"{socket.gethostname()}/{os.getpid()}"

    def start(self) -> None:
        """Begin to sweep and to take turns.

        Raises:
            MetricsPortUnavailable: when something else listens where Prometheus is to find the metrics.
        """
        if self._settings.metrics_port:
            self._telemetry.serve(self._settings.host, self._settings.metrics_port)
        self._loop.start()
        self._loop.submit(self._open()).result()
        self._leases.start()
        log.info(names.WORKER_STARTED, worker=self.name, concurrency=self._settings.concurrency)

    def execute(self, turn: TurnReference) -> Ending:
        """Run a turn on the loop and wait for its end; called by one of Celery's threads."""
        return self._loop.submit(self._executor.execute(turn)).result()

    def ingest(self, document: DocumentReference) -> IngestionEnding:
        """Make chunks of a document on the loop and wait for the end of it; called by one of Celery's threads."""
        return self._loop.submit(self._ingestion.ingest(document)).result()

    def complete(self, session: SessionReference) -> CompletionEnding:
        """Do the work at a session's end on the loop and wait for the end of it; called by one of Celery's threads."""
        return self._loop.submit(self._completion.complete(session)).result()

    def begin_shutdown(self) -> None:
        """Let running turns finish for the grace period, then give back the rest. Returns at once."""
        grace = self._settings.shutdown_grace_seconds
        log.info(names.WORKER_STOPPING, running=self._executor.running, grace_seconds=grace)
        self._loop.loop.call_soon_threadsafe(self._sweeper.stop)
        # Whoever takes such a document on does so behind the chunks that are stored.
        self._loop.loop.call_soon_threadsafe(self._ingestion.give_back)
        for give_back in (self._executor.give_back, self._completion.give_back):
            self._loop.loop.call_soon_threadsafe(self._loop.loop.call_later, grace, give_back)

    def stop(self) -> None:
        """Close everything. Call it when no turn runs any more."""
        self._leases.stop()
        self._loop.submit(self._close()).result()
        self._doorbell.close()
        self._loop.stop()
        self._telemetry.close()
        log.info(names.WORKER_STOPPED, worker=self.name)

    async def _open(self) -> None:
        prepare_process("anthropic", "openai")
        self._clients = ProviderClients()
        self._web = WebClient()
        self._dispatch = Dispatch(self._database, self._publisher, self._doorbell, self._telemetry)
        self._executor = TurnExecutor(
            settings=self._settings,
            database=self._database,
            dispatch=self._dispatch,
            leases=self._leases,
            clients=self._clients,
            web=self._web,
            worker_name=self.name,
            texts=self._texts,
            telemetry=self._telemetry,
        )
        self._completion = CompletionWorker(
            settings=self._settings,
            database=self._database,
            dispatch=self._dispatch,
            clients=self._clients,
            web=self._web,
            worker_name=self.name,
        )
        self._cancellations = Subscriber(self._redis_url, patterns=[CANCELLATIONS])
        self._stopping_cancelled = asyncio.create_task(stop_cancelled_turns(self._cancellations, self._executor))
        await self._cancellations.start()
        self._embedder = Embedder.of(self._settings)
        self._ingestion = IngestionWorker(
            self._settings, self._database, self._publisher, self._embedder, worker_name=self.name
        )
        self._ingestion.start()
        self._queue_watch = QueueWatch(self._database, self._telemetry)
        self._sweeper = Sweeper(self._settings, self._database, self._dispatch, worker_name=self.name)
        self._watching = asyncio.create_task(self._queue_watch.run())
        self._sweeping = asyncio.create_task(self._sweeper.run())

    async def _close(self) -> None:
        self._sweeper.stop()
        self._watching.cancel()
        await asyncio.wait([self._sweeping, self._watching])
        await self._cancellations.close()
        await self._stopping_cancelled
        await self._executor.drain()
        await self._completion.drain()
        await self._ingestion.drain()
        if self._embedder is not None:
            await self._embedder.close()
        await self._dispatch.drain()
        await self._clients.close()
        await self._texts.close()
        await self._web.close()
        await self._publisher.close()
        await self._database.close()
