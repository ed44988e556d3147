"""What a user says in a turn: text, images, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""The media types of images that every provider takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture, by its address or as it is.

    Attributes:
        url: Where the provider may fetch it; None when it is given as it is.
        media_type: What kind of picture `data` is, such as `image/png`.
        data: The picture itself in base64.
    """

    url: str | None = None
    media_type: str | None = None
    data: str | None = None

    @property
    def reference(self) -> str:
        """Its address, which for a picture that is given as it is holds all of it (RFC 2397)."""
        return self.url or f"data:{self.media_type};base64,{self.data}"

    def to_json(self) -> dict[str, JsonValue]:
        """Write it down."""
        return {"url": self.url} if self.url else {"media_type": self.media_type, "data": self.data}

    def summary(self) -> dict[str, JsonValue]:
        """Say what it is without handing all of it out again: its address, or its type and its size in bytes."""
        if self.url:
            return {"url": self.url}
        data = self.data or ""
        return {"media_type": self.media_type, "bytes": len(data) * 3 // 4 - data.count("=", -2)}


@dataclass(frozen=True, slots=True)
class UserMessage:
    """One message of the user.

    Attributes:
        text: What was said; empty when there are only images.
        images: What was shown with it.
    """

    text: str
    images: tuple[Image, ...] = ()

    @property
    def content(self) -> JsonValue:
        """Its content in the model's context: plain text as such, else a list of parts, pictures before the words on them."""
        if not self.images:
            return self.text
        parts: list[JsonValue] = [{"type": "image_url", "image_url": {"url": image.reference}} for image in self.images]
        return [*parts, {"type": "text", "text": self.text}] if self.text else parts

    def to_json(self) -> dict[str, JsonValue]:
        """Write it down; without images only its text."""
        images: list[JsonValue] = [image.to_json() for image in self.images]
        return {"text": self.text, **({"images": images} if images else {})}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> UserMessage:
        """Read what `to_json` wrote."""
        return UserMessage(stored["text"], tuple(Image(**image) for image in stored.get("images") or ()))
