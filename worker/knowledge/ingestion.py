"""Makes chunks of documents: claim, read, embed, store, finish. A few at once beside the turns of a worker process."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import structlog
from structlog.contextvars import bound_contextvars

from worker.channel.document_envelope import (
    DOCUMENT_FAILED,
    DOCUMENT_PROCESSING,
    DOCUMENT_READY,
    DOCUMENT_RETRYING,
    DocumentEnvelope,
)
from worker.channel.publisher import ChannelUnavailable
from worker.errors import TurnWorkerError
from worker.knowledge.chunk_batches import ChunkBatches
from worker.knowledge.extraction import Limits, UnreadableDocument
from worker.knowledge.reader import reading
from worker.storage.database import DatabaseUnavailable
from worker.storage.ingestions import (
    ClaimedDocument,
    Ingestion,
    IngestionLost,
    begin_chunks,
    claim_document,
    fail_document,
    finish_document,
    give_back_document,
    renew_ingestion,
    retry_document,
)
from worker.telemetry import names
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from pydantic import JsonValue

    from worker.channel.publisher import Publisher
    from worker.knowledge.embeddings import Embedder
    from worker.settings import Settings
    from worker.storage.database import Database
    from worker.storage.documents import DocumentReference

log = structlog.get_logger(__name__)

_WRITE_PAUSES_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)


class Ending(Enum):
    """How an attempt ended; the value is what Celery's log and monitors show for the task."""

    NOT_CLAIMABLE = "not claimable"
    BUSY = "busy"
    READY = "ready"
    FAILED = "failed"
    RETRYING = "retrying"
    GIVEN_BACK = "given back"
    LOST = "lost"


class DocumentWorkerLost(TurnWorkerError):
    """The document lost its worker too often."""

    code = "worker_lost"

    def __init__(self, losses: int) -> None:
        super().__init__(losses)
        self.losses = losses

    def __str__(self) -> str:
        return (
            f"{self.losses} workers died or stopped answering while they read this document, so it is not tried again."
        )


@dataclass(eq=False, slots=True)
class _Running:
    task: asyncio.Task[dict[str, JsonValue] | None]
    lost: bool = False


