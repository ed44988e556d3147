from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from uuid import UUID, uuid4

import loguru
import pytest
import structlog
import uvicorn.config

from worker.telemetry.logging import configure_logging, turn_context
from worker.telemetry.masking import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-ant-api03-abcdefghijklmnop"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """What these tests change belongs to the whole process; give it back."""
    root = logging.getLogger()
    loggers = [root, *(logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    config = structlog.get_config()
    yield
    structlog.configure(**config)
    logging.captureWarnings(capture=False)
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    loguru.logger.remove()
    loguru.logger.add(sys.stderr)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    raise ValueError(f"cannot use {KEY}")


def say_everywhere(what: str) -> None:
    """One line through each door."""
    structlog.get_logger("ours").warning(what)
    logging.getLogger("theirs").warning("%s", what)
    loguru.logger.warning(what)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(what, stacklevel=1)


def test_every_library_writes_the_same_kind_of_line(stream: io.StringIO) -> None:
    configure_logging("INFO", stream=stream)
    say_everywhere("hello")
    assert [line["logger"] for line in lines(stream)] == ["ours", "theirs", __name__, "py.warnings"]
    for line in lines(stream):
        assert "hello" in line["event"]
        assert line["level"] == "warning"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["timestamp"])


def test_every_line_says_whose_turn_it_is_about(stream: io.StringIO) -> None:
    configure_logging("INFO", stream=stream)
    organization_id, session_id, turn_id = uuid4(), uuid4(), uuid4()
    with turn_context(organization_id=organization_id, session_id=session_id, turn_id=turn_id, attempt=2):
        say_everywhere("inside")
    say_everywhere("outside")
    inside, outside = lines(stream)[:4], lines(stream)[4:]
    for line in inside:
        assert UUID(line["organization_id"]) == organization_id
        assert UUID(line["session_id"]) == session_id
        assert UUID(line["turn_id"]) == turn_id
        assert line["attempt"] == 2
    assert not any(line.keys() & {"organization_id", "session_id", "turn_id", "attempt"} for line in outside)


async def test_turns_side_by_side_on_one_loop_do_not_see_each_others_context(stream: io.StringIO) -> None:
    configure_logging("INFO", stream=stream)
    all_inside = asyncio.Barrier(10)

    async def turn(attempt: int) -> None:
        with turn_context(organization_id=uuid4(), session_id=uuid4(), turn_id=uuid4(), attempt=attempt):
            await all_inside.wait()
            structlog.get_logger().info(f"turn {attempt}")
            await asyncio.to_thread(logging.getLogger("in a thread").info, f"turn {attempt}")

    await asyncio.gather(*(turn(attempt) for attempt in range(10)))
    assert len(lines(stream)) == 20
    assert all(line["event"] == f"turn {line['attempt']}" for line in lines(stream))


def test_secrets_are_masked_whichever_way_they_come(stream: io.StringIO) -> None:
    configure_logging("INFO", stream=stream)
    say_everywhere(f"the key is {KEY}")
    log = structlog.get_logger()
    log.info("value", url=f"https://user:{KEY}@host", nested={"list": [{"deep": KEY}], "password": "hunter22"})
    log.info(
        "object",
        error=ValueError(KEY),
        headers=[("x-api-key", "hunter22"), (b"token", b"hunter22")],
        x_api_key="hunter22",
    )
    with turn_context(organization_id=UUID(int=1), session_id=UUID(int=2), turn_id=UUID(int=3), attempt=1):
        try:
            fail()
        except ValueError:
            log.exception("ours")
            logging.getLogger("theirs").exception("theirs")
            loguru.logger.exception("pipecat's")
    assert len(lines(stream)) == 9
    assert "abcdefghijklmnop" not in stream.getvalue()
    assert "hunter22" not in stream.getvalue()
    assert [f"ValueError: cannot use sk-ant-{MASK}" in line["exception"] for line in lines(stream)[-3:]] == [True] * 3


def test_a_terminal_gets_readable_lines_with_readable_tracebacks_and_no_secrets() -> None:
    terminal = Terminal()
    configure_logging("INFO", stream=terminal)
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("turn.failed", code="oops")
    written = terminal.getvalue()
    assert "turn.failed" in written
    assert "\nTraceback (most recent call last):\n" in written
    assert f"ValueError: cannot use sk-ant-{MASK}" in written
    assert "\x1b[" in written


def test_colours_can_be_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    configure_logging("INFO", stream=terminal)
    structlog.get_logger().info("hello")
    assert "hello" in terminal.getvalue()
    assert "\x1b[" not in terminal.getvalue()


def test_the_form_can_be_chosen_against_the_kind_of_stream(stream: io.StringIO) -> None:
    terminal = Terminal()
    configure_logging("INFO", "json", terminal)
    structlog.get_logger().info("hello", n=1)
    assert lines(terminal)[0]["n"] == 1
    configure_logging("INFO", "console", stream)
    structlog.get_logger().info("hello", n=1)
    assert "n=1" in stream.getvalue()


def test_lines_go_to_standard_error_as_it_is_when_logging_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    structlog.get_logger().info("hello")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "hello"
    assert not captured.out


@pytest.mark.parametrize(("level", "heard"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
def test_only_lines_of_the_level_and_above_are_written(
    stream: io.StringIO, level: Literal["DEBUG", "INFO", "WARNING", "ERROR"], heard: int
) -> None:
    configure_logging(level, stream=stream)
    for logger in (structlog.get_logger(), logging.getLogger("theirs"), loguru.logger):
        for method in ("debug", "info", "warning", "error"):
            getattr(logger, method)(method)
    levels = ["debug", "info", "warning", "error"][-heard:]
    assert [line["level"] for line in lines(stream)] == levels * 3
    assert [line["event"] for line in lines(stream)] == levels * 3


def test_a_line_of_loguru_below_the_level_is_not_even_formatted(stream: io.StringIO) -> None:
    class Untouchable:
        def __format__(self, _spec: str) -> str:
            raise AssertionError

    configure_logging("INFO", stream=stream)
    loguru.logger.debug("context: {}", Untouchable())
    assert not stream.getvalue()


def test_the_levels_that_only_loguru_has_become_standard_ones(stream: io.StringIO) -> None:
    configure_logging("DEBUG", stream=stream)
    loguru.logger.trace("too fine")
    loguru.logger.success("done")
    loguru.logger.critical("help")
    assert [(line["event"], line["level"]) for line in lines(stream)] == [("done", "info"), ("help", "critical")]


def test_braces_and_percent_signs_in_a_message_stay_as_they_are(stream: io.StringIO) -> None:
    configure_logging("INFO", stream=stream)
    for logger in (structlog.get_logger(), logging.getLogger("theirs"), loguru.logger):
        logger.info("100% {of} <it>")
    assert [line["event"] for line in lines(stream)] == ["100% {of} <it>"] * 3


def test_configuring_twice_writes_every_line_once(stream: io.StringIO) -> None:
    abandoned = io.StringIO()
    configure_logging("INFO", stream=abandoned)
    configure_logging("INFO", stream=stream)
    say_everywhere("hello")
    assert len(lines(stream)) == 4
    assert not abandoned.getvalue()


def test_a_library_that_had_its_own_handlers_writes_here_and_only_here(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig({**uvicorn.config.LOGGING_CONFIG, "disable_existing_loggers": False})
    configure_logging("INFO", stream=stream)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("%s", "GET /")
    assert [line["event"] for line in lines(stream)] == ["Started server process [7]", "GET /"]
    captured = capsys.readouterr()
    assert not captured.out
    assert not captured.err


def test_a_handler_of_another_kind_may_stay_and_hears_our_lines_without_secrets(stream: io.StringIO) -> None:
    class ErrorTracker(logging.Handler):
        heard: ClassVar[list[str]] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.heard.append(record.getMessage())

    tracker = ErrorTracker()
    logging.getLogger().addHandler(tracker)
    try:
        configure_logging("INFO", stream=stream)
        structlog.get_logger().error("oops", key=KEY)
    finally:
        logging.getLogger().removeHandler(tracker)
    assert "oops" in tracker.heard[0]
    assert f"sk-ant-{MASK}" in tracker.heard[0]
    assert KEY not in tracker.heard[0]


@pytest.mark.parametrize("name", ["httpx", "celery.app.trace", "celery.worker.strategy"])
def test_a_line_for_every_request_or_task_is_written_only_when_debugging(stream: io.StringIO, name: str) -> None:
    configure_logging("DEBUG", stream=stream)
    logging.getLogger(name).info("one more")
    assert len(lines(stream)) == 1
    configure_logging("INFO", stream=stream)
    logging.getLogger(name).info("one more")
    assert len(lines(stream)) == 1
    logging.getLogger(name).warning("trouble")
    assert len(lines(stream)) == 2


def test_values_that_json_does_not_know_do_not_cost_the_line(stream: io.StringIO) -> None:
    configure_logging("INFO", stream=stream)
    structlog.get_logger().info("odd", id=UUID(int=1), stream=object, by_id={UUID(int=2): {3}}, text="\ud800")
    assert lines(stream)[0]["by_id"] == {str(UUID(int=2)): [3]}


def test_a_line_that_cannot_be_formatted_is_reported_without_its_contents(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would raise
    configure_logging("INFO", stream=stream)
    logging.getLogger("theirs").info("%d", KEY)
    assert "log line lost: TypeError" in lines(stream)[0]["event"]
    assert lines(stream)[0]["logger"] == "theirs"
    assert KEY not in stream.getvalue()
    assert not capsys.readouterr().err


def test_a_stream_that_is_gone_disturbs_nobody(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", stream=stream)
    stream.close()
    say_everywhere(KEY)
    assert not capsys.readouterr().err
