"""From a request to what the model does: the first rule that applies, its placeholders filled in."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.embedded.scripted_llm.request import estimated_tokens
from worker.embedded.scripted_llm.script import BUILT_IN_RULES, Rule, Script, Text, Thinking, ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.embedded.scripted_llm.request import ModelRequest
    from worker.embedded.scripted_llm.script import Block, When

_PLACEHOLDER = re.compile(r"\{([a-zA-Z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply, ready to be put into the words of an API."""

    blocks: tuple[Block, ...]
    stop_reason: str
    input_tokens: int
    output_tokens: int
    thinking_tokens: int
    """The part of `output_tokens` that is thinking."""
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    chunk_characters: int


class Play:
    """A script being played: it chooses rules and counts those that apply a limited number of times."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._rules = [(rule.name or f"rules.{place}", rule) for place, rule in enumerate(script.rules)] + [
            (rule.name or "", rule) for rule in BUILT_IN_RULES
        ]
        self._used: Counter[int] = Counter()

    def choose(self, request: ModelRequest) -> tuple[str, Rule]:
        """Return the name and the rule that answers this request, and count its use."""
        for place, (name, rule) in enumerate(self._rules):
            if rule.times is not None and self._used[place] >= rule.times:
                continue
            if _applies(rule.when, request):
                if rule.times is not None:
                    self._used[place] += 1
                return name, rule
        raise AssertionError("the last built-in rule applies to every request")


def compose(rule: Rule, request: ModelRequest) -> Answer:
    """Fill the placeholders of a rule's reply from the request and settle its stop reason and token counts."""
    values = _placeholders(rule, request)
    filled = (_filled_block(block, values) for block in rule.reply or ())
    blocks = tuple(block for block in filled if _says_something(block))
    calls_a_tool = any(isinstance(block, ToolCall) for block in blocks)
    thinking = sum(estimated_tokens(len(block.thinking)) for block in blocks if isinstance(block, Thinking))
    spoken = sum(_tokens(block) for block in blocks if not isinstance(block, Thinking))
    usage = rule.usage
    return Answer(
        blocks=blocks,
        stop_reason=rule.stop_reason or ("tool_use" if calls_a_tool else "end_turn"),
        input_tokens=request.input_tokens if usage.input_tokens is None else usage.input_tokens,
        output_tokens=thinking + spoken if usage.output_tokens is None else usage.output_tokens,
        thinking_tokens=thinking,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_creation_input_tokens=usage.cache_creation_input_tokens,
        chunk_characters=rule.chunk_characters,
    )


def _applies(when: When, request: ModelRequest) -> bool:
    results = request.tool_results
    return (
        (when.user_contains is None or _contains(request.user_text, when.user_contains))
        and (when.user_matches is None or when.user_matches.search(request.user_text) is not None)
        and (when.user_turn is None or when.user_turn == len(request.user_texts))
        and (when.system_contains is None or _contains(request.system, when.system_contains))
        and (when.tool_offered is None or when.tool_offered in request.tools)
        and (when.after_tool_result is None or any(result.tool == when.after_tool_result for result in results))
        and (
            when.tool_result_contains is None
            or any(_contains(result.text, when.tool_result_contains) for result in results)
        )
        and (when.model is None or when.model == request.model)
    )


def _contains(text: str, part: str) -> bool:
    return part.casefold() in text.casefold()


def _placeholders(rule: Rule, request: ModelRequest) -> dict[str, str]:
    values = {
        "user": request.user_text,
        "user_turn": str(len(request.user_texts)),
        "system": request.system,
        "model": request.model,
        "tool_result": "\n".join(result.text for result in request.tool_results),
    }
    if rule.when.user_matches is not None:
        found = rule.when.user_matches.search(request.user_text)
        values.update(found.groupdict(default="") if found else {})
    return values


def _filled_block(block: Block, values: Mapping[str, str]) -> Block:
    if isinstance(block, Text):
        return Text.model_construct(text=_filled(block.text, values))
    if isinstance(block, Thinking):
        return Thinking.model_construct(thinking=_filled(block.thinking, values))
    return ToolCall.model_construct(tool=block.tool, input=_filled_json(block.input, values))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Replace the known placeholders; other braces, such as those of JSON, stay as they are."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text) if "{" in text else text


def _filled_json(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _filled(value, values)
    if isinstance(value, dict):
        return {key: _filled_json(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled_json(inner, values) for inner in value]
    return value


def _says_something(block: Block) -> bool:
    """Tell whether a block has content: a placeholder may have been filled with nothing."""
    if isinstance(block, Text):
        return bool(block.text)
    return not isinstance(block, Thinking) or bool(block.thinking)


def _tokens(block: Text | ToolCall) -> int:
    if isinstance(block, Text):
        return estimated_tokens(len(block.text))
    return estimated_tokens(len(block.tool) + len(json.dumps(block.input)))
