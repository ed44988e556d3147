"""The webhook nodes of a graph, as visual editors export them: whom to tell that a session has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pydantic import Field, JsonValue, ValidationError

from worker.workflow.definition import PassiveNode
from worker.workflow.written import Written

if TYPE_CHECKING:
    from worker.workflow.definition import WorkflowDefinition

_NODE_TYPE: Final = "webhook"


class Header(Written):
    """One header; its value is a template."""

    key: str
    value: str = ""


class RetryConfiguration(Written):
    """How often a delivery that failed for now is tried again, and how long after the first time; the pauses double."""

    enabled: bool = True
    max_retries: int = Field(default=5, ge=0, le=20)
    retry_delay_seconds: float = Field(default=10.0, ge=0, le=3600, allow_inf_nan=False)


class Webhook(Written):
    """Data of a webhook node.

    Attributes:
        endpoint_url: Template of the URL.
        credential_uuid: The name of a stored credential to send.
        payload_template: What is sent as JSON, every text in it a template; empty for everything there is to tell.
    """

    name: str = ""
    enabled: bool = True
    http_method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    endpoint_url: str = ""
    credential_uuid: str = ""
    custom_headers: tuple[Header, ...] = ()
    payload_template: dict[str, JsonValue] = Field(default_factory=dict)
    retry_config: RetryConfiguration = RetryConfiguration()


class WebhookNode(NamedTuple):
    """One webhook node.

    Attributes:
        webhook: What it says; None if that cannot be read.
        problem: Why it cannot be read.
    """

    id: str
    name: str
    webhook: Webhook | None
    problem: str | None


def webhook_nodes(definition: WorkflowDefinition) -> tuple[WebhookNode, ...]:
    """The webhook nodes that are switched on, as they were drawn."""
    nodes = [
        _read(node.id, node.name, node.data.model_dump())
        for node in definition.graph.nodes
        if isinstance(node, PassiveNode) and node.type == _NODE_TYPE
    ]
    return tuple(node for node in nodes if node.webhook is None or node.webhook.enabled)


def _read(node_id: str, name: str, data: dict[str, Any]) -> WebhookNode:
    try:
        return WebhookNode(node_id, name, Webhook.model_validate(data), None)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return WebhookNode(node_id, name, None, f"The node cannot be read: {wrong}.")
