"""Asks another system, before the very first opening, for what a conversation should begin with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.engine.tools.http_request import data_of
from worker.engine.web.client import WebRequest
from worker.errors import TurnWorkerError
from worker.telemetry.masking import mask_secrets
from worker.workflow.template import render_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue

    from worker.engine.web.access import WebAccess
    from worker.workflow.definition import StartCallData

LIMIT_SECONDS: Final = 10.0
"""How long the answer may take: somebody waits to be greeted."""

_SHARE_OF_TIME: Final = 0.5

_MAX_BYTES: Final = 262_144
_NEVER_FETCHED: Final = frozenset({"runtime_configuration", "provider"})
_MODES_OF_DIRECTION: Final = frozenset({"inbound", "outbound"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of a fetch.

    Attributes:
        values: What to merge into the initial context.
        problem: Why there is nothing to merge; None if the fetch succeeded.
    """

    values: Mapping[str, JsonValue] = field(default_factory=dict)
    problem: str | None = None


def wants_fetch(data: StartCallData, initial_context: Mapping[str, JsonValue]) -> bool:
    """Whether a conversation fetches anything before it opens.

    `always` does. `inbound` and `outbound` do where the initial context's `direction` is that one; a text conversation that
    says nothing of it is inbound: somebody writes to us.
    """
    mode = data.pre_call_fetch_mode
    if mode in _MODES_OF_DIRECTION and initial_context.get("direction", "inbound") != mode:
        return False
    return mode in {"always", *_MODES_OF_DIRECTION} and bool(data.pre_call_fetch_url.strip())


async def fetch_initial_context(
    data: StartCallData,
    *,
    web: WebAccess,
    session_id: UUID,
    initial_context: Mapping[str, JsonValue],
    now: datetime,
    seconds_left: float,
) -> Fetched:
    """POST to the start node's URL and read the JSON object it answers with. Whatever goes wrong is a problem, not an error.

    It takes at most half of the time that is left to the turn, so that the opening still has some.

    The body says whose conversation it is: `{"event", "call_inbound": {"from_number", "to_number"}, "session_id",
    "initial_context"}`. Where the answer has an object `dynamic_variables`, by itself or in `call_inbound`, that is what counts.
    """
    known = dict(initial_context)
    body = {
        "event": "call_inbound",
        "call_inbound": {
            "from_number": known.get("caller_number", ""),
            "to_number": known.get("called_number", ""),
        },
        "session_id": str(session_id),
        "initial_context": known,
    }
    try:
        response = await web.send(
            WebRequest(
                method="POST",
                url=render_url(data.pre_call_fetch_url.strip(), known, {}, now),
                headers={
                    "Accept": "application/json",
                    "Content-Type": "application/json",
                    "Idempotency-Key": f"{session_id}/fetch",
                },
                body=json.dumps(body).encode(),
                timeout_seconds=min(LIMIT_SECONDS, seconds_left * _SHARE_OF_TIME),
                max_bytes=_MAX_BYTES,
            ),
            data.pre_call_fetch_credential_uuid or None,
        )
    except TurnWorkerError as error:
        return Fetched(problem=mask_secrets(str(error)))
    answer = data_of(response)
    if not response.ok:
        return Fetched(problem=f"The answer had the status {response.status}.")
    if not isinstance(answer, dict):
        return Fetched(problem="The answer is no JSON object.")
    found = _variables(answer)
    return Fetched(values={name: value for name, value in found.items() if name not in _NEVER_FETCHED})


def _variables(answer: dict[str, JsonValue]) -> dict[str, JsonValue]:
    inner = answer.get("call_inbound")
    for holder in (inner, answer):
        if isinstance(holder, dict) and isinstance(variables := holder.get("dynamic_variables"), dict):
            return variables
    return answer
