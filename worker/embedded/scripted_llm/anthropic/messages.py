"""What the Anthropic Messages API refuses in a conversation, in its words.

The sentences are those that users of the real API quote in bug reports; which requests they answer was
learned there and from https://platform.claude.com/docs/en/api/errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from worker.embedded.scripted_llm.anthropic.wire import SIGNATURE_PREFIX, signature
from worker.embedded.scripted_llm.errors import ApiError

Block: TypeAlias = dict[str, Any]

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ROLES = ("user", "assistant")
_ROLE_OF_BLOCK = {
    "tool_use": "assistant",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_result": "user",
    "image": "user",
    "document": "user",
}
_BLOCK_TYPES = (
    "document",
    "image",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "text",
    "thinking",
    "tool_result",
    "tool_use",
    "web_search_tool_result",
)


class Place(NamedTuple):
    """Where a content block stands. It becomes text only when an error names it."""

    message: int
    block: int

    def __str__(self) -> str:
        return f"messages.{self.message}.content.{self.block}"


@dataclass(slots=True)
class Turn:
    """Consecutive messages of one role, which the API combines into one."""

    role: str
    index: int
    """Of its first message."""
    blocks: list[tuple[Place, Block]] = field(default_factory=list)

    def of_type(self, block_type: str) -> list[tuple[Place, Block]]:
        """Return the blocks of one type."""
        return [(place, block) for place, block in self.blocks if block["type"] == block_type]


def refused(message: str) -> ApiError:
    """Return the error for a request that breaks a rule."""
    return ApiError(400, message)


def matches_tool_name(name: object) -> bool:
    """Tell whether a value is a legal name of a tool."""
    return isinstance(name, str) and _TOOL_NAME.fullmatch(name) is not None


def check_messages(messages: object, *, thinking: bool, allow_prefill: bool) -> list[Turn]:
    """Refuse a conversation the real API refuses, else return its turns.

    Raises:
        ApiError: The first rule broken, in the order the rules are listed in README.md.
    """
    if not isinstance(messages, list):
        raise refused("messages: Input should be a valid list")
    if not messages:
        raise refused("messages: at least one message is required")
    turns = _turns(messages)
    if turns[0].role != "user":
        raise refused('messages: first message must use the "user" role')
    _check_tool_pairs(turns)
    _check_last_blocks(turns)
    if turns[-1].role == "assistant":
        _check_prefill(turns[-1], allowed=allow_prefill)
    if thinking:
        _check_thinking_kept(turns)
    return turns


def check_text(text: object, place: object, root: str) -> None:
    """Refuse a text block that says nothing; `root` is the part of the request the real API names."""
    if not isinstance(text, str):
        raise refused(f"{place}.text: Input should be a valid string")
    if not text:
        raise refused(f"{root}: text content blocks must be non-empty")
    if text.isspace():
        raise refused(f"{root}: text content blocks must contain non-whitespace text")


def _turns(messages: list[Any]) -> list[Turn]:
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise refused(f"messages.{index}: Input should be an object")
        role = message.get("role")
        _check_role(role, index)
        if not turns or turns[-1].role != role:
            turns.append(Turn(role=str(role), index=index))
        turns[-1].blocks += _blocks(message, index)
    return turns


def _check_role(role: object, index: int) -> None:
    if role is None:
        raise refused(f"messages.{index}.role: Field required")
    if role == "system":
        raise refused(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
            'not "system" as an input message role.'
        )
    if role not in _ROLES:
        raise refused(f'messages: Unexpected role {role!r}. Allowed roles are "user" or "assistant".')


def _blocks(message: dict[str, Any], index: int) -> list[tuple[Place, Block]]:
    if "content" not in message:
        raise refused(f"messages.{index}.content: Field required")
    content = message["content"]
    if isinstance(content, str) and content:
        content = [{"type": "text", "text": content}]
    if content in ("", []):
        raise refused(
            f"messages.{index}: all messages must have non-empty content except for the optional final assistant message"
        )
    if not isinstance(content, list):
        raise refused(f"messages.{index}.content: Input should be a valid list")
    blocks = [(Place(index, number), block) for number, block in enumerate(content)]
    for place, block in blocks:
        _check_block(block, place, role=message["role"], index=index)
    return blocks


def _check_block(block: object, place: object, *, role: str, index: int) -> None:
    if not isinstance(block, dict):
        raise refused(f"{place}: Input should be an object")
    kind = block.get("type")
    if kind not in _BLOCK_TYPES:
        expected = ", ".join(f"'{name}'" for name in _BLOCK_TYPES)
        raise refused(
            f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {expected}"
        )
    allowed = _ROLE_OF_BLOCK.get(kind, role)
    if role != allowed:
        raise refused(f"messages.{index}: `{kind}` blocks can only be in `{allowed}` messages")
    if kind == "text":
        check_text(block.get("text"), place, "messages")
    elif kind == "tool_use":
        _check_tool_use(block, place)
    elif kind == "tool_result":
        _check_tool_result(block, place)
    elif kind == "thinking":
        _check_thinking(block, place)


def _check_tool_use(block: Block, place: object) -> None:
    for name in ("id", "name", "input"):
        if name not in block:
            raise refused(f"{place}.tool_use.{name}: Field required")
    if not isinstance(block["id"], str) or not _TOOL_USE_ID.fullmatch(block["id"]):
        raise refused(f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not matches_tool_name(block["name"]):
        raise refused(f"{place}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(block["input"], dict):
        raise refused(f"{place}.tool_use.input: Input should be a valid dictionary")


def _check_tool_result(block: Block, place: object) -> None:
    if not isinstance(block.get("tool_use_id"), str):
        raise refused(f"{place}.tool_result.tool_use_id: Field required")
    content = block.get("content", "")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise refused(f"{place}.tool_result.content: Input should be a valid list")
    for number, inner in enumerate(content):
        inner_place = f"{place}.tool_result.content.{number}"
        if not isinstance(inner, dict) or "type" not in inner:
            raise refused(f"{inner_place}: Input should be an object")
        if inner["type"] == "text":
            check_text(inner.get("text"), inner_place, "messages")


def _check_thinking(block: Block, place: object) -> None:
    for name in ("thinking", "signature"):
        if not isinstance(block.get(name), str):
            raise refused(f"{place}.thinking.{name}: Field required")
    # Signatures of the real API cannot be checked here; our own prove that the text came back unchanged.
    ours = block["signature"].startswith(SIGNATURE_PREFIX)
    if not block["signature"] or (ours and block["signature"] != signature(block["thinking"])):
        raise refused(f"{place}: Invalid `signature` in `thinking` block")


def _check_tool_pairs(turns: list[Turn]) -> None:
    seen: set[str] = set()
    called: dict[str, Place] = {}
    for number, turn in enumerate(turns):
        if turn.role == "user":
            _check_results_are_called_for(turn, called)
            called = {}
            continue
        for place, block in turn.of_type("tool_use"):
            if block["id"] in seen:
                raise refused(f"{place}: `tool_use` ids must be unique")
            seen.add(block["id"])
            called[block["id"]] = place
        answered = _leading_results(turns[number + 1]) if number + 1 < len(turns) else set()
        missing = [call for call in called if call not in answered]
        if missing:
            raise refused(
                f"messages.{turn.index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )


def _check_results_are_called_for(turn: Turn, called: dict[str, Place]) -> None:
    answered: set[str] = set()
    for place, block in turn.of_type("tool_result"):
        call = block["tool_use_id"]
        if call not in called:
            raise refused(
                f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: {call}. Each `tool_result` block "
                "must have a corresponding `tool_use` block in the previous message."
            )
        if call in answered:
            raise refused(
                f"{place}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {call}"
            )
        answered.add(call)


def _leading_results(turn: Turn) -> set[str]:
    """Return the ids of the results a turn begins with: results after other content do not count."""
    ids: set[str] = set()
    for _, block in turn.blocks:
        if block["type"] != "tool_result":
            break
        ids.add(block["tool_use_id"])
    return ids


def _check_prefill(turn: Turn, *, allowed: bool) -> None:
    if not allowed:
        raise refused(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    _, last = turn.blocks[-1]
    if last["type"] == "text" and last["text"] != last["text"].rstrip():
        raise refused("messages: final assistant content cannot end with trailing whitespace")


def _check_last_blocks(turns: list[Turn]) -> None:
    for turn in turns:
        place, last = turn.blocks[-1]
        if last["type"] in ("thinking", "redacted_thinking"):
            raise refused(
                f"messages.{place.message}: The final block in an assistant message cannot be `{last['type']}`."
            )


def _check_thinking_kept(turns: list[Turn]) -> None:
    """With thinking on, a reply that called tools comes back with the thinking it began with."""
    if len(turns) < 2 or not turns[-1].of_type("tool_result"):
        return
    place, first = turns[-2].blocks[0]
    if first["type"] not in ("thinking", "redacted_thinking"):
        raise refused(
            f"{place}.type: Expected `thinking` or `redacted_thinking`, but found `{first['type']}`. When `thinking` is "
            "enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of "
            "`tool_use` and `tool_result` blocks)."
        )
