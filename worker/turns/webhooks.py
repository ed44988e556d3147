"""Tells the webhooks of a graph that a session has ended: one attempt at each that is still to be told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from worker.engine.tools.http_request import data_of
from worker.engine.web.client import WebRequest
from worker.engine.web.errors import WebError
from worker.engine.web.retries import RETRIED_STATUSES, retry_after_seconds
from worker.errors import TurnWorkerError
from worker.storage.completions import Delivery
from worker.telemetry.masking import mask_secrets
from worker.workflow.template import render, render_json, render_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pydantic import JsonValue

    from worker.engine.web.access import WebAccess
    from worker.workflow.webhook import Webhook, WebhookNode

TIMEOUT_SECONDS: Final = 15.0
"""How long one delivery may take."""

LONGEST_PAUSE_SECONDS: Final = 3600.0
"""The longest pause between two attempts."""

_MAX_ANSWER_BYTES: Final = 65_536
_SHOWN_OF_ANSWER: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A session that has ended, as it is told to webhooks.

    Attributes:
        completion_id: The same whenever this end is told.
        facts: Everything there is to tell.
    """

    completion_id: UUID
    facts: dict[str, JsonValue]
    initial_context: dict[str, JsonValue]
    gathered_context: dict[str, JsonValue]
    now: datetime


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt at a delivery."""

    node: WebhookNode
    delivery: Delivery


async def deliver(
    nodes: Sequence[WebhookNode], before: Mapping[str, Delivery], *, ended: Ended, web: WebAccess
) -> list[Tried]:
    """Make one attempt at each delivery that is due, all at once."""
    due = [node for node in nodes if node.id not in before or _is_due(before[node.id])]
    return list(await asyncio.gather(*(_try(node, before.get(node.id), ended, web) for node in due)))


def _is_due(delivery: Delivery) -> bool:
    return delivery.status == "retrying" and not delivery.due_in_seconds


async def _try(node: WebhookNode, before: Delivery | None, ended: Ended, web: WebAccess) -> Tried:
    attempts = (before.attempts if before else 0) + 1
    if node.webhook is None:
        return Tried(node, Delivery(node_id=node.id, status="failed", attempts=attempts, error=node.problem))
    status_code = asked = None
    try:
        response = await web.send(_request(node, node.webhook, ended), node.webhook.credential_uuid or None)
        status_code = response.status
        if response.ok:
            return Tried(
                node, Delivery(node_id=node.id, status="delivered", attempts=attempts, status_code=status_code)
            )
        error = f"The answer had the status {status_code}: {str(data_of(response))[:_SHOWN_OF_ANSWER]}"
        passing = status_code in RETRIED_STATUSES or status_code >= 500
        asked = retry_after_seconds(response.headers, ended.now)
    except TurnWorkerError as failure:
        error, passing = str(failure), isinstance(failure, WebError) and failure.retryable
    pause = _pause(node.webhook, attempts, asked) if passing else None
    status = "failed" if pause is None else "retrying"
    delivery = Delivery(
        node_id=node.id,
        status=status,
        attempts=attempts,
        status_code=status_code,
        error=mask_secrets(error),
        due_in_seconds=pause,
    )
    return Tried(node, delivery)


def _pause(webhook: Webhook, attempts: int, asked_seconds: float | None) -> float | None:
    retry = webhook.retry_config
    if not retry.enabled or attempts > retry.max_retries:
        return None
    pause: float = max(retry.retry_delay_seconds * 2 ** (attempts - 1), asked_seconds or 0.0)
    return min(pause, LONGEST_PAUSE_SECONDS)


def _request(node: WebhookNode, webhook: Webhook, ended: Ended) -> WebRequest:
    context: dict[str, Any] = {**ended.initial_context, **ended.facts}
    headers = {
        header.key.strip(): render(header.value, context, ended.gathered_context, ended.now)
        for header in webhook.custom_headers
        if header.key.strip()
    }
    present = {name.lower() for name in headers}
    body = None
    if webhook.http_method not in {"GET", "DELETE"}:
        template: JsonValue = webhook.payload_template
        told = render_json(template, context, ended.gathered_context, ended.now) if template else ended.facts
        body = json.dumps(told).encode()
        if "content-type" not in present:
            headers["Content-Type"] = "application/json"
    headers["Idempotency-Key"] = str(uuid5(ended.completion_id, node.id))
    return WebRequest(
        method=webhook.http_method,
        url=render_url(webhook.endpoint_url.strip(), context, ended.gathered_context, ended.now),
        headers=headers,
        body=body,
        timeout_seconds=TIMEOUT_SECONDS,
        max_bytes=_MAX_ANSWER_BYTES,
    )
