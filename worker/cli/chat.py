"""`turn-worker chat`."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from api_stub.client import AsyncTurnWorkerClient, InvalidRequest, NotFound
from worker.cli.access import passing_key
from worker.cli.conversation import Conversation
from worker.cli.documents import read_json, read_tools
from worker.cli.local_stack import echo_parts, for_this_llm, own_stack
from worker.cli.options import assignments, checked_script, llm_option, script_option
from worker.cli.transcript import echo_reply, echo_retry, echo_user, waiting
from worker.settings import load_settings
from worker.workflow.validation import parse_definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from uuid import UUID

    from worker.cli.conversation import Reply
    from worker.cli.documents import StoredTool
    from worker.embedded.llm import LLMName
    from worker.embedded.stack import Stack

_QUIT: Final = "/quit"
_PROMPT: Final = "\nYou     "


@click.command()
@click.argument("workflow", metavar="WORKFLOW.json")
@llm_option
@script_option
@click.option(
    "--tools",
    metavar="TOOLS.json",
    help='The tools it uses: a JSON list of {"id": ..., "definition": ...}, as `POST /v1/tools` takes them.',
)
@click.option(
    "--context",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for the agent's templates, in JSON or as plain text. May be repeated.",
)
@click.option(
    "--org", "organization", default="default", show_default=True, help="Whose LLM defaults and secrets to use."
)
@click.pass_context
def chat(
    ctx: click.Context,
    *,
    workflow: str,
    llm: LLMName | None,
    script: Path | None,
    tools: str | None,
    context: tuple[str, ...],
    organization: str,
) -> None:
    """Talk to an agent in the terminal, through the whole system; /quit or the end of the input ends the conversation, and
    Ctrl-C calls off what the agent is just answering.

    Everything that DATABASE_URL, REDIS_URL and ANTHROPIC_API_KEY do not name is started for it, with its data in a temporary
    folder (or in TURN_WORKER_DATA_DIR), and stopped in the end. The exit status is 1 if the last turn failed.
    """
    document = read_json(workflow)
    parse_definition(document)
    agent = _Agent(Path(workflow).stem, document, read_tools(tools) if tools is not None else ())
    initial_context = assignments(context, "--context")
    llm = checked_script(llm, script)
    settings = load_settings()
    with own_stack(settings, llm=llm, script=script) as stack, asyncio.Runner() as runner:
        echo_parts(stack, settings)
        click.echo(f"\n{_QUIT} ends the conversation.\n")
        talk = _Talk()
        try:
            reply = runner.run(talk.open(stack, organization, agent, initial_context))
            # Read here, between the runs of the loop: a thread that waits for a line could not be interrupted.
            for line in _lines():
                reply = runner.run(talk.say(line)) or reply
                if reply.ends_session:
                    break
            else:
                runner.run(talk.conversation.hang_up())
        finally:
            runner.run(talk.close())
    if reply.turn.status != "completed":
        ctx.exit(1)


@dataclass(frozen=True, slots=True)
class _Agent:
    """What is talked to: a workflow under the name of its file, and the tools it mentions."""

    name: str
    document: Mapping[str, Any]
    tools: Sequence[StoredTool]


class _Talk:
    """A conversation whose turns are taken one run of the event loop at a time."""

    conversation: Conversation

    def __init__(self) -> None:
        self._resources = AsyncExitStack()

    async def open(
        self,
        stack: Stack,
        organization: str,
        agent: _Agent,
        initial_context: Mapping[str, Any],
    ) -> Reply:
        """Create the tools, the workflow and a session of it, and show the agent's opening."""
        enter = self._resources.enter_async_context
        key = await enter(passing_key(stack.database_url, organization=organization, purpose="chat"))
        client = await enter(AsyncTurnWorkerClient(stack.api_url, key))
        for tool in agent.tools:
            await _keep(client, tool)
        async with waiting("the agent is thinking"):
            self.conversation, opening = await enter(
                Conversation.begin(
                    client,
                    stack.redis_url,
                    workflow_id=await _workflow(client, agent.name, for_this_llm(stack, agent.document)),
                    initial_context=initial_context,
                    on_retry=echo_retry,
                )
            )
        echo_reply(opening)
        return opening

    async def say(self, text: str) -> Reply | None:
        """Show what comes of a line; None if the API does not accept it."""
        try:
            async with self._interruptible(), waiting("the agent is thinking"):
                reply = await self.conversation.say(text)
        except InvalidRequest as error:
            faults = [fault["message"] for fault in error.extensions.get("errors", ())]
            click.echo(f"Error: This was not accepted. {' '.join(faults) or error}", err=True)
            return None
        echo_reply(reply)
        return reply

    @asynccontextmanager
    async def _interruptible(self) -> AsyncIterator[None]:
        """Meanwhile Ctrl-C calls off the turn, not the conversation."""
        loop = asyncio.get_running_loop()
        interrupting: list[asyncio.Task[None]] = []
        before = signal.getsignal(signal.SIGINT)
        loop.add_signal_handler(
            signal.SIGINT, lambda: interrupting.append(loop.create_task(self.conversation.interrupt()))
        )
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)
            await asyncio.gather(*interrupting)

    async def close(self) -> None:
        """Close every connection and revoke the key."""
        await self._resources.aclose()


async def _keep(client: AsyncTurnWorkerClient, tool: StoredTool) -> None:
    """Bring the organization's tool of that id up to date, or create it."""
    try:
        await client.put_tool(tool.id, tool.definition)
    except NotFound:
        await client.create_tool(tool.definition, tool_id=tool.id)


async def _workflow(client: AsyncTurnWorkerClient, name: str, document: Mapping[str, Any]) -> UUID:
    """The organization's workflow of that name, brought up to date; a new one if there is none."""
    cursor: str | None = None
    while True:
        page = await client.list_workflows(limit=100, cursor=cursor)
        for workflow in page.data:
            if workflow.name == name:
                return (await client.put_workflow(workflow.id, document)).id
        cursor = page.next_cursor
        if cursor is None:
            return (await client.create_workflow(name, document)).id


def _lines() -> Iterator[str]:
    """What the user says, line by line, to the end of the input or to /quit."""
    on_terminal = sys.stdin.isatty()
    if on_terminal:
        # Being there is enough: `input` then edits lines and remembers them.
        import readline  # noqa: F401, PLC0415 - not on every system, and only of use on a terminal
    while True:
        try:
            line = (input(_PROMPT) if on_terminal else input()).strip()
        except EOFError:
            return
        if line == _QUIT:
            return
        if line:
            if not on_terminal:
                echo_user(line)
            yield line
