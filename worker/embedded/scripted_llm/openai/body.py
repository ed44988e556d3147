"""What the OpenAI Chat Completions API refuses in the body of a request, in its words.

It is less strict than Anthropic's: empty texts, a final assistant message and tools of the same name pass.
"""

from __future__ import annotations

import re
from typing import Any

from worker.embedded.scripted_llm.errors import ApiError

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_MAX_NAME = 64


def check_body(body: object) -> None:
    """Refuse a body the real API refuses.

    Raises:
        ApiError: The first rule broken.
    """
    if not isinstance(body, dict):
        raise _refused("We could not parse the JSON body of your request: an object is expected.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise _refused("you must provide a model parameter")
    if "messages" not in body:
        raise _refused("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise _refused("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    _check_tools(body)
    _check_messages(body["messages"])


def _refused(message: str, param: str | None = None, error_code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, error_code=error_code)


def _empty_array(param: str) -> ApiError:
    return _refused(
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        param,
        "empty_array",
    )


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise _refused(
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name
                )
        return
    if not isinstance(tools, list):
        raise _refused("Invalid type for 'tools': expected an array of objects.", "tools", "invalid_type")
    if not tools:
        raise _empty_array("tools")
    for number, tool in enumerate(tools):
        place = f"tools[{number}]"
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise _refused(
                f"Invalid value for '{place}.type'. Supported values are: 'function'.", f"{place}.type", "invalid_value"
            )
        function = tool.get("function")
        if not isinstance(function, dict) or "name" not in function:
            param = f"{place}.function.name" if isinstance(function, dict) else f"{place}.function"
            raise _refused(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
        _check_name(function["name"], f"{place}.function.name")


def _check_name(name: object, param: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused(
            f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            param,
            "invalid_value",
        )
    if len(name) > _MAX_NAME:
        raise _refused(
            f"Invalid '{param}': string too long. Expected a string with maximum length {_MAX_NAME}, but got a string "
            f"with length {len(name)} instead.",
            param,
            "string_above_max_length",
        )


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise _refused("Invalid type for 'messages': expected an array of objects.", "messages", "invalid_type")
    if not messages:
        raise _empty_array("messages")
    waiting: dict[str, bool] = {}
    """The tool calls of the assistant's latest message, and whether each has had its response."""
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            place = f"messages[{number}]"
            raise _refused(f"Invalid type for '{place}': expected an object.", place, "invalid_type")
        _check_role(message.get("role"), number)
        if message["role"] == "tool":
            _check_tool_message(message, number, waiting)
            continue
        _check_all_answered(waiting, number)
        waiting = _tool_calls(message, number) if message["role"] == "assistant" else {}
        _check_content(message, number)
    _check_all_answered(waiting, len(messages))


def _check_role(role: object, number: int) -> None:
    param = f"messages[{number}].role"
    if role is None:
        raise _refused(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if role not in _ROLES:
        supported = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'"
        raise _refused(f"Invalid value: '{role}'. Supported values are: {supported}.", param, "invalid_value")


def _check_content(message: dict[str, Any], number: int) -> None:
    content = message.get("content")
    if content is None and message["role"] == "assistant" and (message.get("tool_calls") or message.get("refusal")):
        return
    param = f"messages.[{number}].content"
    if content is None:
        raise _refused("Invalid value for 'content': expected a string, got null.", param)
    if not isinstance(content, (str, list)):
        raise _refused("Invalid type for 'content': expected a string or an array of objects.", param, "invalid_type")
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or "type" not in part:
            raise _refused("Missing required parameter: 'type' of a content part.", param, "missing_required_parameter")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise _refused("Missing required parameter: 'text' of a content part.", param, "missing_required_parameter")


def _tool_calls(message: dict[str, Any], number: int) -> dict[str, bool]:
    calls = message.get("tool_calls")
    if calls is None:
        return {}
    param = f"messages[{number}].tool_calls"
    if not isinstance(calls, list):
        raise _refused(f"Invalid type for '{param}': expected an array of objects.", param, "invalid_type")
    if not calls:
        raise _empty_array(param)
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(call.get("id"), str):
            raise _refused(
                f"Missing required parameter: '{param}[{place}].id' or '.function'.",
                param,
                "missing_required_parameter",
            )
        _check_name(function.get("name"), f"{param}[{place}].function.name")
        if not isinstance(function.get("arguments"), str):
            raise _refused(
                f"Invalid type for '{param}[{place}].function.arguments': expected a string.", param, "invalid_type"
            )
    return dict.fromkeys((call["id"] for call in calls), False)


def _check_tool_message(message: dict[str, Any], number: int, waiting: dict[str, bool]) -> None:
    call = message.get("tool_call_id")
    if not isinstance(call, str):
        raise _refused(
            "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'.",
            f"messages.[{number}].tool_call_id",
        )
    if not waiting:
        raise _refused(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
            f"messages.[{number}].role",
        )
    if call not in waiting:
        raise _refused(
            f"Invalid parameter: 'tool_call_id' of '{call}' not found in 'tool_calls' of previous message.",
            f"messages.[{number}].tool_call_id",
        )
    if waiting[call]:
        raise _refused(f"Duplicate value for 'tool_call_id' of '{call}'.", f"messages.[{number}].tool_call_id")
    waiting[call] = True
    _check_content(message, number)


def _check_all_answered(waiting: dict[str, bool], number: int) -> None:
    missing = [call for call, answered in waiting.items() if not answered]
    if missing:
        raise _refused(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(missing)}",
            f"messages.[{number}].role",
        )
