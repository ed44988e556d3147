"""What Bedrock's Converse API refuses in the body of a request, in its words.

The sentences are those that users of the real API quote in bug reports.
"""

from __future__ import annotations

import base64
import re
from typing import Any, TypeAlias

from worker.embedded.scripted_llm.anthropic.wire import SIGNATURE_PREFIX, signature
from worker.embedded.scripted_llm.errors import ApiError

Block: TypeAlias = dict[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KINDS = ("text", "image", "toolUse", "toolResult", "document", "video", "cachePoint", "reasoningContent")
_ROLE_OF_KIND = {"toolUse": "assistant", "reasoningContent": "assistant", "toolResult": "user", "image": "user"}
_IMAGE_FORMATS = ("png", "jpeg", "gif", "webp")


def check_body(body: object, *, allow_prefill: bool) -> None:
    """Refuse a body the real API refuses.

    Raises:
        ApiError: The first rule broken.
    """
    if not isinstance(body, dict):
        raise refused("STRUCTURE_VALUE or UNION_VALUE expected.")
    _check_system(body.get("system"))
    tools = _checked_tools(body.get("toolConfig"))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or messages[0].get("role") != "user":
        raise refused(
            "A conversation must start with a user message. Try again with a conversation that starts with a user message."
        )
    _check_messages(messages, declares_tools=bool(tools))
    if messages[-1]["role"] == "assistant" and not allow_prefill:
        raise _refused_by_the_model(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def refused(message: str) -> ApiError:
    """Return the error for a request that breaks a rule."""
    return ApiError(400, message)


def _refused_by_the_model(message: str) -> ApiError:
    return refused(f"The model returned the following errors: {message}")


def _check_system(system: object) -> None:
    for number, block in enumerate(system if isinstance(system, list) else ()):
        if "cachePoint" not in block and not str(block.get("text", "")).strip():
            raise refused(
                f"The text field in the SystemContentBlock object at system.{number} is blank. Add text to the text "
                "field, and try again."
            )


def _checked_tools(config: object) -> set[str]:
    if config is None:
        return set()
    names: set[str] = set()
    for number, tool in enumerate(config.get("tools") or () if isinstance(config, dict) else ()):
        if "cachePoint" in tool:
            continue
        where = f"toolConfig.tools.{number}.member.toolSpec"
        name = str(tool["toolSpec"].get("name", ""))
        if not _NAME.fullmatch(name):
            raise refused(
                f"1 validation error detected: Value '{name}' at '{where}.name' failed to satisfy constraint: Member must "
                "satisfy regular expression pattern: [a-zA-Z0-9_-]+"
            )
        if name in names:
            raise refused(f"The tool {name} is already defined at toolConfig.tools.{number}.")
        if tool["toolSpec"]["inputSchema"]["json"].get("type") != "object":
            raise refused(f"The value at {where.replace('.member', '')}.inputSchema.json.type must be one of: object.")
        names.add(name)
    if not names:
        raise refused("1 validation error detected: Value at 'toolConfig.tools' failed to satisfy constraint.")
    return names


def _check_messages(messages: list[Any], *, declares_tools: bool) -> None:
    called: list[str] = []
    previous = ""
    for number, message in enumerate(messages):
        role = message.get("role")
        if role not in {"user", "assistant"}:
            raise refused(f"Value '{role}' at 'messages.{number}.member.role' must be one of: user, assistant.")
        if role == previous:
            raise refused(
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
                "between user and assistant roles and try again."
            )
        blocks = message.get("content")
        if not blocks:
            raise refused(
                f"The content field in the Message object at messages.{number} is empty. Add a ContentBlock object to "
                "the content field and try again."
            )
        for place, block in enumerate(blocks):
            _check_block(block, role, f"messages.{number}.content.{place}")
        _check_results(blocks, called, number)
        called = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
        if not declares_tools and (called or any("toolResult" in block for block in blocks)):
            raise refused("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
        previous = role
    if called:
        _check_results([], called, len(messages))


def _check_block(block: Block, role: str, place: str) -> None:
    kinds = block.keys() & set(_KINDS)
    if len(kinds) != 1 or len(block) != 1:
        raise refused(f"ContentBlock object at {place} must set one of the following keys: {', '.join(_KINDS)}.")
    (kind,) = kinds
    if _ROLE_OF_KIND.get(kind, role) != role:
        raise refused(f"The {kind} block at {place} cannot be used in a message of the role {role}.")
    if kind == "text" and not block["text"].strip():
        raise refused(
            f"The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
        )
    if kind == "image":
        _check_image(block["image"], place)
    elif kind == "reasoningContent":
        _check_signed(block["reasoningContent"].get("reasoningText") or {}, place)


def _check_image(image: Block, place: str) -> None:
    if image.get("format") not in _IMAGE_FORMATS:
        raise refused(f"The format at {place}.image must be one of: {', '.join(_IMAGE_FORMATS)}.")
    try:
        base64.b64decode(image["source"]["bytes"], validate=True)
    except (KeyError, ValueError):
        raise refused(f"The source at {place}.image is no picture.") from None


def _check_signed(thought: Block, place: str) -> None:
    # Signatures of the real API cannot be checked here; our own prove that the text came back unchanged.
    given = thought.get("signature", "")
    if given.startswith(SIGNATURE_PREFIX) and given != signature(thought["text"]):
        raise _refused_by_the_model(f"{place}: Invalid `signature` in `thinking` block")


def _check_results(blocks: list[Block], called: list[str], number: int) -> None:
    """A message begins with the results of the calls before it, whatever else it holds."""
    results = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
    leading = [block["toolResult"]["toolUseId"] for block in blocks[: len(results)] if "toolResult" in block]
    if missing := [call for call in called if call not in leading]:
        raise refused(
            f"Expected toolResult blocks at messages.{number}.content for the following Ids: {', '.join(missing)}"
        )
    if len(results) > len(called):
        raise refused(
            f"The number of toolResult blocks at messages.{number}.content exceeds the number of toolUse blocks of previous "
            "turn."
        )
