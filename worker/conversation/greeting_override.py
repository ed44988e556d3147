"""What one session is greeted with in place of its workflow's greeting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

GREETING_OVERRIDE: Final = "greeting_override"
"""Where the initial context keeps it."""


class _Greeting(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _is_not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("It is blank.")
        return value


class TextGreeting(_Greeting):
    """A greeting in text.

    Attributes:
        type: What kind of greeting it is.
        text: What is said; a template, as greetings of the start node are.
    """

    type: Literal["text"]
    text: str


class RecordedGreeting(_Greeting):
    """A greeting that was recorded.

    Attributes:
        type: What kind of greeting it is.
        recording_id: The recording, whose transcript a text conversation shows.
    """

    type: Literal["recording"]
    recording_id: str


GreetingOverride: TypeAlias = TextGreeting | RecordedGreeting

_READER: Final[TypeAdapter[GreetingOverride]] = TypeAdapter(
    Annotated[TextGreeting | RecordedGreeting, Field(discriminator="type")]
)


def greeting_override(initial_context: Mapping[str, JsonValue]) -> GreetingOverride | None:
    """Read the greeting that the caller of a session chose for it; None when it chose none.

    Raises:
        ValueError: There is one, and it is not what a greeting can be.
    """
    value = initial_context.get(GREETING_OVERRIDE)
    if value is None:
        return None
    try:
        return _READER.validate_python(value)
    except ValidationError as error:
        raise ValueError(
            f'`{GREETING_OVERRIDE}` must be {{"type": "text", "text": "..."}} with a text that is not blank, '
            '{"type": "recording", "recording_id": "..."}, or left out.'
        ) from error
