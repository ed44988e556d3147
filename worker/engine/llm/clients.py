"""The SDK clients of one event loop: one for each credential and address, shared by all turns.

A client holds a connection pool and a TLS context (20 ms of CPU time to create), so one per turn would cost more than
the turn itself.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from worker.engine.llm.gate import CallGate
from worker.engine.llm.provider import address, provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import SecretStr

    from worker.engine.llm.provider import Provider
    from worker.engine.request import ResolvedModel
    from worker.workflow.web_address import AllowedHosts

MAX_IDLE_CLIENTS: Final = 100
"""How many clients that no turn uses are kept, each about 1 MB. The least recently used go first."""


class _Key(NamedTuple):
    provider: str
    base_url: str | None
    api_key: SecretStr | None
    allowed_hosts: AllowedHosts | None


@dataclass(slots=True)
class _Shared:
    provider: Provider
    client: Any
    gate: CallGate = field(default_factory=CallGate)
    users: int = 0


class ProviderClients:
    """Lends out SDK clients. Belongs to the event loop it is used on; close it before that ends."""

    def __init__(self) -> None:
        self._clients: dict[_Key, _Shared] = {}  # least recently used first

    @asynccontextmanager
    async def lend(self, model: ResolvedModel) -> AsyncIterator[tuple[Provider, Any]]:
        """Borrow the provider and the client for a model, for the length of a turn.

        Raises:
            UnknownLLMProvider: There is no such provider.
            LLMNotConfigured: It needs a key and has none.
        """
        key = _key(model)
        shared = self._clients.pop(key, None)
        if shared is None:
            # In a thread, so that the other turns move on while the SDK is loaded, if this process has not used it yet.
            chosen = await asyncio.to_thread(provider, model.provider)
            shared = self._clients.pop(key, None) or _Shared(chosen, chosen.connect(model))
        self._clients[key] = shared
        shared.users += 1
        try:
            yield shared.provider, shared.client
        finally:
            shared.users -= 1
            await self._close_idle(keep=MAX_IDLE_CLIENTS)

    def gate(self, model: ResolvedModel) -> CallGate:
        """Where the calls with a model's credential wait while its provider refuses more; of a model that is lent out."""
        return self._clients[_key(model)].gate

    async def close(self) -> None:
        """Close every client, and with them what still runs over them."""
        for key in list(self._clients):
            await self._clients.pop(key).client.close()

    async def _close_idle(self, keep: int) -> None:
        idle = [key for key, shared in self._clients.items() if not shared.users]
        for key in idle[: max(0, len(idle) - keep)]:
            await self._clients.pop(key).client.close()


def _key(model: ResolvedModel) -> _Key:
    return _Key(model.provider, address(model), model.api_key, model.allowed_hosts)
