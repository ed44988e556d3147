"""The Celery application, configured the same for whoever rings and whoever works."""

from __future__ import annotations

from typing import Any, Final

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection

QUEUE: Final = "turns"
RUN_TURN: Final = "turns.run"
"""The task of a turn. Who rings knows a task by its name and never imports it."""

DOCUMENT_QUEUE: Final = "documents"
INGEST_DOCUMENT: Final = "documents.ingest"
"""The task of a document."""

COMPLETE_SESSION: Final = "sessions.complete"
"""The task of a session that has ended. It takes no longer than a turn, so it shares their queue."""

# Redis: a dead peer is noticed within this, and a publisher that cannot connect gives up.
_SOCKET_TIMEOUT_SECONDS: Final = 5.0
_CONNECT_TIMEOUT_SECONDS: Final = 2.0


# How long a worker waits between two attempts to reach the broker: first, then longer by a step, up to the last.
_RECONNECT_SECONDS: Final = {"interval_start": 1, "interval_step": 1, "interval_max": 1}


class _Connection(Connection):
    """A connection that is made again soon. By default kombu waits longer each time, up to half a minute, and so a worker
    would after an outage that long be idle for as long again.
    """

    def ensure_connection(  # type: ignore[override] # it takes what kombu's takes
        self, *args: Any, **options: Any
    ) -> Connection:
        """Connect, however often it takes; see kombu."""
        return super().ensure_connection(*args, **{**_RECONNECT_SECONDS, **options})


class _AMQP(AMQP):
    Connection = _Connection


class _App(Celery):
    amqp_cls = f"{__name__}:{_AMQP.__name__}"


def celery_app(broker_url: str) -> Celery:
    """Make the application.

    Time limits, retries, results and at-least-once delivery are not Celery's business here: PostgreSQL decides what runs,
    so messages are acknowledged early and no result is kept.
    """
    app = _App("turn-worker", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=QUEUE,
        task_routes={
            RUN_TURN: {"queue": QUEUE},
            COMPLETE_SESSION: {"queue": QUEUE},
            INGEST_DOCUMENT: {"queue": DOCUMENT_QUEUE},
        },
        task_ignore_result=True,
        # One backend, which keeps nothing, for all threads of a worker. Celery would make one for each, and for that look
        # through every installed package while no turn of the process goes on.
        result_backend_thread_safe=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_send_sent_event=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=True,
        # Nothing may be lost by asking again; an operator who stops Redis for an hour finds workers that come back.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app
