"""An organization with a workflow, and short ways to say what happens to its sessions and turns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.conversation.user_message import UserMessage
from worker.storage.attempts import Completion, complete_turn, fail_turn, give_back_turn, retry_turn
from worker.storage.cancel import cancel_turn
from worker.storage.claim import Attempt, ClaimedTurn, claim_turn
from worker.storage.enqueue import EnqueuedTurn, NewTurn, enqueue_turn
from worker.storage.fork import fork_session
from worker.storage.line import claimable_turn
from worker.storage.organizations import create_organization
from worker.storage.retry import retry_ended_turn
from worker.storage.rewind import Rewound, rewind_session
from worker.storage.schedule import ScheduledTurn, release_due_turns, schedule_turn
from worker.storage.second_message import take_message
from worker.storage.sessions import (
    CreatedSession,
    EndedSession,
    create_session,
    end_session,
    finish_ending,
    sessions_to_finish,
)
from worker.storage.workflows import create_workflow, put_definition

if TYPE_CHECKING:
    from uuid import UUID

    from worker.storage.database import Database
    from worker.storage.outbox import RecordedEvent

ERROR: dict[str, Any] = {"code": "llm_overloaded", "message": "Try later.", "retryable": True}


def definition(prompt: str = "Be helpful.") -> dict[str, Any]:
    """The smallest workflow: one node in which the conversation goes on for ever."""
    return {
        "graph": {
            "nodes": [
                {"id": "start", "type": "startCall", "data": {"name": "Start", "prompt": prompt}},
            ],
            "edges": [],
        },
        "workflow_configurations": {},
    }


def completion(**changes: Any) -> Completion:
    """What a plain turn leaves behind."""
    values: dict[str, Any] = {
        "assistant_text": "Hello.",
        "assistant_created_at": None,
        "checkpoint": {"version": 1, "current_node_id": "start"},
        "messages": [{"role": "assistant", "content": "Hello."}],
        "replaces_context": False,
        "initial_context": None,
        "end_reason": None,
        "events": [],
    }
    return Completion(**values | changes)


@dataclass
class World:
    """One organization in a database of its own."""

    database: Database
    organization_id: UUID
    workflow_id: UUID
    lease_seconds: float = 10.0
    deadline_seconds: float = 600.0

    @classmethod
    async def make(cls, database: Database, name: str = "Acme", **changes: Any) -> World:
        async with database.transaction() as connection:
            organization_id = await create_organization(connection, name=name)
            workflow_id = await create_workflow(
                connection, organization_id=organization_id, name="Reception", definition=definition()
            )
        return cls(database, organization_id, workflow_id, **changes)

    async def draw(self, graph: dict[str, Any]) -> None:
        """Give the workflow another graph; sessions made from now on use it."""
        async with self.database.transaction() as connection:
            await put_definition(
                connection,
                organization_id=self.organization_id,
                workflow_id=self.workflow_id,
                definition={"graph": graph, "workflow_configurations": {}},
            )

    async def session(self, *, opening: bool = False, **values: Any) -> CreatedSession:
        given = {"initial_context": {}, "external_id": None, "metadata": {}} | values
        async with self.database.transaction() as connection:
            return await create_session(
                connection,
                organization_id=self.organization_id,
                workflow_id=self.workflow_id,
                opening=opening,
                **given,
            )

    async def enqueue(self, session_id: UUID, *user_messages: str, **values: Any) -> EnqueuedTurn:
        async with self.database.transaction() as connection:
            return await enqueue_turn(
                connection,
                organization_id=self.organization_id,
                session_id=session_id,
                user_messages=[UserMessage(text) for text in user_messages or ("Hi.",)],
                **values,
            )

    async def say(self, session_id: UUID, text: str = "And another thing.", **values: Any) -> EnqueuedTurn:
        """A further message, taken by a policy."""
        async with self.database.transaction() as connection:
            return await take_message(
                connection,
                organization_id=self.organization_id,
                session_id=session_id,
                user_messages=[UserMessage(text)],
                **values,
            )

    async def schedule(
        self, session_id: UUID, delay_seconds: float, text: str = "Later.", **values: Any
    ) -> ScheduledTurn:
        async with self.database.transaction() as connection:
            return await schedule_turn(
                connection,
                organization_id=self.organization_id,
                session_id=session_id,
                turn=NewTurn(user_messages=[{"text": text}]),
                not_before=datetime.now(UTC) + timedelta(seconds=delay_seconds),
                **{"horizon_seconds": 86_400, **values},
            )

    async def come_due(self, turn_id: UUID) -> tuple[RecordedEvent, ...]:
        """As if the time of a scheduled turn had come, and a sweep had seen it."""
        await self.execute("UPDATE turns SET not_before = now() WHERE id = :id AND status = 'scheduled'", id=turn_id)
        async with self.database.transaction() as connection:
            return await release_due_turns(connection, batch=100)

    async def try_claim(self, turn_id: UUID, worker: str = "worker") -> ClaimedTurn | None:
        async with self.database.transaction() as connection:
            return await claim_turn(
                connection,
                organization_id=self.organization_id,
                turn_id=turn_id,
                claimed_by=worker,
                lease_seconds=self.lease_seconds,
                deadline_seconds=self.deadline_seconds,
            )

    async def claim(self, turn_id: UUID) -> ClaimedTurn:
        claimed = await self.try_claim(turn_id)
        assert claimed is not None, "the turn was not claimable"
        return claimed

    async def complete(self, attempt: Attempt, **changes: Any) -> tuple[RecordedEvent, ...]:
        async with self.database.transaction() as connection:
            return await complete_turn(connection, attempt, completion(**changes))

    async def fail(self, attempt: Attempt) -> tuple[RecordedEvent, ...]:
        async with self.database.transaction() as connection:
            return await fail_turn(connection, attempt, error=ERROR)

    async def retry(self, attempt: Attempt, delay_seconds: float = 0.0) -> tuple[RecordedEvent, ...]:
        async with self.database.transaction() as connection:
            return await retry_turn(connection, attempt, error=ERROR, delay_seconds=delay_seconds)

    async def give_back(self, attempt: Attempt) -> tuple[RecordedEvent, ...]:
        async with self.database.transaction() as connection:
            return await give_back_turn(connection, attempt)

    async def end(self, session_id: UUID, reason: str = "api", **values: Any) -> EndedSession:
        async with self.database.transaction() as connection:
            return await end_session(
                connection,
                organization_id=self.organization_id,
                session_id=session_id,
                reason=reason,
                **values,
            )

    async def cancel(self, turn_id: UUID, **values: Any) -> tuple[RecordedEvent, ...]:
        async with self.database.transaction() as connection:
            return await cancel_turn(connection, organization_id=self.organization_id, turn_id=turn_id, **values)

    async def retry_ended(self, turn_id: UUID, **values: Any) -> EnqueuedTurn:
        async with self.database.transaction() as connection:
            return await retry_ended_turn(connection, organization_id=self.organization_id, turn_id=turn_id, **values)

    async def rewind(self, session_id: UUID, turn_id: UUID | None, **values: Any) -> Rewound:
        async with self.database.transaction() as connection:
            return await rewind_session(
                connection, organization_id=self.organization_id, session_id=session_id, turn_id=turn_id, **values
            )

    async def fork(self, session_id: UUID, turn_id: Any = "head", **values: Any) -> UUID:
        async with self.database.transaction() as connection:
            return await fork_session(
                connection, organization_id=self.organization_id, session_id=session_id, turn_id=turn_id, **values
            )

    async def finish_endings(self) -> list[RecordedEvent]:
        """End the sessions that wait for no turn any more, as a sweep does."""
        async with self.database.transaction() as connection:
            return [
                event
                for organization_id, session_id in await sessions_to_finish(connection, batch=100)
                for event in await finish_ending(connection, organization_id=organization_id, session_id=session_id)
            ]

    async def claimable(self, session_id: UUID) -> UUID | None:
        async with self.database.statement() as connection:
            return await claimable_turn(connection, organization_id=self.organization_id, session_id=session_id)

    async def turn(self, session_id: UUID, **changes: Any) -> UUID:
        """A turn that was enqueued, claimed and completed."""
        enqueued = await self.enqueue(session_id)
        claimed = await self.claim(enqueued.turn_id)
        await self.complete(claimed.attempt, **changes)
        return enqueued.turn_id

    async def expire_lease(self, turn_id: UUID) -> None:
        """As if its worker had been silent for longer than a lease, and the database up for longer than that."""
        self.lease_seconds = 0.001
        await self.execute("UPDATE turns SET lease_expires_at = now() - interval '1 hour' WHERE id = :id", id=turn_id)

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement), values)

    async def row(self, table: str, row_id: UUID) -> Any:
        return (await self.rows(f"SELECT * FROM {table} WHERE id = :id", id=row_id))[0]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.database.statement() as connection:
            return list(await connection.execute(text(statement), values))
