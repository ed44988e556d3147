"""What is done once when a session ends: the final extraction, and the webhooks of its graph.

Everything it does to others carries a name that stays the same however often it is tried, and what was done is written down
before the next thing is begun, under the fence of its attempt. So a worker that dies in between costs a repetition at most.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

import structlog
from structlog.contextvars import bound_contextvars

from worker.channel.event_types import SESSION_FINALIZED, SESSION_WEBHOOK_DELIVERED, SESSION_WEBHOOK_FAILED
from worker.engine.final_extraction import extract_finally
from worker.engine.request import TurnRequest
from worker.engine.turn import utc_now
from worker.errors import TurnWorkerError
from worker.storage import session_views
from worker.storage.branch import base_checkpoint, load_branch
from worker.storage.claim import Attempt
from worker.storage.completions import (
    SessionReference,
    claim_completion,
    end_attempt,
    keep_gathered_context,
    read_deliveries,
)
from worker.storage.database import DatabaseUnavailable
from worker.storage.outbox import NewEvent
from worker.storage.secrets import Vault
from worker.storage.transcript import read_transcript, session_usage
from worker.telemetry import names
from worker.telemetry.masking import mask_secrets
from worker.turns.completed_turn import session_events
from worker.turns.definitions import KnownDefinitions
from worker.turns.model import ModelResolver
from worker.turns.usage_ledger import UsageLedger
from worker.turns.web import OrganizationWeb, allowed_hosts
from worker.turns.webhooks import TIMEOUT_SECONDS, Ended, Tried, deliver
from worker.workflow.webhook import webhook_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.engine.llm.clients import ProviderClients
    from worker.engine.web.client import WebClient
    from worker.settings import Settings
    from worker.storage.completions import ClaimedCompletion
    from worker.storage.database import Database
    from worker.storage.session_views import SessionView
    from worker.turns.definitions import KnownDefinition
    from worker.turns.dispatch import Dispatch

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 50
"""How often the work at one session's end is taken on for each of its webhooks, whatever keeps it from being done."""

_DEFECT_PAUSE_SECONDS: Final = 60.0
# One attempt is shorter than its lease by far, so that no lease has to be renewed.
_MARGIN_SECONDS: Final = 30.0


class Ending(Enum):
    """How an attempt ended; the value is what Celery's log and monitors show for the task."""

    NOT_CLAIMABLE = "not claimable"
    COMPLETED = "completed"
    RETRYING = "retrying"
    FAILED = "failed"
    LOST = "lost"


