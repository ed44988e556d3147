"""The tools of MCP servers: listed once per server and process for a while, called over sessions that end with their turn."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.conversation import event
from worker.engine.tools.inlined_schema import inlined
from worker.engine.tools.tool import Tool, ToolResult
from worker.errors import TurnWorkerError
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from pydantic import JsonValue

    from worker.conversation.event import TurnEvent
    from worker.engine.tools.mcp_session import McpSession, ServerAddress
    from worker.engine.tools.tool import ToolInvocation
    from worker.engine.web.access import WebAccess
    from worker.workflow.tool_definition import McpServerDefinition

LISTED_SECONDS: Final = 300.0
"""How long a server's list of tools is taken as it was."""

UNREACHABLE_SECONDS: Final = 15.0
"""How long a server that could not be asked is not asked again: nobody waits for it turn by turn."""

MAX_SERVERS: Final = 1000
"""How many servers' lists are kept in a process; the oldest go first."""

MAX_RESULT_CHARACTERS: Final = 64_000
"""How much of a result the model sees."""

_LISTING_SECONDS: Final = 5.0
_MAX_NAME: Final = 64
_OUTSIDE_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")


class McpServerUnavailable(TurnWorkerError):
    """A server could not be reached, or did not speak as MCP servers do."""

    code = "mcp_server_unavailable"
    retryable = True

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.server = server
        self.reason = reason

    def __str__(self) -> str:
        return f"The MCP server {self.server!r} cannot be used: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Offer:
    """A tool as its server describes it."""

    name: str
    description: str
    schema: Mapping[str, Any]


class McpServers:
    """What is known of MCP servers in one process. Belongs to the event loop it is used on."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock: Seconds, by which lists grow old.
        """
        self._clock = clock
        self._listings: dict[ServerAddress, tuple[float, asyncio.Task[list[_Offer]]]] = {}  # oldest first

    @asynccontextmanager
    async def turn(self, web: WebAccess) -> AsyncIterator[McpTurn]:
        """Use servers during a turn. Sessions are opened when they are needed and closed at the end."""
        turn = McpTurn(self, web)
        try:
            yield turn
        finally:
            await turn.close()

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for _, task in self._listings.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def offers(self, address: ServerAddress, web: WebAccess) -> list[_Offer]:
        """The tools of a server, as it listed them not long ago. Turns that ask at the same time ask once."""
        until, task = self._listings.get(address, (0.0, None))
        if task is None or (task.done() and until <= self._clock()):
            task = asyncio.get_running_loop().create_task(_list(address, web))
            task.add_done_callback(lambda done: self._remember(address, done))
            self._listings.pop(address, None)
            self._listings[address] = (0.0, task)
            while len(self._listings) > MAX_SERVERS:
                self._listings.pop(next(iter(self._listings)))[1].cancel()
        return await asyncio.shield(task)

    def _remember(self, address: ServerAddress, task: asyncio.Task[list[_Offer]]) -> None:
        if self._listings.get(address, (0.0, None))[1] is task:
            failed = task.cancelled() or task.exception() is not None
            self._listings[address] = (self._clock() + (UNREACHABLE_SECONDS if failed else LISTED_SECONDS), task)


