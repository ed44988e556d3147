from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from api_stub.schemas import Turn
from worker.cli.conversation import Reply
from worker.cli.transcript import echo_reply, echo_retry, echo_user

if TYPE_CHECKING:
    import pytest

ID = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEARD = (("turn.enqueued", 0.004), ("turn.node_transition", 0.03), ("turn.completed", 0.0304))


def turn(**changes: object) -> Turn:
    values: dict[str, object] = {
        "id": ID, "organization_id": ID, "session_id": ID, "session_state": "running", "revision": 1, "position": 3,
        "parent_turn_id": None, "retry_of_turn_id": None, "carries_over_turn_id": None, "status": "completed",
        "opening": False, "priority": 0,
        "user_messages": ["Hi."], "not_before": None,
        "assistant_text": "Hello.", "error": None, "attempt": 2, "usage": {}, "external_id": None, "metadata": {},
        "created_at": NOW, "available_at": NOW, "first_claimed_at": None, "claimed_at": None,
        "assistant_created_at": None, "ended_at": NOW,
    }  # fmt: skip
    return Turn.model_validate(values | changes)


ERROR = {"code": "llm_authentication", "message": "The key was refused.", "retryable": False}


def test_a_reply_shows_the_way_through_the_graph_what_was_said_and_what_was_heard_when(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_reply(Reply(turn(), ("Reception", "Confirm"), HEARD))
    assert capsys.readouterr().out == (
        "        -> Reception -> Confirm\n"
        "Agent   Hello.\n"
        "        enqueued after 4 ms, completed after 30 ms\n"
    )  # fmt: skip


def test_a_long_answer_is_wrapped_and_indented_and_keeps_its_paragraphs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    echo_reply(Reply(turn(assistant_text="Good choice.\n\n" + "word " * 12), (), HEARD))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "Agent   Good choice.",
        "",
        "        word word word word word word",
        "        word word word word word word",
    ]


def test_a_reply_without_words_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    echo_reply(Reply(turn(assistant_text=None), (), HEARD))
    assert "Agent   (says nothing)" in capsys.readouterr().out


def test_a_failed_turn_shows_its_code_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    echo_reply(Reply(turn(status="failed", assistant_text=None, error=ERROR), (), HEARD))
    assert "Error   Turn 3 failed (llm_authentication): The key was refused." in capsys.readouterr().out


def test_a_cancelled_turn_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    echo_reply(Reply(turn(status="cancelled", assistant_text=None), (), HEARD))
    assert "Error   Turn 3 was cancelled." in capsys.readouterr().out


def test_a_repeated_attempt_is_reported_beside_the_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    echo_retry(turn(status="pending", error=ERROR))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Attempt 2 failed and is repeated: The key was refused." in captured.err


def test_the_users_words_follow_a_blank_line(capsys: pytest.CaptureFixture[str]) -> None:
    echo_user("Hello there.")
    assert capsys.readouterr().out == "\nYou     Hello there.\n"
