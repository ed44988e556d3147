"""The agent of the harness, and what its model says: the same for the same words, so that every answer can be checked."""

from __future__ import annotations

from typing import Any, Final

PLAIN, ORDER, SLOW, TWICE = "plain", "order", "slow", "twice"
KINDS: Final = (PLAIN, PLAIN, ORDER, ORDER, SLOW, TWICE)
"""What users ask for, as often as it stands here; a message is such a word and a number of its own."""

_ORDERING = {"user_matches": r"^(order|slow) (?P<n>\d+)$"}
_ORDERING_TWICE = {"user_matches": r"^twice (?P<n>\d+)$"}

RULES: Final[tuple[dict[str, Any], ...]] = (
    {"when": {"after_tool_result": "place_order"}, "delay_seconds": 0.05, "reply": "Done: {user}."},
    {
        "when": _ORDERING,
        "delay_seconds": 0.05,
        "reply": [{"text": "One moment."}, {"tool": "place_order", "input": {"order": "{user}"}}],
    },
    {
        "when": _ORDERING_TWICE,
        "delay_seconds": 0.05,
        "reply": [
            {"tool": "place_order", "input": {"order": "{user} first"}},
            {"tool": "place_order", "input": {"order": "{user} second"}},
        ],
    },
    {"delay_seconds": 0.2, "reply": "You said: {user}."},
)


def tool(host: str) -> dict[str, Any]:
    """The tool that places an order with the world outside."""
    return {
        "type": "http_request",
        "name": "place_order",
        "description": "Places an order.",
        "method": "POST",
        "url": f"http://{host}/orders",
        "parameters": [{"name": "order", "type": "string", "required": True}],
        "accepts_idempotency_key": True,
        "retries": 2,
    }


def definition(tool_id: str) -> dict[str, Any]:
    """An agent with one node that carries the tool."""
    start = {
        "id": "desk",
        "type": "startCall",
        "data": {"name": "Desk", "prompt": "Take orders.", "tool_uuids": [tool_id]},
    }
    return {"graph": {"nodes": [start], "edges": []}}


def orders(message: str) -> tuple[str, ...]:
    """What a message has ordered once it is answered."""
    match message.partition(" ")[0]:
        case "order" | "slow":
            return (message,)
        case "twice":
            return (f"{message} first", f"{message} second")
        case _:
            return ()


def answer(message: str) -> str:
    """What the user reads in answer to a message."""
    match message.partition(" ")[0]:
        case "order" | "slow":
            return f"One moment.\n\nDone: {message}."
        case "twice":
            return f"Done: {message}."
        case _:
            return f"You said: {message}."


def roles(message: str) -> list[str]:
    """Who says something in the turn that answers a message, in the order of the context."""
    calls = len(orders(message))
    return ["user", "assistant", *(["tool"] * calls), *(["assistant"] if calls else [])]
