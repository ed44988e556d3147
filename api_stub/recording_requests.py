"""What the API accepts about recordings."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path
from pydantic import Field, StringConstraints
from uuid_utils.compat import uuid7

from api_stub.requests import MAX_NAME_CHARS, Body, Metadata, Name, UserText

MAX_ID_CHARS: Final = 100
_ID_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9._:-]*$"

RecordingId = Annotated[str, Path(min_length=1, max_length=MAX_ID_CHARS, pattern=_ID_PATTERN)]
"""As a parameter of a route: the recording's id."""


class CreateRecording(Body):
    """A recording, known by what is said in it."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS, pattern=_ID_PATTERN)] = Field(
        default_factory=lambda: str(uuid7()),
        description=f"What workflows refer to it by: 1 to {MAX_ID_CHARS} letters, digits, `.`, `_`, `:` and `-`. Keep the "
        "ids of an exported workflow. Without one, an id is made.",
        examples=["rec_welcome"],
    )
    transcript: UserText = Field(
        description="What is said in it, which text conversations show: not blank, at most as long as "
        "TURN_WORKER_MAX_TEXT_CHARS allows.",
        examples=["Welcome to the clinic."],
    )
    name: Name | None = Field(default=None, description=f"One line of 1 to {MAX_NAME_CHARS} characters.")
    url: (
        Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://[^\s\x00-\x1f]+$")] | None
    ) = Field(default=None, description="Where the audio is: an `http` or `https` URL. Nothing fetches it here.")
    metadata: Metadata = Field(default_factory=dict)
