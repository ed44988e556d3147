"""Reads an answer's body within a limit, which holds for what arrives as well as for what it unpacks to."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

ACCEPTED_ENCODINGS: Final = "gzip"
"""What a request may be answered in, as its `Accept-Encoding` says."""

_AUTOMATIC_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


class BodyTooLarge(Exception):
    """There is more of the body than the limit allows."""


class BodyUnreadable(Exception):
    """The body is not what its Content-Encoding says; the message says how."""


async def read_body(chunks: AsyncIterable[bytes], encoding: str, limit: int) -> bytes:
    """Read a body to its end and unpack it, never holding more than the limit and one chunk.

    Args:
        chunks: The body as it arrives.
        encoding: Its Content-Encoding; empty for none.
        limit: The most bytes, packed and unpacked.

    Raises:
        BodyTooLarge: There is more.
        BodyUnreadable: It cannot be unpacked.
    """
    unpack, ended = _unpacker(encoding)
    parts: list[bytes] = []
    arrived = size = 0
    async for chunk in chunks:
        arrived += len(chunk)
        # One byte more than there is room for tells a body that is too large from one that just fits.
        part = unpack(chunk, limit - size + 1)
        size += len(part)
        if max(arrived, size) > limit:
            raise BodyTooLarge
        parts.append(part)
    if arrived and not ended():
        raise BodyUnreadable("its compressed data is cut off")
    return b"".join(parts)


def _unpacker(encoding: str) -> tuple[Callable[[bytes, int], bytes], Callable[[], bool]]:
    """What unpacks a chunk to at most so many bytes, and what tells whether that has come to an end."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return lambda chunk, _: chunk, lambda: True
    if name not in {"gzip", "x-gzip", "deflate"}:
        raise BodyUnreadable(f"its Content-Encoding {encoding[:40]!r} was not asked for")
    inflater = zlib.decompressobj(_AUTOMATIC_GZIP_OR_ZLIB)

    def inflate(chunk: bytes, at_most: int) -> bytes:
        try:
            return inflater.decompress(chunk, at_most)
        except zlib.error:
            raise BodyUnreadable("its compressed data is damaged") from None

    return inflate, lambda: inflater.eof