class IngestionWorker:
    """Takes documents from claim to chunks.

    A ring makes it look for that document. Whenever an attempt ends it looks for whatever else can be claimed, so a ring
    that comes while it is busy may be forgotten; and it looks by itself now and then, for rings that were lost.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        embedder: Embedder | None,
        *,
        worker_name: str,
    ) -> None:
        self._settings = settings
        self._database = database
        self._publisher = publisher
        self._embedder = embedder
        self._worker_name = worker_name
        self._limits = Limits(characters=settings.max_document_chars)
        self._running: set[_Running] = set()
        self._slots_taken = 0
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin to look for documents that nobody rang for, or whose worker died."""
        if self._settings.document_concurrency:
            self._start(self._sweep())

    async def ingest(self, document: DocumentReference) -> Ending:
        """Make chunks of a document if it can be claimed. What goes wrong with it is its result, not an exception.

        Raises:
            DatabaseUnavailable: when it could not be claimed; a sweep will.
        """
        ending = await self._work(document)
        if ending not in {Ending.NOT_CLAIMABLE, Ending.BUSY}:
            self._start(self._work_on())
        return ending

    def give_back(self) -> None:
        """Stop what runs and hand each document back, to go on in another worker; claim nothing more."""
        self._stopping.set()
        for running in self._running:
            running.task.cancel()

    async def drain(self) -> None:
        """Give back what runs, and wait until nothing does."""
        self.give_back()
        while self._background:
            await asyncio.wait(self._background)

    async def _sweep(self) -> None:
        while not self._stopping.is_set():
            if self._slots_taken < self._settings.document_concurrency:
                self._start(self._work_on(overdue_seconds=self._settings.sweep_after_seconds))
            interval = self._settings.sweep_interval_seconds * random.uniform(0.8, 1.2)  # noqa: S311 -- no secret
            await _wait_for(self._stopping, interval)

    async def _work_on(self, *, overdue_seconds: float = 0.0) -> None:
        """Take what can be claimed, one after the other, until nothing can."""
        try:
            while await self._work(None, overdue_seconds) not in {Ending.NOT_CLAIMABLE, Ending.BUSY}:
                pass
        except DatabaseUnavailable as error:
            log.warning(names.SWEEP_FAILED, error=str(error))
        except Exception:  # the net stays up, whatever falls into it
            log.exception(names.SWEEP_FAILED)

    async def _work(self, document: DocumentReference | None, overdue_seconds: float = 0.0) -> Ending:
        if self._stopping.is_set() or self._slots_taken >= self._settings.document_concurrency:
            return Ending.BUSY
        self._slots_taken += 1
        try:
            async with self._database.statement() as connection:
                claimed = await claim_document(
                    connection,
                    claimed_by=self._worker_name,
                    lease_seconds=self._settings.lease_seconds,
                    document=document,
                    overdue_seconds=overdue_seconds,
                )
            return Ending.NOT_CLAIMABLE if claimed is None else await self._run(claimed)
        finally:
            self._slots_taken -= 1

    async def _run(self, claimed: ClaimedDocument) -> Ending:
        ingestion = claimed.ingestion
        with bound_contextvars(
            organization_id=str(ingestion.organization_id),
            document_id=str(ingestion.document_id),
            attempt=ingestion.attempt,
        ):
            log.info(names.DOCUMENT_CLAIMED)
            await self._announce(ingestion, DOCUMENT_PROCESSING)
            running = _Running(asyncio.create_task(self._make_chunks(claimed)))
            self._running.add(running)
            renewing = asyncio.create_task(self._renew(ingestion, running))
            if self._stopping.is_set():
                running.task.cancel()
            try:
                (result,) = await asyncio.gather(running.task, return_exceptions=True)
                return await self._end(claimed, running, result)
            except IngestionLost:
                return Ending.LOST
            finally:
                self._running.discard(running)
                renewing.cancel()

    async def _make_chunks(self, claimed: ClaimedDocument) -> dict[str, JsonValue] | None:
        """Read the document and store its chunks behind those that are stored; what it has to do without, as an error."""
        if claimed.worker_losses >= self._settings.max_worker_losses:
            raise DocumentWorkerLost(claimed.worker_losses)
        batches = ChunkBatches(self._database, self._embedder, claimed, may_try_again=not self._is_last_try(claimed))
        async with reading(claimed.content, claimed.media_type, claimed.charset, self._limits) as document:
            stored = claimed.chunks_done
            if document.total != claimed.chunks_total:  # nobody has read it before, or another release did
                stored = 0
                async with self._database.statement() as connection:
                    await begin_chunks(connection, claimed.ingestion, total=document.total)
            ordinal = 0
            async for text in document.chunks:
                if ordinal >= stored:
                    await batches.add(ordinal, text)
                ordinal += 1
            await batches.store()
        return batches.lacking

    async def _end(
        self, claimed: ClaimedDocument, running: _Running, result: dict[str, JsonValue] | BaseException | None
    ) -> Ending:
        match result:
            case None | dict():
                ending = await self._finish(claimed, result)
            case IngestionLost():
                ending = Ending.LOST
            case asyncio.CancelledError() if running.lost:
                ending = Ending.LOST
            case asyncio.CancelledError():
                ending = await self._give_back(claimed)
            case DatabaseUnavailable() as error:
                log.warning(names.COMMIT_FAILED, error=str(error))
                ending = await self._give_back(claimed)
            case TurnWorkerError() as error if error.retryable:
                ending = await self._retry(claimed, error)
            case TurnWorkerError() as error:
                ending = await self._fail(claimed, error)
            case error:  # a defect of ours must end the document, not take it through every worker
                log.error(names.DOCUMENT_DEFECT, exc_info=error)
                ending = await self._fail(claimed, _defect(error))
        return ending

    async def _finish(self, claimed: ClaimedDocument, lacking: dict[str, JsonValue] | None) -> Ending:
        await self._write(finish_document, claimed.ingestion, lacking=lacking)
        log.info(names.DOCUMENT_READY, **({"code": lacking["code"]} if lacking else {}))
        await self._announce(claimed.ingestion, DOCUMENT_READY)
        return Ending.READY

    async def _fail(self, claimed: ClaimedDocument, error: TurnWorkerError) -> Ending:
        described = _described(error)
        await self._write(fail_document, claimed.ingestion, error=described)
        log.warning(names.DOCUMENT_FAILED, code=described["code"], error=described["message"])
        await self._announce(claimed.ingestion, DOCUMENT_FAILED)
        return Ending.FAILED

    async def _retry(self, claimed: ClaimedDocument, error: TurnWorkerError) -> Ending:
        if self._is_last_try(claimed):
            return await self._fail(claimed, error)
        described = _described(error)
        ceiling = min(self._settings.retry_max_seconds, self._settings.retry_base_seconds * 2.0**claimed.failures)
        delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311 -- spreads load, protects nothing
        await self._write(retry_document, claimed.ingestion, error=described, delay_seconds=delay)
        log.warning(names.DOCUMENT_RETRYING, code=described["code"], error=described["message"], delay_seconds=delay)
        await self._announce(claimed.ingestion, DOCUMENT_RETRYING)
        return Ending.RETRYING

    async def _give_back(self, claimed: ClaimedDocument) -> Ending:
        await self._write(give_back_document, claimed.ingestion)
        return Ending.GIVEN_BACK

    def _is_last_try(self, claimed: ClaimedDocument) -> bool:
        """Whether another failure uses up what a document may fail."""
        return claimed.failures + 1 >= self._settings.max_provider_failures

    async def _write(self, write: Callable[..., Awaitable[None]], ingestion: Ingestion, **values: object) -> None:
        """Make the write that ends an attempt, again and again while PostgreSQL is away: the fence makes that safe."""
        pauses = iter(_WRITE_PAUSES_SECONDS)
        while True:
            try:
                async with self._database.statement() as connection:
                    return await write(connection, ingestion, **values)
            except DatabaseUnavailable as error:
                if self._stopping.is_set():
                    raise
                log.warning(names.COMMIT_FAILED, error=str(error))
                await _wait_for(self._stopping, next(pauses, _WRITE_PAUSES_SECONDS[-1]))

    async def _renew(self, ingestion: Ingestion, running: _Running) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_renewal_seconds)
            try:
                async with self._database.statement() as connection:
                    await renew_ingestion(connection, ingestion, lease_seconds=self._settings.lease_seconds)
            except IngestionLost:
                running.lost = True
                running.task.cancel()
                return
            except DatabaseUnavailable as error:
                log.warning(names.LEASE_RENEWAL_FAILED, error=str(error))

    async def _announce(self, ingestion: Ingestion, event: str) -> None:
        try:
            await self._publisher.announce(DocumentEnvelope(ingestion.organization_id, ingestion.document_id, event))
        except ChannelUnavailable as error:  # whoever waits reads the document again now and then
            log.warning(names.CHANNEL_PUBLISH_FAILED, error=str(error), events=1)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _described(error: TurnWorkerError) -> dict[str, JsonValue]:
    code = error.reason if isinstance(error, UnreadableDocument) else error.code
    return {"code": code, "message": mask_secrets(str(error))}


def _defect(error: BaseException) -> TurnWorkerError:
    return TurnWorkerError(
        f"Reading the document ran into a defect of this program ({type(error).__name__}). "
        "The worker's log has the traceback under the document's id; please report it."
    )


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
