"""The whole system on this machine, for the commands that run on it: started with progress, explained, always stopped."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import click

from worker.cli.servers import database_url, redis_url, require_redis
from worker.embedded.llm import choose_llm
from worker.embedded.stack import Stack
from worker.telemetry.masking import mask_secrets
from worker.workflow.validation import definition_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue, SecretStr

    from worker.embedded.llm import LLMName
    from worker.settings import Settings

_LOCAL_MAX_TOKENS: Final = 60


class Part(NamedTuple):
    """One of the three servers around the program.

    Attributes:
        is_real: It is what one would have in production, if perhaps a small one; else it is a stand-in.
    """

    name: str
    is_real: bool
    description: str


@contextmanager
def running_stack(
    settings: Settings, *, data_dir: Path, llm: LLMName | None, script: Path | None, log_dir: Path | None = None
) -> Iterator[Stack]:
    """Start the stack, saying what is being started, and stop it in the end, whatever ends the block.

    Args:
        settings: see `Stack`.
        data_dir: see `Stack`.
        llm: the LLM that was asked for, if any.
        script: see `Stack`.
        log_dir: see `Stack`.

    Raises:
        TurnWorkerError: something cannot be started; the message says what and why.
        KeyboardInterrupt: on Ctrl-C, and likewise on SIGTERM and SIGHUP.
    """
    if settings.database_url is not None:
        database_url(settings)
    if settings.redis_url is not None:
        require_redis(redis_url(settings))
    stack = Stack(
        settings,
        data_dir=data_dir,
        llm=choose_llm(settings, llm),
        script=script,
        log_dir=log_dir,
        on_step=lambda step: click.echo(f"{step} ...", err=True),
        on_trouble=lambda message: click.echo(message, err=True),
    )
    began = time.monotonic()
    with _other_signals_as_interrupts():
        try:
            stack.start()
            click.echo(f"Ready after {time.monotonic() - began:.1f} s.", err=True)
            yield stack
        finally:
            click.echo("Stopping ...", err=True)
            stack.stop()


@contextmanager
def own_stack(settings: Settings, *, llm: LLMName | None, script: Path | None) -> Iterator[Stack]:
    """A stack for one command alone: on a free port, and in a temporary folder unless TURN_WORKER_DATA_DIR names one.

    Args:
        settings: see `Stack`.
        llm: the LLM that was asked for, if any.
        script: see `Stack`.
    """
    alone = {"host": "127.0.0.1", "port": 0, "worker_processes": max(1, settings.worker_processes)}
    with ExitStack() as resources:
        folder = settings.data_dir or Path(
            resources.enter_context(TemporaryDirectory(prefix="turn-worker-", ignore_cleanup_errors=True))
        )
        stack = running_stack(
            settings.model_copy(update=alone), data_dir=folder, llm=llm, script=script, log_dir=folder / "logs"
        )
        yield resources.enter_context(stack)


def for_this_llm(stack: Stack, document: object) -> dict[str, JsonValue]:
    """The definition, with short replies if the local model speaks: now and then, it does not come to an end by itself."""
    definition = definition_document(document)
    if stack.llm != "local":
        return definition
    configurations = definition.get("workflow_configurations") or {}
    if not isinstance(configurations, dict):
        return definition
    overrides = configurations.get("model_overrides") or {}
    if not isinstance(overrides, dict):
        return definition
    bounded: JsonValue = {"max_tokens": _LOCAL_MAX_TOKENS, **overrides}
    return {**definition, "workflow_configurations": {**configurations, "model_overrides": bounded}}


def parts(stack: Stack, settings: Settings) -> list[Part]:
    """What PostgreSQL, Redis and the LLM are in this stack, and how to use others."""
    embedded = f"a server of our own, its data in {stack.data_dir}"
    return [
        Part(
            "PostgreSQL",
            is_real=True,
            description=f"{embedded}; set DATABASE_URL to use yours"
            if stack.embeds_postgres
            else _yours(settings.database_url),
        ),
        Part(
            "Redis",
            is_real=True,
            description=f"{embedded}; set REDIS_URL to use yours" if stack.embeds_redis else _yours(settings.redis_url),
        ),
        _llm(stack, settings),
    ]


def echo_parts(stack: Stack, settings: Settings) -> None:
    """Print what is real and what is a stand-in."""
    for part in parts(stack, settings):
        kind = click.style("real    ", fg="green") if part.is_real else click.style("STAND-IN", fg="yellow", bold=True)
        click.echo(f"  {part.name:<10}  {kind}  {part.description}")


def _llm(stack: Stack, settings: Settings) -> Part:
    match stack.llm:
        case "anthropic":
            where = settings.anthropic_base_url or "Anthropic's API"
            return Part("LLM", is_real=True, description=f"{settings.default_model} at {mask_secrets(where)}")
        case "local":
            return Part(
                "LLM",
                is_real=True,
                description="a very small model on this machine, which never calls a tool: agents stay in their first node",
            )
        case "scripted":
            return Part(
                "LLM",
                is_real=False,
                description="a script behind Anthropic's API, no model; set ANTHROPIC_API_KEY or take --llm local for one",
            )


def _yours(url: SecretStr | None) -> str:
    return f"yours, {mask_secrets(url.get_secret_value())}" if url is not None else ""


@contextmanager
def _other_signals_as_interrupts() -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    others = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in others}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
