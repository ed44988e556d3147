"""Gathers what the engine needs to run a claimed turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from worker.conversation.checkpoint import Checkpoint, normalize_checkpoint
from worker.conversation.user_message import UserMessage
from worker.engine.journal import read_step
from worker.engine.request import TurnRequest
from worker.storage.branch import Branch, load_branch
from worker.storage.definitions import get_definition
from worker.storage.journal import read_steps
from worker.turns.model import ModelResolver
from worker.workflow.graph import WorkflowGraph
from worker.workflow.validation import load_definition
from worker.workflow.web_address import AllowedHosts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from worker.engine.journal import Step
    from worker.settings import Settings
    from worker.storage.claim import Attempt, ClaimedTurn
    from worker.storage.database import Database
    from worker.workflow.definition import WorkflowDefinition

_CACHED_DEFINITIONS: Final = 256


@dataclass(frozen=True, slots=True)
class LoadedTurn:
    """A claimed turn with everything the engine needs.

    Attributes:
        steps: What earlier attempts did, from which this one goes on.
    """

    claimed: ClaimedTurn
    request: TurnRequest
    steps: Sequence[Step]


class TurnLoader:
    """Reads a turn's definition, base checkpoint and model. Definitions never change, so each is read once per process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._models = ModelResolver(settings, database)
        self._time_limit_seconds = settings.turn_time_limit_seconds
        self._max_provider_failures = settings.max_provider_failures
        self._definitions: dict[UUID, tuple[WorkflowDefinition, WorkflowGraph]] = {}

    async def load(self, claimed: ClaimedTurn) -> LoadedTurn:
        """Read what the turn goes on from.

        Raises:
            DatabaseUnavailable: when it could not be read.
            TurnWorkerError: when the configuration or the checkpoint cannot be used; the turn fails with its code.
        """
        attempt = claimed.attempt
        definition, graph = await self._definition(claimed)
        models = await self._models.resolve(
            organization_id=attempt.organization_id,
            model_defaults=claimed.model_defaults,
            definition=definition,
            allowed_hosts=allowed_hosts(claimed.organization_settings),
        )
        return LoadedTurn(
            claimed,
            TurnRequest(
                organization_id=attempt.organization_id,
                session_id=attempt.session_id,
                turn_id=attempt.turn_id,
                attempt=attempt.attempt,
                graph=graph,
                checkpoint=await self._checkpoint(claimed),
                user_messages=tuple(map(UserMessage.from_json, claimed.user_messages)),
                initial_context=claimed.initial_context,
                model=models.model,
                fallback_model=models.fallback,
                last_attempt=claimed.provider_failures + 1 >= self._max_provider_failures,
                compact_context=definition.workflow_configurations.context_compaction_enabled,
                time_limit_seconds=min(self._time_limit_seconds, claimed.seconds_to_deadline),
            ),
            steps=await self._steps(attempt) if attempt.attempt > 1 else (),
        )

    async def _steps(self, attempt: Attempt) -> list[Step]:
        async with self._database.statement() as connection:
            written = await read_steps(connection, organization_id=attempt.organization_id, turn_id=attempt.turn_id)
        return [read_step(step) for step in written]

    async def _definition(self, claimed: ClaimedTurn) -> tuple[WorkflowDefinition, WorkflowGraph]:
        known = self._definitions.get(claimed.definition_id)
        if known is not None:
            return known
        async with self._database.statement() as connection:
            stored = await get_definition(
                connection,
                organization_id=claimed.attempt.organization_id,
                definition_id=claimed.definition_id,
            )
        definition = load_definition(stored.document)
        if len(self._definitions) >= _CACHED_DEFINITIONS:
            self._definitions.pop(next(iter(self._definitions)))
        self._definitions[claimed.definition_id] = (definition, WorkflowGraph(definition))
        return self._definitions[claimed.definition_id]

    async def _checkpoint(self, claimed: ClaimedTurn) -> Checkpoint:
        if claimed.parent_turn_id is None:
            return normalize_checkpoint(claimed.session_checkpoint)
        async with self._database.statement() as connection:
            branch = await load_branch(
                connection,
                organization_id=claimed.attempt.organization_id,
                turn_id=claimed.parent_turn_id,
            )
        return base_checkpoint(branch, claimed.session_checkpoint)


def allowed_hosts(organization_settings: Mapping[str, Any]) -> AllowedHosts:
    """The hosts that requests of an organization may reach although they lead to private addresses."""
    return AllowedHosts.of(organization_settings.get("allowed_hosts", ()))


def base_checkpoint(branch: Branch, session_checkpoint: object) -> Checkpoint:
    """The checkpoint a turn starts from: the one stored after its nearest completed ancestor.

    Only that ancestor counts: if it stored none, the turn starts from the default one.
    """
    if branch.checkpoint is None:
        return Checkpoint()
    checkpoint = normalize_checkpoint(branch.checkpoint)
    beginning = normalize_checkpoint(session_checkpoint).messages if branch.from_beginning else []
    return replace(checkpoint, messages=[*beginning, *branch.messages])
