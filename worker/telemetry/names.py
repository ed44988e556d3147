"""The names of log events and of their fields, in one place, so that searches and alerts can rely on them.

A name here never changes its meaning. Every line also has `event`, `level`, `logger` and `timestamp` (RFC 3339, UTC),
and inside a turn the four fields that say whose it is; a line about a failure has `exception` (the traceback).
"""

from __future__ import annotations

from typing import Final

# Fields

ORGANIZATION_ID: Final = "organization_id"
"""Field: the organization that everything else on the line belongs to."""

SESSION_ID: Final = "session_id"
"""Field: the session."""

TURN_ID: Final = "turn_id"
"""Field: the turn."""

ATTEMPT: Final = "attempt"
"""Field: the attempt at the turn, from 1; the fencing token of everything it writes."""

CODE: Final = "code"
"""Field: the stable code of an error, as stored with the turn and returned by the API."""

ERROR: Final = "error"
"""Field: an error's message, secrets masked."""

DURATION_SECONDS: Final = "duration_seconds"
"""Field: how long it took, in seconds."""

DELAY_SECONDS: Final = "delay_seconds"
"""Field: how long it will be until the next try, in seconds."""

DOCUMENT_ID: Final = "document_id"
"""Field: the document of the knowledge base."""

COUNT: Final = "count"
"""Field: how many turns, events or rows the line is about."""

# A turn's life

TURN_ENQUEUED: Final = "turn.enqueued"
"""A turn was stored at the end of its session's line."""

TURN_CLAIMED: Final = "turn.claimed"
"""An attempt began in this process."""

TURN_NOT_CLAIMABLE: Final = "turn.not_claimable"
"""A ring was dropped: the turn is over, runs elsewhere, or is not at the head of its session's line."""

TURN_COMPLETED: Final = "turn.completed"
"""The attempt's result is committed."""

TURN_RETRYING: Final = "turn.retrying"
"""The attempt failed for now; the turn may be claimed again after `delay_seconds`."""

TURN_FAILED: Final = "turn.failed"
"""The turn failed for good, with its `code`."""

TURN_CANCELLED: Final = "turn.cancelled"
"""The turn was called off."""

TURN_HANDED_BACK: Final = "turn.handed_back"
"""This process is ending and gave the turn back; that counts against no budget."""

TURN_WRITE_REFUSED: Final = "turn.write_refused"
"""The attempt is no longer the turn's current one, so nothing it wrote was kept."""

TURN_NOT_LOADED: Final = "turn.not_loaded"
"""What a claimed turn goes on from could not be read; it is handed back."""

TURN_RESUMED: Final = "turn.resumed"
"""An attempt goes on after `count` steps that are in the turn's journal."""

TURN_DEFECT: Final = "turn.defect"
"""A defect of this program ended the turn; the line has the traceback."""

COMMIT_FAILED: Final = "commit.failed"
"""PostgreSQL did not take an attempt's result; it is kept and written again."""

JOURNAL_WRITE_FAILED: Final = "journal.write_failed"
"""Steps of a turn could not be journalled yet; they are kept and written again, and tools wait for it."""

SESSION_ENDED: Final = "session.ended"
"""A session is over."""

# Engine

TOOL_FAILED: Final = "tool.failed"
"""A tool raised an error, which the line has; the model was told that it failed and the turn went on."""

TOOL_UNUSABLE: Final = "tool.unusable"
"""A stored tool could not be made ready, for the reason in `error`; its node does without it."""

TRANSITION_FAILED: Final = "transition.failed"
"""A transition raised an error, which the line has; the conversation stays on its node and the turn went on."""

SIDE_QUESTION_DEFECT: Final = "side_question.defect"
"""An extraction or a compaction ran into a defect of this program, which the line has; the turn went on without."""
# Knowledge base

DOCUMENT_CLAIMED: Final = "document.claimed"
"""This process reads a document."""

DOCUMENT_READY: Final = "document.ready"
"""A document can be searched; with a `code` if it has to do without something."""

DOCUMENT_RETRYING: Final = "document.retrying"
"""A document could not be read for now; it may be claimed again after `delay_seconds`."""

