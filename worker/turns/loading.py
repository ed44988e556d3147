"""Gathers what the engine needs to run a claimed turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.conversation.checkpoint import Checkpoint, normalize_checkpoint
from worker.conversation.user_message import UserMessage
from worker.engine.request import MAX_LLM_CALLS, TurnRequest
from worker.engine.tools.mcp import McpServers, McpTurn
from worker.knowledge.embeddings import Embedder
from worker.knowledge.search import KnowledgeBase
from worker.storage.branch import base_checkpoint, load_branch
from worker.storage.secrets import Vault
from worker.telemetry.tracing import trace_url
from worker.turns.definitions import KnownDefinitions
from worker.turns.earlier_steps import EarlierSteps, earlier_steps
from worker.turns.model import ModelResolver
from worker.turns.node_tools import TurnTools
from worker.turns.recordings import StoredRecordings
from worker.turns.web import OrganizationWeb, allowed_hosts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.engine.web.access import WebAccess
    from worker.engine.web.client import WebClient
    from worker.settings import Settings
    from worker.storage.claim import ClaimedTurn
    from worker.storage.database import Database
    from worker.turns.definitions import KnownDefinition


@dataclass(frozen=True, slots=True)
class LoadedTurn:
    """A claimed turn with everything the engine needs.

    Attributes:
        earlier: The steps from which it goes on.
        recordings: Knows the recordings of its organization.
        web: Its organization's way to the web.
        tools: Knows the tools of its nodes; None if none of them carries any. Close them when the turn is over.
    """

    claimed: ClaimedTurn
    request: TurnRequest
    earlier: EarlierSteps
    recordings: StoredRecordings
    web: WebAccess
    tools: TurnTools | None = None


class TurnLoader:
    """Reads a turn's definition with its tools, its base checkpoint and its model."""

    def __init__(self, settings: Settings, database: Database, web: WebClient) -> None:
        self._database = database
        self._models = ModelResolver(settings, database)
        self._web = OrganizationWeb(database, Vault(settings.secret_key), web)
        self._mcp_servers = McpServers()
        self._time_limit_seconds = settings.turn_time_limit_seconds
        self._trace_url_template = settings.trace_url_template
        self._max_provider_failures = settings.max_provider_failures
        self._definitions = KnownDefinitions(database)
        self._embedder = Embedder.of(settings)
        self._knowledge_base = KnowledgeBase(database, self._embedder)

    async def close(self) -> None:
        """Stop what goes on behind the turns. Call it when nothing runs any more."""
        await self._mcp_servers.close()
        if self._embedder is not None:
            await self._embedder.close()

    async def load(self, claimed: ClaimedTurn) -> LoadedTurn:
        """Read what the turn goes on from.

        Raises:
            DatabaseUnavailable: when it could not be read.
            TurnWorkerError: when the configuration or the checkpoint cannot be used; the turn fails with its code.
        """
        attempt = claimed.attempt
        allowed = allowed_hosts(claimed.organization_settings)
        known = await self._definitions.get(
            organization_id=attempt.organization_id, definition_id=claimed.definition_id
        )
        models = await self._models.resolve(
            organization_id=attempt.organization_id,
            model_defaults=claimed.model_defaults,
            definition=known.definition,
            allowed_hosts=allowed,
        )
        earlier = await earlier_steps(self._database, claimed)
        recordings = StoredRecordings(self._database, attempt.organization_id)
        web = self._web.of(attempt.organization_id, allowed)
        return LoadedTurn(
            claimed,
            TurnRequest(
                organization_id=attempt.organization_id,
                session_id=attempt.session_id,
                turn_id=attempt.turn_id,
                attempt=attempt.attempt,
                graph=known.graph,
                checkpoint=await self._checkpoint(claimed),
                user_messages=tuple(map(UserMessage.from_json, claimed.user_messages)),
                initial_context=claimed.initial_context,
                trace_url=trace_url(self._trace_template(claimed.organization_settings), attempt.session_id),
                model=models.model,
                fallback_model=models.fallback,
                last_attempt=claimed.provider_failures + 1 >= self._max_provider_failures,
                compact_context=known.definition.workflow_configurations.context_compaction_enabled,
                retry_root_id=claimed.retry_root_turn_id,
                time_limit_seconds=min(self._time_limit_seconds, claimed.seconds_to_deadline),
                max_llm_calls=MAX_LLM_CALLS + earlier.carried_replies,
            ),
            earlier=earlier,
            recordings=recordings,
            web=web,
            tools=self._tools(claimed, known, web, recordings),
        )

    def _tools(
        self, claimed: ClaimedTurn, known: KnownDefinition, web: WebAccess, recordings: StoredRecordings
    ) -> TurnTools | None:
        if not known.uses_tools:
            return None
        return TurnTools(
            organization_id=claimed.attempt.organization_id,
            known=known,
            database=self._database,
            web=web,
            mcp=McpTurn(self._mcp_servers, web),
            recordings=recordings,
            documents=self._knowledge_base.of(claimed.attempt.organization_id),
        )

    def _trace_template(self, organization_settings: Mapping[str, Any]) -> str | None:
        own: Mapping[str, Any] = organization_settings.get("traces") or {}
        return own.get("url_template") if own.get("endpoint") else self._trace_url_template

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
