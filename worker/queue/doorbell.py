"""Rings Celery workers for turns, documents and ends of sessions that can be claimed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError

from worker.errors import TurnWorkerError
from worker.queue.app import COMPLETE_SESSION, INGEST_DOCUMENT, RUN_TURN, celery_app
from worker.telemetry.masking import mask_secrets
from worker.telemetry.tracing import outgoing_context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from worker.storage.completions import SessionReference
    from worker.storage.documents import DocumentReference
    from worker.turns.dispatch import TurnReference


class BrokerUnavailable(TurnWorkerError):
    """Celery's broker did not take a message."""

    code = "broker_unavailable"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Celery's broker took no message: {self.reason}. Check Redis and REDIS_URL. Nothing is lost: "
            "the turns are in PostgreSQL, and a sweep rings for them once Redis is back."
        )


class CeleryDoorbell:
    """The `Doorbell` over Celery, for use on an event loop.

    Celery's publishing blocks, so it has a thread of its own: a broker that does not answer delays other rings, nothing else.
    """

    def __init__(self, broker_url: str) -> None:
        self._app = celery_app(broker_url)
        # kombu would try for 4 s more, and rings wait for each other. A sweep rings again. Not for workers: theirs must wait.
        self._app.conf.broker_transport_options |= {"max_retries": 0}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="doorbell")

    async def ring(self, turns: Sequence[TurnReference]) -> None:
        """Send one message for each turn; its headers say in which span of which trace that happened.

        Raises:
            BrokerUnavailable: when the broker did not take them; some may have been sent.
        """
        await asyncio.get_running_loop().run_in_executor(
            self._thread,
            self._send,
            RUN_TURN,
            [(turn.turn_id, turn.organization_id) for turn in turns],
            outgoing_context(),
        )

    async def ring_for_document(self, document: DocumentReference) -> None:
        """Send a message for a document.

        Raises:
            BrokerUnavailable: when the broker did not take it.
        """
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._send, INGEST_DOCUMENT, [(document.document_id, document.organization_id)], {}
        )

    async def ring_for_sessions(self, sessions: Sequence[SessionReference]) -> None:
        """Send a message for each session that has ended.

        Raises:
            BrokerUnavailable: when the broker did not take them; some may have been sent.
        """
        ids = [(session.session_id, session.organization_id) for session in sessions]
        await asyncio.get_running_loop().run_in_executor(self._thread, self._send, COMPLETE_SESSION, ids, {})

    def close(self) -> None:
        """Wait for rings under way and close the connections."""
        self._thread.shutdown(wait=True)
        self._app.close()

    def _send(self, task: str, ids: Sequence[tuple[UUID, UUID]], headers: dict[str, str]) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                for arguments in ids:
                    self._app.send_task(task, args=[str(id_) for id_ in arguments], headers=headers, producer=producer)
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(mask_secrets(str(error))) from error
