"""One way out for every log line, ours and those of the libraries: structured, with its context, and without secrets."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, TextIO

import loguru
import structlog
from structlog.stdlib import ProcessorFormatter

from worker.telemetry import names
from worker.telemetry.masking import mask_field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from structlog.typing import EventDict, Processor, WrappedLogger

# At INFO these write a line per request or per ring, which says nothing that our own lines do not say better.
_TALKATIVE: Final = ("httpx", "httpx2", "celery.worker.strategy", "celery.app.trace")


def configure_logging(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    log_format: Literal["json", "console"] | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send the log lines of the whole process to one stream; call it once, before anything else runs.

    Lines of structlog, of the standard library's loggers (Celery, uvicorn, SQLAlchemy, Alembic), of loguru (pipecat)
    and warnings all look the same, carry what `turn_context` holds, and have their secrets masked. Loggers that
    libraries have fitted with stream handlers of their own lose them. Calling it again replaces what it did before.

    Celery and uvicorn configure logging by themselves unless told not to: connect a receiver to Celery's
    `setup_logging` signal, and pass `log_config=None` to uvicorn.

    Args:
        level: The least severe lines written.
        log_format: `json` for machines, one object per line; `console` for people; by default `console` if `stream` is
            a terminal.
        stream: Where to write; by default what `sys.stderr` is at the time of the call.
    """
    stream = stream or sys.stderr
    log_format = log_format or ("console" if stream.isatty() else "json")
    number = logging.getLevelNamesMapping()[level]

    enrich = _enrichment(for_people=log_format == "console")
    handler = _LineHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=enrich,
            processors=[ProcessorFormatter.remove_processors_meta, _renderer(log_format, stream)],
        )
    )
    _take_over_standard_logging(handler, number)
    _take_over_loguru(number)
    structlog.configure(
        processors=[*enrich, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines, and loses one that cannot be written.

    Where the standard library would print the line as it is, with all its secrets, this says only that it was lost.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the name is logging's
        loss = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno, "log line lost: %r", (sys.exc_info()[1],), None
        )
        # OSError and ValueError: the stream is gone, and there is nobody left to tell.
        with suppress(OSError, ValueError):
            self.stream.write(self.format(loss) + self.terminator)


@contextmanager
def turn_context(*, organization_id: UUID, session_id: UUID, turn_id: UUID, attempt: int) -> Iterator[None]:
    """Put the four fields that say whose it is on every line written inside, by whatever library.

    They belong to the running task: turns that run side by side on one event loop do not see each other's.

    Args:
        organization_id: Whose turn it is.
        session_id: The session of the turn.
        turn_id: The turn.
        attempt: The number of this attempt at it.
    """
    with structlog.contextvars.bound_contextvars(
        **{
            names.ORGANIZATION_ID: str(organization_id),
            names.SESSION_ID: str(session_id),
            names.TURN_ID: str(turn_id),
            names.ATTEMPT: attempt,
        }
    ):
        yield


def _enrichment(*, for_people: bool) -> list[Processor]:
    clock = structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people)
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        clock,
        structlog.processors.StackInfoRenderer(),
        # Tracebacks become text here, so that they are masked like everything else.
        structlog.processors.format_exc_info,
        _mask_event,
    ]


def _renderer(log_format: Literal["json", "console"], stream: TextIO) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty() and "NO_COLOR" not in os.environ,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _mask_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # What begins with an underscore belongs to ProcessorFormatter, which takes it out again.
    return {name: value if name.startswith("_") else mask_field(name, value) for name, value in event.items()}


def _take_over_standard_logging(handler: logging.Handler, level: int) -> None:
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    for logger in [root, *root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.propagate = True
            for other in list(logger.handlers):
                # Exactly what an earlier call, logging.basicConfig, Celery or uvicorn add. Collectors of other kinds,
                # of an error tracker for instance, may stay.
                if type(other) in {_LineHandler, logging.StreamHandler}:
                    logger.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET if level <= logging.DEBUG else logging.WARNING)


def _take_over_loguru(level: int) -> None:
    # loguru compares with the lowest level of its sinks before it formats anything: a line not wanted costs nothing.
    loguru.logger.remove()
    # pipecat says something at INFO for every turn.
    pipecat = level if level <= logging.DEBUG else max(level, logging.WARNING)
    loguru.logger.add(_forward, level=level, format=lambda _record: "{message}", filter={"": level, "pipecat": pipecat})


def _forward(message: loguru.Message) -> None:
    record = message.record
    exception = record["exception"]
    logging.getLogger(record["name"] or "loguru").log(
        # loguru's own levels lie between the standard ones: TRACE is 5, SUCCESS 25.
        max(record["level"].no // 10 * 10, logging.DEBUG),
        record["message"],
        exc_info=exception.value if exception else None,
    )
