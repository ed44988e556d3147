"""The Celery tasks, and the life of a Celery worker process around it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import signals
from celery.exceptions import SecurityWarning

from worker.queue.app import COMPLETE_SESSION, DOCUMENT_QUEUE, INGEST_DOCUMENT, QUEUE, RUN_TURN, celery_app
from worker.queue.runtime import WorkerRuntime
from worker.storage.completions import SessionReference
from worker.storage.documents import DocumentReference
from worker.telemetry.tracing import trace_context
from worker.turns.dispatch import TurnReference

if TYPE_CHECKING:
    from celery import Celery

    from worker.settings import Settings


def worker_app(runtime: WorkerRuntime, broker_url: str) -> Celery:
    """The Celery application of a worker process: the tasks are registered, and the process's signals drive the runtime."""
    app = celery_app(broker_url)

    @app.task(name=RUN_TURN, bind=True)
    def run_turn(task: Any, turn_id: str, organization_id: str) -> str:
        """Run one turn if it can be claimed, and say how that ended."""
        rung_by = trace_context(task.request.headers or {})
        return runtime.execute(TurnReference(UUID(organization_id), UUID(turn_id), rung_by)).value

    @app.task(name=INGEST_DOCUMENT)
    def ingest_document(document_id: str, organization_id: str) -> str:
        """Make chunks of one document if it can be claimed, and say how that ended."""
        return runtime.ingest(DocumentReference(UUID(organization_id), UUID(document_id))).value

    @app.task(name=COMPLETE_SESSION)
    def complete_session(session_id: str, organization_id: str) -> str:
        """Do what is done once when a session ends, if it can be claimed, and say how that ended."""
        return runtime.complete(SessionReference(UUID(organization_id), UUID(session_id))).value

    # A bootstep's stop() would run before the pool has drained; the signals come at the right moments.
    # Logging is set up already; a receiver, whatever it does, keeps Celery from setting it up once more.
    signals.setup_logging.connect(_calling(lambda: None), weak=False)
    signals.worker_shutting_down.connect(_calling(runtime.begin_shutdown), weak=False)
    signals.worker_shutdown.connect(_calling(runtime.stop), weak=False)
    return app


def run_worker(settings: Settings, *, database_url: str, redis_url: str) -> int:
    """Run a worker process until SIGTERM or SIGINT, and return its exit status.

    Turns that run then may finish within the grace period; the rest are given back.

    Raises:
        MetricsPortUnavailable: when something else listens where Prometheus is to find the metrics.
    """
    # Celery advises against running as root because of pickle, which this program refuses; containers and embedded
    # servers do it all the time.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    runtime = WorkerRuntime(settings, database_url=database_url, redis_url=redis_url)
    app = worker_app(runtime, redis_url)
    worker = app.Worker(
        pool="threads",
        queues=[QUEUE, DOCUMENT_QUEUE] if settings.document_concurrency else [QUEUE],
        concurrency=settings.concurrency,
        hostname=f"turn-worker@{runtime.name.replace('/', '.')}",
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    # Not as Celery's signal: it logs what a receiver raises, and goes on to take messages that it cannot act on.
    runtime.start()
    worker.start()
    return int(worker.exitcode or 0)


def _calling(function: Any) -> Any:
    def receive(**_: object) -> None:
        function()

    return receive
