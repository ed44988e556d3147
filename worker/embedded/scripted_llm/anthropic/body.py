"""What the Anthropic Messages API refuses in the body of a request, in its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.embedded.scripted_llm.anthropic.messages import (
    check_messages,
    check_text,
    matches_tool_name,
    refused,
)

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.anthropic.messages import Turn

_MAX_CACHE_BREAKPOINTS = 4
_MIN_THINKING_TOKENS = 1024


def check_body(body: object, *, allow_prefill: bool, counting: bool = False) -> None:
    """Refuse a body the real API refuses.

    Args:
        body: The parsed JSON.
        allow_prefill: Whether the conversation may end with the assistant.
        counting: It only asks for a count of tokens, which needs no `max_tokens`.

    Raises:
        ApiError: The first rule broken.
    """
    if not isinstance(body, dict):
        raise refused("Input should be an object")
    for name in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if name not in body:
            raise refused(f"{name}: Field required")
    _check_plain_fields(body, counting=counting)
    _check_system(body.get("system"))
    _check_tools(body.get("tools"))
    _check_tool_choice(body)
    thinking = _check_thinking(body)
    turns = check_messages(body["messages"], thinking=thinking, allow_prefill=allow_prefill)
    _check_cache_breakpoints(body, turns)


def _check_plain_fields(body: dict[str, Any], *, counting: bool) -> None:
    if not isinstance(body["model"], str):
        raise refused("model: Input should be a valid string")
    if not body["model"]:
        raise refused("model: String should have at least 1 character")
    if not counting:
        if type(body["max_tokens"]) is not int:
            raise refused("max_tokens: Input should be a valid integer")
        if body["max_tokens"] < 1:
            raise refused("max_tokens: Input should be greater than or equal to 1")
    if not isinstance(body.get("stream", False), bool):
        raise refused("stream: Input should be a valid boolean")


def _check_system(system: object) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise refused("system: Input should be a valid list")
    for number, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise refused(f"system.{number}.type: Input should be 'text'")
        check_text(block.get("text"), f"system.{number}", "system")


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise refused("tools: Input should be a valid list")
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise refused(f"tools.{number}: Input should be an object")
        _check_tool(tool, number)
        if tool["name"] in names:
            raise refused("tools: Tool names must be unique.")
        names.add(tool["name"])


def _check_tool(tool: dict[str, Any], number: int) -> None:
    kind = tool.get("type") or "custom"
    if "name" not in tool:
        raise refused(f"tools.{number}.{kind}.name: Field required")
    if not matches_tool_name(tool["name"]):
        raise refused(f"tools.{number}.{kind}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if kind != "custom":
        return
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise refused(f"tools.{number}.custom.input_schema: Field required")
    if "type" not in schema:
        raise refused(f"tools.{number}.custom.input_schema.type: Field required")
    if schema["type"] != "object":
        raise refused(f"tools.{number}.custom.input_schema.type: Input should be 'object'")


def _check_tool_choice(body: dict[str, Any]) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise refused("tool_choice: Input should be an object with a type of 'auto', 'any', 'tool' or 'none'")
    if not body.get("tools"):
        raise refused("tool_choice may only be specified while providing tools")
    if choice["type"] == "tool" and choice.get("name") not in {tool["name"] for tool in body["tools"]}:
        raise refused(f"Tool '{choice.get('name')}' not found in provided tools")


def _check_thinking(body: dict[str, Any]) -> bool:
    """Return whether extended thinking is on."""
    thinking = body.get("thinking")
    if thinking is None:
        return False
    if not isinstance(thinking, dict) or thinking.get("type") not in (
        "enabled",
        "disabled",
        "adaptive",
        "between_tools",
    ):
        raise refused(
            "thinking: Input should be an object with a type of 'enabled', 'disabled', 'adaptive' or 'between_tools'"
        )
    if thinking["type"] != "enabled":
        return False
    budget = thinking.get("budget_tokens")
    if type(budget) is not int:
        raise refused("thinking.enabled.budget_tokens: Field required")
    if budget < _MIN_THINKING_TOKENS:
        raise refused(
            f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_MIN_THINKING_TOKENS}"
        )
    if "max_tokens" in body and body["max_tokens"] <= budget:
        raise refused("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise refused("Thinking may not be enabled when tool_choice forces tool use.")
    return True


def _check_cache_breakpoints(body: dict[str, Any], turns: list[Turn]) -> None:
    blocks = [block for turn in turns for _, block in turn.blocks]
    if isinstance(body.get("system"), list):
        blocks += body["system"]
    found = sum(1 for block in [*blocks, *(body.get("tools") or ())] if block.get("cache_control"))
    if found > _MAX_CACHE_BREAKPOINTS:
        raise refused(
            f"A maximum of {_MAX_CACHE_BREAKPOINTS} blocks with cache_control may be provided. Found {found}."
        )
