"""Which LLM the stack's workers speak with: Anthropic's, the scripted stand-in, or the local model."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias

from worker.embedded.errors import EmbeddedServerError
from worker.embedded.port import ReservedPort
from worker.embedded.program import Listening, Program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.settings import Settings

LLMName: TypeAlias = Literal["anthropic", "scripted", "local"]


class LLMUnavailable(EmbeddedServerError):
    """The LLM that was asked for cannot be used."""

    code = "llm_unavailable"


@dataclass(frozen=True, slots=True)
class StackLLM:
    """The LLM of a stack.

    Attributes:
        name: Which of the three.
        environment: What the workers' environment says about it.
        program: What has to run for it, if anything.
        port: Held for that program.
    """

    name: LLMName
    environment: Mapping[str, str] = field(default_factory=dict)
    program: Program | None = None
    port: ReservedPort | None = None

    def close(self) -> None:
        """Stop the program, if there is one, and let go of its port."""
        if self.program is not None:
            self.program.stop()
        if self.port is not None:
            self.port.close()


def choose_llm(settings: Settings, wanted: LLMName | None = None) -> LLMName:
    """The LLM to use: the one asked for, else that of TURN_WORKER_LLM, else Anthropic's if there is a key for it.

    Raises:
        LLMUnavailable: Anthropic's is asked for and there is no key, or the local one and it is not installed; or it would be
            the stand-in on a database that others may use too, and nobody asked for it.
    """
    configured = settings.anthropic_api_key is not None or settings.anthropic_base_url is not None
    name = wanted or settings.llm or ("anthropic" if configured else "scripted")
    if name == "anthropic" and not configured:
        raise LLMUnavailable(
            "There is no key for Anthropic's API. Set ANTHROPIC_API_KEY, or choose another LLM: "
            "--llm scripted (a stand-in) or --llm local (a small model on this machine)."
        )
    if name == "scripted" and wanted is None and settings.llm is None and settings.database_url is not None:
        raise LLMUnavailable(
            "DATABASE_URL names a database of yours. The workers take the turns of every organization in it, and without a key "
            "for Anthropic's API a stand-in would answer them. Set ANTHROPIC_API_KEY, or ask for the stand-in: --llm scripted."
        )
    if name == "local" and find_spec("xllamacpp") is None:
        raise LLMUnavailable("The local language model is not installed. Install it with: make local-llm")
    return name


def describe_llm(name: LLMName, script: Path | None, log_file: Path | None) -> StackLLM:
    """Prepare what has to run; nothing is started yet.

    Args:
        name: which LLM.
        script: what the scripted one says; by default it repeats what it hears.
        log_file: where its program's output is appended; by default it goes to this process's standard error.
    """
    if name == "anthropic":
        return StackLLM(name)
    module = "worker.embedded.scripted_llm" if name == "scripted" else "worker.embedded.local_llm"
    port = ReservedPort("127.0.0.1", 0, what=f"The {name} LLM")
    command: list[str | Path] = [sys.executable, "-P", "-m", module, "--port", str(port.number)]
    if script is not None and name == "scripted":
        command += ["--script", script]
    base_url = f"http://127.0.0.1:{port.number}"
    environment = {"ANTHROPIC_API_KEY": name, "ANTHROPIC_BASE_URL": base_url}
    if "OPENAI_API_KEY" not in os.environ and "OPENAI_BASE_URL" not in os.environ:
        environment |= {"OPENAI_API_KEY": name, "OPENAI_BASE_URL": f"{base_url}/v1"}
    program = Program(
        f"The {name} LLM", command, environment=os.environ, readiness=Listening(port.number), log_file=log_file
    )
    return StackLLM(name, environment, program, port)
