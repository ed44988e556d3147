"""What the OpenAI Responses API refuses in the body of a request, in its words."""

from __future__ import annotations

import re
from typing import Any

from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.responses.wire import encrypted_content

_ROLES = ("assistant", "system", "developer", "user")
_FIELDS = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "reasoning": ("id", "summary"),
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LEAST_OUTPUT_TOKENS = 16


def check_body(body: object) -> None:
    """Refuse a body the real API refuses.

    Raises:
        ApiError: The first rule broken.
    """
    if not isinstance(body, dict):
        raise _refused("We could not parse the JSON body of your request: an object is expected.")
    for name in ("model", "input"):
        if not body.get(name):
            raise _refused(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    limit = body.get("max_output_tokens")
    if limit is not None and limit < _LEAST_OUTPUT_TOKENS:
        raise _refused(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= "
            f"{_LEAST_OUTPUT_TOKENS}, but got {limit} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )
    _check_tools(body.get("tools") or [])
    if isinstance(body["input"], list):
        _check_items(body["input"])


def _refused(message: str, param: str | None = "input", error_code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, error_code=error_code)


def _missing(param: str) -> ApiError:
    return _refused(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _check_tools(tools: list[Any]) -> None:
    for number, tool in enumerate(tools):
        if tool.get("type") == "function" and "name" not in tool:
            raise _missing(f"tools[{number}].name")
        if tool.get("type") == "function" and not _NAME.fullmatch(tool["name"]):
            param = f"tools[{number}].name"
            raise _refused(
                f"Invalid '{param}': string does not match pattern '^[a-zA-Z0-9_-]+$'.", param, "invalid_value"
            )


def _check_items(items: list[Any]) -> None:
    calls: dict[str, bool] = {}
    """The calls so far, and whether each has had its output."""
    for number, item in enumerate(items):
        kind = item.get("type", "message")
        _check_fields(item, kind, number)
        if kind == "message":
            _check_message(item, number)
        elif kind == "function_call":
            calls[item["call_id"]] = False
        elif kind == "function_call_output":
            if item["call_id"] not in calls:
                raise _refused(f"No tool call found for function call output with call_id {item['call_id']}.")
            calls[item["call_id"]] = True
        else:
            _check_reasoning(item, items[number + 1 :])
    for call_id, answered in calls.items():
        if not answered:
            raise _refused(f"No tool output found for function call {call_id}.")


def _check_fields(item: dict[str, Any], kind: str, number: int) -> None:
    if kind not in _FIELDS:
        raise _refused(f"Invalid value: '{kind}'.", f"input[{number}]", "invalid_value")
    for field in _FIELDS[kind]:
        if field not in item:
            raise _missing(f"input[{number}].{field}")


def _check_message(item: dict[str, Any], number: int) -> None:
    if item["role"] not in _ROLES:
        raise _refused(f"Invalid value: '{item['role']}'.", f"input[{number}].role", "invalid_value")
    kind = "output_text" if item["role"] == "assistant" else "input_text"
    for place, part in enumerate(item["content"] if isinstance(item["content"], list) else ()):
        if part.get("type") not in {kind, "input_image", "input_file", "refusal"}:
            param = f"input[{number}].content[{place}]"
            raise _refused(f"Invalid value: '{part.get('type')}'.", param, "invalid_value")


def _check_reasoning(item: dict[str, Any], following: list[Any]) -> None:
    """Refuse a thought that is not whole, or without what it led to. Nothing is stored here, so an id alone finds none."""
    if not item.get("encrypted_content"):
        raise ApiError(
            404,
            f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false. Try again with "
            "`store` set to true, or remove this item from your input.",
            param="input",
        )
    if item["encrypted_content"] != encrypted_content(item["id"]):
        raise _refused(
            f"The encrypted content for item {item['id']} could not be verified.", None, "invalid_encrypted_content"
        )
    after = following[0] if following else {}
    if after.get("type") not in {"function_call", "reasoning"} and after.get("role") != "assistant":
        raise _refused(f"Item '{item['id']}' of type 'reasoning' was provided without its required following item.")