class CompletionWorker:
    """Does the work at sessions' ends, many at once on one event loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        dispatch: Dispatch,
        clients: ProviderClients,
        web: WebClient,
        worker_name: str,
    ) -> None:
        """Wire it up.

        Args:
            clients: The SDK clients of the LLM providers, for the final extraction.
            web: The client for webhooks.
            worker_name: Which process this is; stored with what it claims, for people to read.
        """
        self._database = database
        self._dispatch = dispatch
        self._clients = clients
        self._definitions = KnownDefinitions(database)
        self._models = ModelResolver(settings, database)
        self._web = OrganizationWeb(database, Vault(settings.secret_key), web)
        self._usage = UsageLedger(database)
        self._worker_name = worker_name
        self._extraction_seconds = settings.turn_time_limit_seconds
        self._lease_seconds = settings.turn_time_limit_seconds + TIMEOUT_SECONDS + _MARGIN_SECONDS
        self._running: set[asyncio.Task[Ending]] = set()
        self._stopping = False

    async def complete(self, session: SessionReference) -> Ending:
        """Do what is to be done at a session's end, if it can be claimed.

        Raises:
            DatabaseUnavailable: when PostgreSQL could not be used. A sweep rings again, once the lease has expired if there
                is one.
        """
        claimed = None if self._stopping else await self._claim(session)
        if claimed is None:
            return Ending.NOT_CLAIMABLE
        with bound_contextvars(organization_id=str(session.organization_id), session_id=str(session.session_id)):
            task = asyncio.get_running_loop().create_task(self._attempt(claimed))
            self._running.add(task)
            if self._stopping:  # since the claim was made
                task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                if not task.cancelled():
                    raise
                return await self._end(claimed, [], again_in_seconds=0.0)
            finally:
                self._running.discard(task)

    def give_back(self) -> None:
        """Stop what runs and leave it to another worker; claim nothing more."""
        self._stopping = True
        for task in self._running:
            task.cancel()

    async def drain(self) -> None:
        """Write what is still in memory. Call it when nothing runs any more."""
        await self._usage.drain()

    async def _claim(self, session: SessionReference) -> ClaimedCompletion | None:
        async with self._database.statement() as connection:
            return await claim_completion(
                connection, session, claimed_by=self._worker_name, lease_seconds=self._lease_seconds
            )

    async def _attempt(self, claimed: ClaimedCompletion) -> Ending:
        try:
            async with asyncio.timeout(self._lease_seconds - _MARGIN_SECONDS / 2):
                return await self._do(claimed)
        except DatabaseUnavailable:
            raise
        except TurnWorkerError as error:
            return await self._give_up(claimed, error)
        except Exception:  # a defect of ours must not take it through every worker without a pause
            log.exception(names.COMPLETION_DEFECT)
            if claimed.attempt >= MAX_ATTEMPTS:
                return await self._give_up(claimed, TurnWorkerError("A defect of this program; see the workers' logs."))
            return await self._end(claimed, [], again_in_seconds=_DEFECT_PAUSE_SECONDS)

    async def _do(self, claimed: ClaimedCompletion) -> Ending:
        known = await self._definitions.get(
            organization_id=claimed.organization_id, definition_id=claimed.definition_id
        )
        session = await self._session(claimed)
        gathered_context = claimed.gathered_context
        if gathered_context is None:
            gathered_context, happened = await self._learned(claimed, known, session)
            async with self._database.statement() as connection:
                recorded = await keep_gathered_context(connection, claimed, gathered_context, session_events(happened))
            if recorded is None:
                return Ending.LOST
            self._dispatch.after_commit(recorded)
        nodes = webhook_nodes(known.definition)
        tried: list[Tried] = []
        before = {}
        if nodes:
            async with self._database.statement() as connection:
                before = await read_deliveries(connection, claimed)
            ended = await self._ended(claimed, session, gathered_context)
            web = self._web.of(claimed.organization_id, allowed_hosts(claimed.organization_settings))
            tried = await deliver(nodes, before, ended=ended, web=web)
        outcomes = {**before, **{attempt.delivery.node_id: attempt.delivery for attempt in tried}}
        pauses = [delivery.due_in_seconds or 0.0 for delivery in outcomes.values() if delivery.status == "retrying"]
        if pauses and claimed.attempt < MAX_ATTEMPTS * len(nodes):
            return await self._end(claimed, tried, again_in_seconds=min(pauses))
        over = [attempt for attempt in tried if attempt.delivery.status != "retrying"]
        given_up = [
            Tried(node, replace(outcomes[node.id], status="failed", due_in_seconds=None))
            for node in nodes
            if outcomes[node.id].status == "retrying"
        ]
        delivered = sum(delivery.status == "delivered" for delivery in outcomes.values())
        finalized: dict[str, JsonValue] = {
            "completion_id": str(claimed.id),
            "webhooks": {"delivered": delivered, "failed": len(outcomes) - delivered},
        }
        return await self._end(claimed, [*over, *given_up], finalized=finalized)

    async def _learned(
        self, claimed: ClaimedCompletion, known: KnownDefinition, session: SessionView
    ) -> tuple[dict[str, JsonValue], list[TurnEvent]]:
        """What the conversation knows once its last node's variables are extracted, if that was still to be done."""
        if claimed.turn_id is not None or session.head_turn_id is None:
            return session.gathered_context, []
        async with self._database.statement() as connection:
            branch = await load_branch(
                connection, organization_id=claimed.organization_id, turn_id=session.head_turn_id
            )
        models = await self._models.resolve(
            organization_id=claimed.organization_id,
            model_defaults=claimed.model_defaults,
            definition=known.definition,
            allowed_hosts=allowed_hosts(claimed.organization_settings),
        )
        # In the ledger of usage it stands beside the attempts at the turn, which are numbered from 1.
        attempt = -claimed.attempt
        request = TurnRequest(
            organization_id=claimed.organization_id,
            session_id=claimed.session_id,
            turn_id=session.head_turn_id,
            attempt=attempt,
            graph=known.graph,
            checkpoint=base_checkpoint(branch, claimed.session_checkpoint),
            initial_context=session.initial_context,
            model=models.model,
            fallback_model=models.fallback,
            last_attempt=True,
            time_limit_seconds=self._extraction_seconds,
        )
        used = Attempt(claimed.organization_id, claimed.session_id, session.head_turn_id, attempt)
        try:
            return await extract_finally(request, clients=self._clients, usage_ledger=self._usage.of(used))
        finally:
            self._usage.write(self._usage.take(used))

    async def _session(self, claimed: ClaimedCompletion) -> SessionView:
        async with self._database.statement() as connection:
            session = await session_views.get_session(
                connection, organization_id=claimed.organization_id, session_id=claimed.session_id
            )
        if session is None:
            raise TurnWorkerError("The session was erased.")
        return session

    async def _ended(
        self, claimed: ClaimedCompletion, session: SessionView, gathered_context: dict[str, JsonValue]
    ) -> Ended:
        key = {"organization_id": claimed.organization_id, "session_id": claimed.session_id}
        async with self._database.statement() as connection:
            said = await read_transcript(connection, **key)
            usage = await session_usage(connection, **key)
        disposition = session.disposition or gathered_context.get("call_disposition") or session.end_reason
        facts: dict[str, JsonValue] = {
            "event": "session.ended",
            "completion_id": str(claimed.id),
            "session_id": str(session.id),
            "workflow_id": str(session.workflow_id),
            "definition_number": session.definition_number,
            "external_id": session.external_id,
            "metadata": session.metadata,
            "end_reason": session.end_reason,
            "disposition": disposition,
            "created_at": session.created_at.isoformat(),
            "ended_at": None if session.ended_at is None else session.ended_at.isoformat(),
            "initial_context": session.initial_context,
            "gathered_context": gathered_context,
            "transcript": [
                {**asdict(item), "created_at": item.created_at.isoformat(), "turn_id": str(item.turn_id)}
                for item in said
            ],
            "usage": usage.to_json(),
        }
        return Ended(
            completion_id=claimed.id,
            facts=facts,
            initial_context=session.initial_context,
            gathered_context=gathered_context,
            now=utc_now(),
        )

    async def _give_up(self, claimed: ClaimedCompletion, error: TurnWorkerError) -> Ending:
        described: dict[str, JsonValue] = {"code": error.code, "message": mask_secrets(str(error))}
        log.error(names.COMPLETION_FAILED, code=error.code, error=described["message"])
        return await self._end(
            claimed, [], finalized={"completion_id": str(claimed.id), "error": described}, error=described
        )

    async def _end(
        self,
        claimed: ClaimedCompletion,
        tried: Sequence[Tried],
        *,
        again_in_seconds: float | None = None,
        finalized: dict[str, JsonValue] | None = None,
        error: dict[str, JsonValue] | None = None,
    ) -> Ending:
        events = [_event(claimed, attempt) for attempt in tried if attempt.delivery.status != "retrying"]
        if finalized is not None:
            events.append(NewEvent(SESSION_FINALIZED, None, finalized))
        async with self._database.statement() as connection:
            recorded = await end_attempt(
                connection,
                claimed,
                deliveries=[attempt.delivery for attempt in tried],
                events=events,
                again_in_seconds=again_in_seconds,
                error=error,
            )
        if not recorded and events:
            return Ending.LOST
        self._dispatch.after_commit(recorded)
        if again_in_seconds is None:
            return Ending.COMPLETED if error is None else Ending.FAILED
        self._dispatch.complete_later(SessionReference(claimed.organization_id, claimed.session_id), again_in_seconds)
        return Ending.RETRYING


def _event(claimed: ClaimedCompletion, attempt: Tried) -> NewEvent:
    delivery = attempt.delivery
    payload: dict[str, JsonValue] = {
        "completion_id": str(claimed.id),
        "node_id": attempt.node.id,
        "node_name": attempt.node.name,
        "attempts": delivery.attempts,
        "status_code": delivery.status_code,
        "error": delivery.error,
    }
    return NewEvent(
        SESSION_WEBHOOK_DELIVERED if delivery.status == "delivered" else SESSION_WEBHOOK_FAILED, None, payload
    )
