"""The names of spans, of their attributes, and of metrics, in one place, so that dashboards and alerts can rely on them.

A name here never changes its meaning. Where OpenTelemetry's semantic conventions have a name (`gen_ai.*`, `error.type`), it
is theirs. Prometheus shows the same metrics with underscores for dots, and with their unit: `turn_worker_turn_duration_seconds`.
"""

from __future__ import annotations

from typing import Final

# Spans. Those of a model and of a tool are `chat MODEL` and `execute_tool NAME`.

SPAN_ENQUEUE: Final = "turn.enqueue"
"""From the API's first look at a request until the turn it asks for is stored."""

SPAN_QUEUE_WAIT: Final = "turn.queue_wait"
"""From when a turn could be claimed until a worker claimed it."""

SPAN_TURN: Final = "turn"
"""One attempt at a turn, from claim to commit. Links to who asked for the turn, and to who rang for it."""

SPAN_COMMIT: Final = "turn.commit"
"""The one write that ends an attempt, with its repetitions while PostgreSQL is away."""

SPAN_PUBLISH: Final = "turn.publish"
"""Events on their way to Redis, after their commit."""

SPAN_CHAT: Final = "chat"
"""One LLM call, from the request to the end of the reply."""

SPAN_EXECUTE_TOOL: Final = "execute_tool"
"""One tool call of the model, or a transition it asks for."""

# Attributes of every span

CONVERSATION_ID: Final = "conversation.id"
"""The session."""

CONVERSATION_TYPE: Final = "conversation.type"
"""Always `text`."""

LANGFUSE_TRACE_NAME: Final = "langfuse.trace.name"
"""The session's `external_id`, else `text-chat-` and its id: what Langfuse calls the trace."""

ORGANIZATION_ID: Final = "organization.id"
"""Whose it is."""

TURN_ID: Final = "turn.id"
"""The turn."""

TURN_ATTEMPT: Final = "turn.attempt"
"""The attempt at the turn, from 1."""

# Attributes of some spans, and of metrics

ERROR_TYPE: Final = "error.type"
"""The stable code of an error, as stored with the turn; absent when all went well."""

TURN_OUTCOME: Final = "turn.outcome"
"""How an attempt ended: `completed`, `failed`, `retrying`, `given_back`, `lease_lost`, `cancelled`."""

LINK_SOURCE: Final = "link.source"
"""Of a link: `caller` asked for the turn, `ring` told a worker of it."""

EVENT_COUNT: Final = "event.count"
"""How many events were published together."""

TOOL_KIND: Final = "tool.kind"
"""`tool`, or `transition` to another node. Names of tools are the tenants', and too many for a metric."""

LLM_PURPOSE: Final = "llm.purpose"
"""What an LLM call was for: `conversation`, `extraction`, `compaction` ..."""

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 -- a token of an LLM, not a secret
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"

# Attributes with content: only with TURN_WORKER_TRACE_CONTENT

GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"

# Metrics. Durations are in seconds.

TURNS: Final = "turn_worker.turns"
"""Counter of attempts that ended, by `turn.outcome` and `error.type`."""

TURNS_ENQUEUED: Final = "turn_worker.turns.enqueued"
"""Counter of turns that this API process took."""

TURNS_RUNNING: Final = "turn_worker.turns.running"
"""Turns that run in this process now."""

TURN_DURATION: Final = "turn_worker.turn.duration"
"""Histogram of attempts, from claim to commit, by `turn.outcome`."""

QUEUE_WAIT: Final = "turn_worker.queue.wait"
"""Histogram of how long turns could have been claimed and were not."""

QUEUE_DEPTH: Final = "turn_worker.queue.depth"
"""Turns that wait in the whole system: those due, and behind them in their sessions' lines. The same from every process."""

QUEUE_AGE: Final = "turn_worker.queue.age"
"""For how long the turn has waited that could be claimed for longest. The same from every process."""

TURN_RETRIES: Final = "turn_worker.turn.retries"
"""Counter of attempts that are tried again, by `error.type`."""

LEASE_LOSSES: Final = "turn_worker.lease.losses"
"""Counter of attempts that this process ran and no longer owned at their end."""

LLM_DURATION: Final = "gen_ai.client.operation.duration"
"""Histogram of LLM calls, by provider, model, and `error.type`."""

LLM_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
"""Histogram of the time from request to first text or tool call, by provider and model."""

LLM_TOKENS: Final = "gen_ai.client.token.usage"
"""Histogram of tokens of one call, by provider, model and `gen_ai.token.type`: `input`, of which `cache_read` and
`cache_creation` are parts, and `output`. Its sum is what was used."""

LLM_ERRORS: Final = "turn_worker.llm.errors"
"""Counter of LLM calls that failed, by provider, model and `error.type`."""

TOOL_DURATION: Final = "turn_worker.tool.duration"
"""Histogram of tool calls and transitions, by `tool.kind` and `error.type`. Its count is how many there were."""

EVENTS_PUBLISHED: Final = "turn_worker.events.published"
"""Counter of events that went out on Redis."""
