from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from worker.embedded.scripted_llm import ErrorReply, InvalidScript, Rule, Script, Text, Thinking, ToolCall, When

if TYPE_CHECKING:
    from pathlib import Path


def problems(script: Any) -> list[str]:
    with pytest.raises(InvalidScript) as caught:
        Script.from_json(json.dumps(script), source="here")
    headline, *lines = str(caught.value).split("\n")
    assert headline == "The script here cannot be used:"
    return [line.strip() for line in lines]


def test_a_script_can_be_written_as_json_or_with_python_objects() -> None:
    written = Script.model_validate(
        {
            "rules": [
                {
                    "when": {"user_matches": "name is (?P<name>.+)"},
                    "reply": [{"thinking": "Hm"}, {"text": "Hi {name}"}],
                },
                {"reply": [{"tool": "look", "input": {"for": "it"}}]},
                {"error": {"status": 429, "retry_after": 3}},
            ]
        }
    )

    assert written.rules[0].when.user_matches is not None
    assert written.rules[0].when.user_matches.search("My name is Ada")
    assert written.rules[1:] == (
        Rule(reply=(ToolCall(tool="look", input={"for": "it"}),)),
        Rule(error=ErrorReply(status=429, retry_after=3)),
    )
    assert written.rules[0].reply == (Thinking(thinking="Hm"), Text(text="Hi {name}"))


def test_a_reply_of_text_alone_can_be_a_string() -> None:
    assert Rule.model_validate({"reply": "Hello"}) == Rule(reply=(Text(text="Hello"),))


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('{"rules": [{"when": {"model": "gpt-5"}, "reply": "Hello"}], "rejected_keys": ["bad"]}')

    assert Script.from_file(path) == Script(
        rules=(Rule(when=When(model="gpt-5"), reply=(Text(text="Hello"),)),), rejected_keys=frozenset({"bad"})
    )


def test_a_file_that_is_not_there_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(InvalidScript, match=r"The script .*missing\.json cannot be read: No such file or directory\."):
        Script.from_file(tmp_path / "missing.json")


def test_a_text_that_is_not_json_is_one_clear_message() -> None:
    with pytest.raises(InvalidScript, match=r"the whole script: Invalid JSON: .* line 1 column 1"):
        Script.from_json("{", source="here")


def test_all_problems_are_reported_at_once_each_with_its_place() -> None:
    found = problems(
        {
            "rules": [
                {"reply": "Fine"},
                {"when": {"user_matches": "("}, "reply": [{"text": ""}, {"tool": "two words"}, {"say": "Hi"}]},
                {"times": 0, "delay_seconds": -1, "reply": [{"text": "Hi"}], "stop_reason": "bored"},
                {"error": {"status": 200}},
            ],
            "rulse": [],
        }
    )

    places = [line.split(":")[0] for line in found]
    assert places == [
        "rules.1.when.user_matches",
        "rules.1.reply.0.text.text",
        "rules.1.reply.1.tool.tool",
        "rules.1.reply.2",
        "rules.2.times",
        "rules.2.stop_reason",
        "rules.2.delay_seconds",
        "rules.3.error.status",
        "rulse",
    ]
    assert found[3] == 'rules.1.reply.2: a reply block is an object with "text", "tool" or "thinking"'


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({}, "a rule needs one of `reply`, `error` and `reset`"),
        ({"reset": True, "reply": "Hi"}, "a reset connection carries neither a reply nor an error"),
        ({"reset": True, "error": {"status": 500}}, "a reset connection carries neither a reply nor an error"),
        ({"reply": "Hi", "error": {"status": 500}}, "`error` goes together with `reply` only as `error.after_chunks`"),
        ({"error": {"status": 500, "after_chunks": 1}}, "`error` goes together with `reply` only as"),
        ({"error": {"status": 500}, "break_after": 1}, "`break_after` needs a `reply` and no `error`"),
        ({"reply": "Hi", "hold_after": 1}, "`hold_after` needs the name in `hold`"),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(rule: dict[str, Any], sentence: str) -> None:
    (found,) = problems({"rules": [rule]})

    assert found.startswith(f"rules.0: {sentence}")


def test_python_objects_are_checked_like_a_file() -> None:
    with pytest.raises(ValidationError):
        Script.model_validate({"rules": [{"say": "Hi"}]})
