"""`turn-worker demo`."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from importlib import resources
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final

import click

from api_stub.client import AsyncTurnWorkerClient
from worker.cli.access import passing_key
from worker.cli.conversation import Conversation
from worker.cli.local_stack import echo_parts, for_this_llm, own_stack
from worker.cli.options import llm_option
from worker.cli.transcript import echo_reply, echo_retry, echo_user, failure, waiting
from worker.errors import TurnWorkerError
from worker.settings import load_settings

if TYPE_CHECKING:
    from worker.cli.conversation import Reply
    from worker.embedded.llm import LLMName
    from worker.embedded.stack import Stack

EXAMPLES: Final = Path(str(resources.files("worker.embedded"))) / "examples"
_AGENT: Final = EXAMPLES / "clinic.json"
_SCRIPT: Final = EXAMPLES / "clinic_script.json"

_PATIENT: Final = {"patient_name": "Ada"}
# To a model that follows its prompts, too, these are a whole conversation: with a detour and a correction, which make
# it go round two loops of the graph.
_LINES: Final = (
    "Hi! I would like to see a doctor this week.",
    "Before I choose: is there any parking?",
    "Good. Then I take the appointment on Wednesday at 14:00.",
    "Ada Marlow, born on 12 May 1986. My knee hurts when I climb stairs.",
    "Almost: I was born on 21 May 1986.",
    "Yes, everything is right now. Thank you!",
)


class DemoFailed(TurnWorkerError):
    """A turn of the demo was not completed."""

    code = "demo_failed"


@click.command()
@llm_option
def demo(llm: LLMName | None) -> None:
    """Watch an example agent hold a conversation through the whole system.

    Everything that DATABASE_URL, REDIS_URL and ANTHROPIC_API_KEY do not name is started for it, with its data in a temporary
    folder (or in TURN_WORKER_DATA_DIR), and stopped in the end.
    """
    settings = load_settings()
    with own_stack(settings, llm=llm, script=_SCRIPT) as stack:
        echo_parts(stack, settings)
        click.echo()
        asyncio.run(_converse(stack))
        _where_next(stack)


async def _converse(stack: Stack) -> None:
    async with (
        passing_key(stack.database_url, organization="demo", purpose="demo") as key,
        AsyncTurnWorkerClient(stack.api_url, key) as client,
    ):
        workflow = await client.create_workflow(
            "Clinic front desk", for_this_llm(stack, json.loads(_AGENT.read_text()))
        )
        async with Conversation.begin(
            client, stack.redis_url, workflow_id=workflow.id, initial_context=_PATIENT, on_retry=echo_retry
        ) as (conversation, opening):
            replies = [_shown(opening)]
            for line in _LINES:
                if replies[-1].ends_session:
                    break
                echo_user(line)
                async with waiting("the agent is thinking"):
                    reply = await conversation.say(line)
                replies.append(_shown(reply))
            over = replies[-1].ends_session
            if not over:
                await conversation.hang_up()
        session = await client.get_session(conversation.session_id)
    _summary(replies, ended_by_agent=over, visited=session.gathered_context.get("nodes_visited", []))


def _shown(reply: Reply) -> Reply:
    if reply.turn.status != "completed":
        raise DemoFailed(failure(reply.turn))
    echo_reply(reply)
    return reply


def _summary(replies: list[Reply], *, ended_by_agent: bool, visited: list[str]) -> None:
    times = [reply.seconds * 1000 for reply in replies]
    click.echo()
    click.echo(
        f"The conversation is over: {len(replies)} turns, ended by {'the agent' if ended_by_agent else 'the user'}, "
        f"{len(visited)} node{'' if len(visited) == 1 else 's'} visited ({', '.join(visited)})."
    )
    click.echo(
        f"From sending a request to hearing over Redis that the turn is over: median {statistics.median(times):.0f} ms, "
        f"longest {max(times):.0f} ms."
    )


def _where_next(stack: Stack) -> None:
    program = "turn-worker"
    if which(program) is None:  # as when make ran it
        program = str(_from_here(Path(sys.executable).with_name(program)))
    chat = f"{program} chat {_from_here(_AGENT)}"
    if stack.llm == "scripted":
        chat += f" --script {_from_here(_SCRIPT)}"
    click.echo(
        f"""
Where to look next:

  {program} up
      runs the same until Ctrl-C, with an API key and the API's documentation
  {chat}
      lets you talk to this agent yourself
  ANTHROPIC_API_KEY=sk-ant-... {program} demo
      has a real model hold this conversation
  README.md
      says how to call it from another service, and how to run it in production"""
    )


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
