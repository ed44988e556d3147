"""Reading along: a turn's text as server-sent events, from the first word to its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from api_stub.answers import encode
from api_stub.following import wait_for_turn
from api_stub.schemas import TERMINAL_STATUSES
from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from uuid import UUID

    from api_stub.services import Services
    from worker.channel.text_reader import TextEntry, TextListener
    from worker.storage.turn_views import TurnView

END: Final = "end"
"""The id of the last event: whoever has it has everything."""

_SIGN_OF_LIFE_SECONDS: Final = 10.0


async def read_along(services: Services, *, organization_id: UUID, turn_id: UUID, after: str) -> AsyncGenerator[str]:
    """The text behind an entry, then what comes, until the turn is over. PostgreSQL says when that is, and what came of it."""
    texts = services.texts
    async with texts.listen(organization_id=organization_id, turn_id=turn_id, after=after) as words:
        ending = asyncio.create_task(_end_of(services, organization_id, turn_id, words))
        try:
            attempt = 0
            while (entry := await _next(words)) is not None:
                if isinstance(entry, str):
                    yield entry
                elif entry.attempt >= attempt:  # else a worker writes that does not know yet that it lost the turn
                    attempt = entry.attempt
                    yield _event(entry.id, "reset" if entry.text is None else "text", entry.offset, entry.text or "")
            turn = await ending
        finally:
            ending.cancel()
            await asyncio.wait({ending})
    if turn is not None and turn.status in TERMINAL_STATUSES:
        yield _event(END, END, 0, turn.assistant_text or "", status=turn.status, error=turn.error)


async def _next(words: TextListener) -> TextEntry | str | None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_SIGN_OF_LIFE_SECONDS):
            return await anext(words, None)
    return ": nothing new\n\n"


async def _end_of(services: Services, organization_id: UUID, turn_id: UUID, words: TextListener) -> TurnView | None:
    """The turn once it is over; None if that cannot be found out now, and the client had better come again."""
    try:
        return await wait_for_turn(services, organization_id=organization_id, turn_id=turn_id, seconds=None)
    except TurnWorkerError:
        return None
    finally:
        words.close()


def _event(id_: str, type_: str, offset: int, text: str, **more: Any) -> str:
    return f"id: {id_}\nevent: {type_}\ndata: {encode({'type': type_, 'offset': offset, 'text': text, **more})}\n\n"
