"""The tables. PostgreSQL is the truth: what is not here did not happen."""

from worker.storage.schema.base import metadata
from worker.storage.schema.capacity import enqueue_rates, worker_processes
from worker.storage.schema.completions import session_completions, webhook_deliveries
from worker.storage.schema.conversations import messages, outbox, sessions, turns, usage_entries
from worker.storage.schema.journal import journal_steps
from worker.storage.schema.knowledge import chunks, document_sources, documents
from worker.storage.schema.organizations import (
    api_keys,
    idempotency_keys,
    organizations,
    secrets,
    workflow_definitions,
    workflows,
)
from worker.storage.schema.recordings import recordings
from worker.storage.schema.tools import tool_versions, tools

__all__ = [
    "api_keys",
    "chunks",
    "document_sources",
    "documents",
    "enqueue_rates",
    "idempotency_keys",
    "journal_steps",
    "messages",
    "metadata",
    "organizations",
    "outbox",
    "recordings",
    "secrets",
    "session_completions",
    "sessions",
    "tool_versions",
    "tools",
    "turns",
    "usage_entries",
    "webhook_deliveries",
    "worker_processes",
    "workflow_definitions",
    "workflows",
]
