"""Options that several commands have, and values of the form NAME=VALUE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.embedded.llm import LLMName

llm_option = click.option(
    "--llm",
    type=click.Choice(["anthropic", "scripted", "local"]),
    help="Which LLM speaks.  [default: TURN_WORKER_LLM, else anthropic with a key, else scripted; with DATABASE_URL, scripted "
    "has to be asked for]",
)
script_option = click.option(
    "--script",
    type=click.Path(path_type=Path),
    help="A script for the scripted LLM, in JSON. Without one it repeats what it hears.",
)


def checked_script(llm: LLMName | None, script: Path | None) -> LLMName | None:
    """The LLM to use: whoever brings a script means the scripted one.

    Raises:
        click.UsageError: another LLM was asked for with it.
        InvalidScript: the script cannot be used.
    """
    if script is None:
        return llm
    if llm not in (None, "scripted"):
        raise click.UsageError(f"--script is for the scripted LLM, not for --llm {llm}.")
    from worker.embedded.scripted_llm.script import Script  # noqa: PLC0415 - only for who brings one

    Script.from_file(script)
    return "scripted"


def assignments(values: Iterable[str], option: str) -> dict[str, Any]:
    """What several NAME=VALUE stand for. A value is JSON, or else the text as it stands.

    Raises:
        click.BadParameter: one has not this form.
    """
    result: dict[str, Any] = {}
    for assignment in values:
        name, separator, value = assignment.partition("=")
        if not name or not separator:
            raise click.BadParameter(f"{assignment!r} is not of the form NAME=VALUE.", param_hint=option)
        try:
            result[name] = json.loads(value)
        except json.JSONDecodeError:
            result[name] = value
    return result


def json_option(value: str, option: str) -> dict[str, Any]:
    """The JSON object that an option was given.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        document = json.loads(value)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}.", param_hint=option) from None
    if not isinstance(document, dict):
        raise click.BadParameter(f"{value!r} is not a JSON object.", param_hint=option)
    return document