DOCUMENT_FAILED: Final = "document.failed"
"""A document cannot be read, with its `code`."""

DOCUMENT_DEFECT: Final = "document.defect"
"""A defect of this program ended the reading of a document; the line has the traceback."""

EMBEDDINGS_FAILED: Final = "embeddings.failed"
"""There are no vectors of a document or of a question; words alone decide what is found."""

# The end of a session

COMPLETION_DEFECT: Final = "completion.defect"
"""A defect of this program kept the work at a session's end from being done; the line has the traceback."""

COMPLETION_FAILED: Final = "completion.failed"
"""The work at a session's end was given up, with its `code`."""

SWEEP_RANG_SESSIONS: Final = "sweep.rang_sessions"
"""A sweep rang for the ends of `count` sessions that nobody had taken up."""

# Leases

LEASE_LOST: Final = "lease.lost"
"""A turn this process was running is no longer its own; it was stopped here."""

LEASE_RENEWAL_FAILED: Final = "lease.renewal_failed"
"""The leases could not be renewed this time; they run on until they expire."""

LEASE_LOOP_STALLED: Final = "lease.loop_stalled"
"""The event loop makes no progress, so its leases are no longer renewed."""

# Dispatch

RING_FAILED: Final = "ring.failed"
"""Celery could not be told of a claimable turn; a sweep will."""

SWEEP_RANG: Final = "sweep.rang"
"""A sweep rang `count` turns that nobody had taken up."""

SWEEP_PUBLISHED: Final = "sweep.published"
"""A sweep published `count` events that had not gone out after their commit."""

SCHEDULE_DUE: Final = "schedule.due"
"""The time of `count` scheduled turns came; they took their places in line."""

SWEEP_FAILED: Final = "sweep.failed"
"""A sweep could not do its work; the next one will try again."""

EXPIRED_ERASED: Final = "expired.erased"
"""A sweep erased `count` sessions or events (`kind`) that an organization does not keep for longer."""

TEXT_NOT_ERASED: Final = "text.not_erased"
"""What was said in the turns of an erased session could not be deleted from Redis; it expires within minutes."""

USAGE_WRITE_FAILED: Final = "usage.write_failed"
"""What LLM calls used could not be written yet; it is kept and written with the next calls' usage."""

USAGE_ENTRY_DROPPED: Final = "usage.entry_dropped"
"""PostgreSQL does not take what one LLM call used, and never will; the entry is in this line and nowhere else."""

OUTBOX_MARK_FAILED: Final = "outbox.mark_failed"
"""Published events could not be marked as such; a sweep will publish them once more."""

# Channel

CHANNEL_CONNECTED: Final = "channel.connected"
"""This process follows the channel."""

CHANNEL_LOST: Final = "channel.lost"
"""This process hears nothing from the channel for the time being; it connects again by itself."""

CHANNEL_MESSAGE_UNREADABLE: Final = "channel.message_unreadable"
"""Somebody published something else on one of our channels."""

TEXT_DROPPED: Final = "text.dropped"
"""Redis did not take the text of running turns; those who read along miss some until their turn is over."""

CHANNEL_PUBLISH_FAILED: Final = "channel.publish_failed"
"""Committed events could not be published now; a sweep will."""

# Telemetry

SPANS_DROPPED: Final = "spans.dropped"
"""An organization's own collector did not take its spans, or cannot be used; `error` says why."""

QUEUE_UNSEEN: Final = "queue.unseen"
"""How much waits could not be read for the metrics."""

TELEMETRY_LOST: Final = "telemetry.lost"
"""The process ended before the collector had taken the last spans and metrics."""

# API

REQUEST_FAILED: Final = "request.failed"
"""A request was answered with a 500 because of a defect; `instance` is what the answer calls it."""

REQUEST_UNAVAILABLE: Final = "request.unavailable"
"""A request was answered with a 503 because PostgreSQL could not be used."""

# Processes

WORKER_STARTED: Final = "worker.started"
"""A worker process takes turns."""

WORKER_STOPPING: Final = "worker.stopping"
"""A worker process takes no more turns and lets those running finish."""

WORKER_STOPPED: Final = "worker.stopped"
"""A worker process has nothing left to do and ends."""
