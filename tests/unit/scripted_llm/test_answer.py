from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from worker.embedded.scripted_llm import Rule, Script, Text, Thinking, ToolCall
from worker.embedded.scripted_llm.answer import Play, compose
from worker.embedded.scripted_llm.request import ModelRequest, ToolResult

REQUEST = ModelRequest(
    model="claude-sonnet-5",
    system="You book appointments",
    user_texts=("Hello", "I need a Dentist"),
    tools=frozenset({"book", "cancel"}),
    tool_results=(),
    stream=True,
    include_usage=True,
    input_tokens=100,
)
AFTER_TOOLS = replace(REQUEST, tool_results=(ToolResult("book", "Booked for Monday"), ToolResult("cancel", "Gone")))


def applies(when: dict[str, Any], request: ModelRequest) -> bool:
    play = Play(Script.model_validate({"rules": [{"name": "it", "when": when, "reply": "Yes"}]}))
    return play.choose(request)[0] == "it"


def blocks(rule: dict[str, Any], request: ModelRequest = REQUEST) -> tuple[Any, ...]:
    return compose(Rule.model_validate(rule), request).blocks


@pytest.mark.parametrize(
    ("when", "request_", "expected"),
    [
        ({}, REQUEST, True),
        ({"user_contains": "dentist"}, REQUEST, True),
        ({"user_contains": "hello"}, REQUEST, False),
        ({"user_matches": "need .* Dentist$"}, REQUEST, True),
        ({"user_matches": "dentist"}, REQUEST, False),
        ({"user_turn": 2}, REQUEST, True),
        ({"user_turn": 1}, REQUEST, False),
        ({"system_contains": "APPOINTMENTS"}, REQUEST, True),
        ({"system_contains": "pizza"}, REQUEST, False),
        ({"tool_offered": "book"}, REQUEST, True),
        ({"tool_offered": "pay"}, REQUEST, False),
        ({"after_tool_result": "book"}, AFTER_TOOLS, True),
        ({"after_tool_result": "cancel"}, AFTER_TOOLS, True),
        ({"after_tool_result": "pay"}, AFTER_TOOLS, False),
        ({"after_tool_result": "book"}, REQUEST, False),
        ({"tool_result_contains": "monday"}, AFTER_TOOLS, True),
        ({"tool_result_contains": "tuesday"}, AFTER_TOOLS, False),
        ({"tool_result_contains": ""}, REQUEST, False),
        ({"model": "claude-sonnet-5"}, REQUEST, True),
        ({"model": "claude"}, REQUEST, False),
        ({"user_turn": 2, "model": "gpt-5"}, REQUEST, False),
    ],
)
def test_a_condition_holds_or_not_by_the_request_alone(
    when: dict[str, Any], request_: ModelRequest, *, expected: bool
) -> None:
    assert applies(when, request_) is expected


def test_the_first_rule_that_applies_answers() -> None:
    play = Play(
        Script.model_validate(
            {"rules": [{"when": {"user_turn": 9}, "reply": "No"}, {"reply": "Yes"}, {"reply": "Too late"}]}
        )
    )

    name, rule = play.choose(REQUEST)

    assert (name, rule.reply) == ("rules.1", (Text(text="Yes"),))


def test_a_used_up_rule_lets_the_next_one_answer() -> None:
    play = Play(
        Script.model_validate(
            {"rules": [{"when": {"user_turn": 2}, "times": 2, "reply": "No"}, {"name": "then", "reply": "Yes"}]}
        )
    )

    other = replace(REQUEST, user_texts=())
    assert [play.choose(request)[0] for request in (REQUEST, other, REQUEST, REQUEST)] == [
        "rules.0",
        "then",
        "rules.0",
        "then",
    ]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (REQUEST, "You said: I need a Dentist"),
        (replace(REQUEST, user_texts=()), "Hello, how can I help you?"),
        (AFTER_TOOLS, "The tool answered: Booked for Monday\nGone"),
    ],
)
def test_without_a_rule_it_talks_by_itself(request_: ModelRequest, text: str) -> None:
    _, rule = Play(Script()).choose(request_)

    assert compose(rule, request_).blocks == (Text(text=text),)


def test_placeholders_are_filled_from_the_request() -> None:
    assert blocks({"reply": "{user}|{user_turn}|{model}|{system}|{tool_result}"}, AFTER_TOOLS) == (
        Text(text="I need a Dentist|2|claude-sonnet-5|You book appointments|Booked for Monday\nGone"),
    )


def test_named_groups_of_the_pattern_are_placeholders() -> None:
    rule = {"when": {"user_matches": r"need a (?P<who>\w+)(?P<when> today)?"}, "reply": "A {who}{when}?"}

    assert blocks(rule) == (Text(text="A Dentist?"),)


def test_placeholders_reach_into_thinking_and_tool_arguments() -> None:
    reply = [{"thinking": "About {user}"}, {"tool": "book", "input": {"for": ["{user}", 2, {"turn": "{user_turn}"}]}}]

    assert blocks({"reply": reply}) == (
        Thinking(thinking="About I need a Dentist"),
        ToolCall(tool="book", input={"for": ["I need a Dentist", 2, {"turn": "2"}]}),
    )


def test_other_braces_stay_as_they_are() -> None:
    assert blocks({"reply": '{"who": "{user}", "{unknown}": {}}'}) == (
        Text(text='{"who": "I need a Dentist", "{unknown}": {}}'),
    )


def test_a_text_that_is_empty_once_filled_is_not_sent() -> None:
    assert blocks({"reply": [{"text": "{user}"}, {"thinking": "{user}"}]}, replace(REQUEST, user_texts=())) == ()


def test_a_reply_that_calls_a_tool_stops_for_it_unless_the_script_says_otherwise() -> None:
    call = [{"text": "Let me look"}, {"tool": "book"}]

    assert compose(Rule.model_validate({"reply": "Hi"}), REQUEST).stop_reason == "end_turn"
    assert compose(Rule.model_validate({"reply": call}), REQUEST).stop_reason == "tool_use"
    assert (
        compose(Rule.model_validate({"reply": call, "stop_reason": "max_tokens"}), REQUEST).stop_reason == "max_tokens"
    )


def test_token_counts_follow_the_lengths_and_give_way_to_the_script() -> None:
    reply = [{"thinking": "x" * 40}, {"text": "x" * 80}, {"tool": "book"}]
    counted = compose(Rule.model_validate({"reply": reply}), REQUEST)
    scripted = compose(Rule.model_validate({"reply": reply, "usage": {"input_tokens": 1, "output_tokens": 2}}), REQUEST)

    assert (counted.input_tokens, counted.output_tokens, counted.thinking_tokens) == (100, 10 + 20 + 2, 10)
    assert (scripted.input_tokens, scripted.output_tokens) == (1, 2)


def test_an_empty_reply_has_no_tokens() -> None:
    assert compose(Rule.model_validate({"reply": []}), REQUEST).output_tokens == 0