class McpTurn:
    """The servers that one turn uses."""

    def __init__(self, servers: McpServers, web: WebAccess) -> None:
        self._servers = servers
        self._web = web
        self._sessions: dict[ServerAddress, McpSession] = {}

    async def tools(
        self,
        definition: McpServerDefinition,
        *,
        only: Collection[str] | None,
        report: Callable[[TurnEvent], None],
        now: datetime,
    ) -> Sequence[Tool]:
        """The tools a server offers to a node. One that cannot be asked offers none, which is reported.

        Args:
            definition: The server.
            only: The server's own names of the tools to offer; None for all.
            report: Takes note of what is missing.
            now: The current time, with its zone.
        """
        try:
            address = await self._address(definition)
            offers = await self._servers.offers(address, self._web)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with a server, the conversation goes on
            message = str(unavailable(definition.name, error))
            report(event.tools_unavailable(now, server=definition.name, message=message))
            return ()
        if only is not None:
            missing = sorted(set(only) - {offer.name for offer in offers})
            if missing:
                message = f"The MCP server {definition.name!r} has no tool {', '.join(missing)}."
                report(event.tools_unavailable(now, server=definition.name, message=message))
            offers = [offer for offer in offers if offer.name in only]
        return [self._tool(definition, offer) for offer in offers]

    async def close(self) -> None:
        """End every session."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(session.close() for session in sessions))

    def _tool(self, definition: McpServerDefinition, offer: _Offer) -> Tool:
        async def run(invocation: ToolInvocation) -> ToolResult:
            try:
                async with asyncio.timeout(definition.timeout_seconds):
                    session = await self._session(await self._address(definition))
                    result = await session.call(offer.name, invocation.arguments, invocation.idempotency_key)
            except Exception as error:  # noqa: BLE001 -- a tool's failure is a result that the model sees
                return ToolResult(result={"status": "error", "message": str(unavailable(definition.name, error))})
            status = "error" if result.is_error else "success"
            return ToolResult(result={"status": status, "data": _data(result)})

        properties = offer.schema.get("properties")
        required = offer.schema.get("required")
        return Tool(
            name=tool_name(definition.name, offer.name),
            description=offer.description or offer.name,
            run=run,
            properties=properties if isinstance(properties, dict) else {},
            required=[name for name in required if isinstance(name, str)] if isinstance(required, list) else [],
            repeatable=definition.repeatable,
        )

    async def _address(self, definition: McpServerDefinition) -> ServerAddress:
        module = await _session_module()
        headers = await self._web.credentials(definition.credential) if definition.credential else {}
        address: ServerAddress = module.ServerAddress(
            url=definition.url,
            transport=definition.transport,
            headers=tuple(sorted(headers.items())),
            allowed=self._web.allowed,
            timeout_seconds=definition.timeout_seconds,
        )
        return address

    async def _session(self, address: ServerAddress) -> McpSession:
        session = self._sessions.get(address)
        if session is None or not session.usable:
            module = await _session_module()
            opened: McpSession = module.McpSession(address, self._web.client)
            self._sessions[address] = session = opened
        return session


def tool_name(server: str, tool: str) -> str:
    """What the model calls a server's tool: `SERVER__TOOL`.

    Where that is no name that every provider takes, the odd characters become `_` and a hash of the whole keeps it apart
    from every other; it is the same in every turn.
    """
    whole = f"{server}__{tool}"
    name = _OUTSIDE_NAME.sub("_", whole)
    if name == whole and len(whole) <= _MAX_NAME:
        return whole
    mark = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - len(mark) - 1]}_{mark}"


def unavailable(server: str, error: BaseException) -> McpServerUnavailable:
    """Say of whatever an SDK of many layers raised what an operator can use."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, McpServerUnavailable):
        return error
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, TurnWorkerError):
        cause = cause.__cause__
    if cause is not None:
        reason = str(cause)
    elif isinstance(error, TimeoutError):
        reason = "It did not answer in time."
    else:
        reason = f"It answered with an error: {error}" if str(error) else f"It failed ({type(error).__name__})."
    return McpServerUnavailable(server, mask_secrets(reason))


async def _list(address: ServerAddress, web: WebAccess) -> list[_Offer]:
    module = await _session_module()
    session: McpSession = module.McpSession(address, web.client)
    try:
        async with asyncio.timeout(min(_LISTING_SECONDS, address.timeout_seconds)):
            found = await session.tools()
    finally:
        await session.close()
    return [_Offer(tool.name, tool.description or tool.title or "", inlined(tool.input_schema)) for tool in found]


async def _session_module() -> Any:
    return await asyncio.to_thread(__import__, "worker.engine.tools.mcp_session", fromlist=["McpSession"])


def _data(result: Any) -> JsonValue:
    """What the model sees of a result: its structure if it has one, else its texts; other contents are only named."""
    if result.structured_content is not None:
        data = result.structured_content
        shown = json.dumps(data, ensure_ascii=False)
    else:
        data = shown = "\n\n".join(_shown(block) for block in result.content)
    if len(shown) <= MAX_RESULT_CHARACTERS:
        structure: JsonValue = data
        return structure
    return f"{shown[:MAX_RESULT_CHARACTERS]}\n[Cut off here: {len(shown) - MAX_RESULT_CHARACTERS:,} more characters.]"


def _shown(block: Any) -> str:
    match block.type:
        case "text":
            text: str = block.text
            return text
        case "resource" if isinstance(getattr(block.resource, "text", None), str):
            embedded: str = block.resource.text
            return embedded
        case kind:
            return f"[{kind}, not shown]"
