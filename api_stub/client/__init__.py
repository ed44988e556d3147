"""The client library: talk to the API from another program. Needs httpx and pydantic, and redis only to hear from Redis.

```python
from api_stub.client import TurnWorkerClient

with TurnWorkerClient("http://localhost:8080", "twk_...") as client:
    session = client.create_session(workflow_id)
    print(client.wait(session.opening_turn.id).assistant_text)
    turn = client.enqueue(session.id, "I would like an appointment on Friday.")
    print(client.wait(turn.id).assistant_text)
```

`AsyncTurnWorkerClient` is the same for asyncio.
"""

from __future__ import annotations

from api_stub.client.asynchronous import AsyncTurnWorkerClient
from api_stub.client.blocking import TurnWorkerClient
from api_stub.client.errors import (
    ApiError,
    ApiUnavailable,
    ApiUnreachable,
    ClientError,
    Conflict,
    DocumentUnfinished,
    InvalidApiKey,
    InvalidRequest,
    LimitReached,
    NotFound,
    RedisUnreachable,
    TurnUnfinished,
)
from api_stub.client.streams import TextProgress
from api_stub.schemas import (
    CreatedSession,
    Credential,
    CredentialPage,
    Document,
    DocumentError,
    DocumentPage,
    Event,
    EventPage,
    ProblemDetails,
    Recording,
    RecordingPage,
    Session,
    SessionPage,
    Tool,
    ToolPage,
    Transcript,
    Turn,
    TurnError,
    TurnPage,
    Utterance,
    WebhookDeliveries,
    WebhookDelivery,
    Workflow,
    WorkflowPage,
    WorkflowSummary,
)
from api_stub.usage_schemas import ModelUsage, Money, Usage, UsageGroup, UsagePage

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "ApiUnreachable",
    "AsyncTurnWorkerClient",
    "ClientError",
    "Conflict",
    "CreatedSession",
    "Credential",
    "CredentialPage",
    "Document",
    "DocumentError",
    "DocumentPage",
    "DocumentUnfinished",
    "Event",
    "EventPage",
    "InvalidApiKey",
    "InvalidRequest",
    "LimitReached",
    "ModelUsage",
    "Money",
    "NotFound",
    "ProblemDetails",
    "Recording",
    "RecordingPage",
    "RedisUnreachable",
    "Session",
    "SessionPage",
    "TextProgress",
    "Tool",
    "ToolPage",
    "Transcript",
    "Turn",
    "TurnError",
    "TurnPage",
    "TurnUnfinished",
    "TurnWorkerClient",
    "Usage",
    "UsageGroup",
    "UsagePage",
    "Utterance",
    "WebhookDeliveries",
    "WebhookDelivery",
    "Workflow",
    "WorkflowPage",
    "WorkflowSummary",
]
