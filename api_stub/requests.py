"""What the API accepts: bodies read with a limit, checked whole, and every problem told at once."""

from __future__ import annotations

import json
from base64 import b64decode
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar
from unicodedata import category

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from api_stub.problems import Problem, describe, invalid_request
from api_stub.schemas import OnBusy
from worker.conversation.greeting_override import greeting_override
from worker.conversation.user_message import Image, UserMessage

if TYPE_CHECKING:
    from starlette.requests import Request

    from worker.settings import Settings

MAX_METADATA_BYTES: Final = 16_384
MAX_CONTEXT_BYTES: Final = 262_144
MAX_NAME_CHARS: Final = 255
MAX_MESSAGES: Final = 50
MAX_PRIORITY: Final = 10
MAX_IMAGES: Final = 20
MAX_MERGE_WINDOW_SECONDS: Final = 60.0

_ON_BUSY: Final = (
    "What happens when a turn other than the opening one is pending or running. `enqueue`: the message waits for its turn. "
    "`reject`: 409 `session_busy`. `interrupt`: what is pending or running is cancelled, and answered together with the new "
    "message. `replace`: it is cancelled and forgotten. `merge`: while nothing has begun to answer, messages become one turn."
)


def one_line(value: str) -> str:
    """Refuse text that holds a control character."""
    if any(category(character) == "Cc" for character in value):
        raise ValueError("It may not contain control characters or line breaks.")
    return value


def _user_text(value: str, info: ValidationInfo) -> str:
    text = value.strip()
    limit = info.context["max_text_chars"] if info.context else None
    if not text:
        raise ValueError("It is blank.")
    if "\x00" in text:
        raise ValueError("It contains a NUL character.")
    if limit is not None and len(text) > limit:
        raise ValueError(f"It has {len(text):,} characters; at most {limit:,} are accepted.")
    return text


def _json(*, limit: int | None = None) -> AfterValidator:
    def check(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            size = len(json.dumps(value, separators=(",", ":"), allow_nan=False))
        except ValueError:
            raise ValueError("It contains a number that is not finite, which JSON cannot express.") from None
        if limit is not None and size > limit:
            raise ValueError(f"It has {size:,} bytes as JSON; at most {limit:,} are accepted.")
        return value

    return AfterValidator(check)


def _initial_context(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    greeting_override(value)
    return value


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_CHARS),
    AfterValidator(one_line),
]
ExternalId = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(one_line)] | None,
    Field(description=f"Your own name for it: one line of 1 to {MAX_NAME_CHARS} characters. It need not be unique."),
]
Metadata = Annotated[
    dict[str, JsonValue],
    _json(limit=MAX_METADATA_BYTES),
    Field(description=f"Your own notes about it: a JSON object of at most {MAX_METADATA_BYTES:,} bytes."),
]
Definition = Annotated[dict[str, JsonValue], _json()]
UserText = Annotated[str, AfterValidator(_user_text)]
Priority = Annotated[
    int,
    Field(
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="A whole number. Of your organization's turns that wait for a worker, those with a higher one go first. "
        "Inside a session the order of the line beats it.",
    ),
]
ExpectedRevision = Annotated[
    int | None,
    Field(
        ge=0,
        le=2**31 - 1,
        description="The session's revision as you last saw it: a whole number. If it is another by now, nothing is "
        "done and the answer is a 409.",
    ),
]


class Body(BaseModel):
    """What a request's body must be; fields that it does not have are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class CreateWorkflow(Body):
    """A new workflow."""

    name: Name = Field(description=f"One line of 1 to {MAX_NAME_CHARS} characters.", examples=["Front desk"])
    definition: Definition = Field(
        description='A JSON object: `{"graph": ..., "workflow_configurations": ...}`, or the bare graph that visual '
        'editors export, `{"nodes": ..., "edges": ...}`.'
    )


class PutWorkflow(Body):
    """The next definition of a workflow. Sessions that exist keep theirs."""

    definition: Definition = Field(description="A JSON object, as when the workflow was created.")
    name: Name | None = Field(default=None, description="A new name for the workflow; without it, it keeps its own.")


class CreateSession(Body):
    """A new conversation."""

    initial_context: Annotated[
        dict[str, JsonValue], _json(limit=MAX_CONTEXT_BYTES), AfterValidator(_initial_context)
    ] = Field(
        default_factory=dict,
        description=f"Values for the templates of prompts: a JSON object of at most {MAX_CONTEXT_BYTES:,} bytes. "
        '`greeting_override`, if given, is `{"type": "text", "text": "..."}`, a template too, or `{"type": "recording", '
        '"recording_id": "..."}`, and is said in place of the greeting of the workflow.',
        examples=[{"patient_name": "Ada"}],
    )
    begins_with: Literal["agent", "user"] = Field(
        default="agent",
        description="Who speaks first: `agent` enqueues the opening turn at once; `user` waits for one.",
    )
    external_id: ExternalId = None
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusy = Field(default="enqueue", description=f"{_ON_BUSY} A message may say otherwise for itself.")
    merge_window_seconds: float = Field(
        default=2.0,
        ge=0,
        le=MAX_MERGE_WINDOW_SECONDS,
        description="How long a turn begun by `merge` waits for more messages: 0 to "
        f"{MAX_MERGE_WINDOW_SECONDS:g} seconds.",
    )


class ImageBody(Body):
    """A picture: its address, or itself."""

    url: str | None = Field(
        default=None, max_length=2_048, description="An http or https address that the model's provider can fetch."
    )
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"] | None = Field(
        default=None, description="What kind of picture `data` is."
    )
    data: str | None = Field(default=None, description="The picture in base64. It counts into the size of the body.")

    @model_validator(mode="after")
    def _is_one_picture(self) -> Self:
        by_address = self.url is not None and self.media_type is None and self.data is None
        as_it_is = self.url is None and self.media_type is not None and self.data is not None
        if not by_address and not as_it_is:
            raise ValueError("Give either `url`, or `media_type` and `data`.")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("`url` must begin with http:// or https://.")
        try:
            decoded = b64decode(self.data or "", validate=True)
        except ValueError:
            raise ValueError("`data` is not base64.") from None
        if as_it_is and not decoded:
            raise ValueError("`data` is empty.")
        return self


class UserMessageBody(Body):
    """One message with what is shown in it."""

    text: UserText | None = None
    images: Annotated[list[ImageBody], Field(min_length=1, max_length=MAX_IMAGES)] | None = None

    @model_validator(mode="after")
    def _says_or_shows_something(self) -> Self:
        if self.text is None and self.images is None:
            raise ValueError("Give `text`, `images`, or both.")
        return self

    @property
    def user_message(self) -> UserMessage:
        """The message."""
        images = (Image(url=image.url, media_type=image.media_type, data=image.data) for image in self.images or ())
        return UserMessage(self.text or "", tuple(images))


def _message_tag(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<message>"


Message = Annotated[
    Annotated[UserText, Tag("<text>")] | Annotated[UserMessageBody, Tag("<message>")], Discriminator(_message_tag)
]


class EnqueueTurn(Body):
    """What the user said: either one `text` and its `images`, or several `messages` answered together."""

    text: UserText | None = Field(
        default=None,
        description="What the user said: not blank, at most as long as TURN_WORKER_MAX_TEXT_CHARS allows.",
        examples=["I would like an appointment on Friday."],
    )
    images: Annotated[list[ImageBody], Field(min_length=1, max_length=MAX_IMAGES)] | None = Field(
        default=None,
        description=f'1 to {MAX_IMAGES} pictures, each {{"url": "https://..."}} or '
        '{"media_type": "image/png", "data": "<base64>"}.',
    )
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = Field(
        default=None,
        description=f'1 to {MAX_MESSAGES} messages in their order, each a text or {{"text": "...", "images": [...]}}.',
    )
    external_id: ExternalId = None
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusy | None = Field(
        default=None, description=f"{_ON_BUSY} Without it, the session's own setting counts."
    )
    not_before: AwareDatetime | None = Field(
        default=None,
        description="A time with its zone (RFC 3339), at most as far ahead as TURN_WORKER_SCHEDULE_HORIZON_DAYS allows: the "
        "message takes its place in line only then, whatever `on_busy` the session has.",
        examples=["2027-01-31T09:30:00+00:00"],
    )
    expected_revision: ExpectedRevision = None
    priority: Priority = 0

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.text is None and self.images is None) == (self.messages is None):
            raise ValueError("Give either `text` (with `images` or without) or `messages`.")
        return self

    @model_validator(mode="after")
    def _waits_or_acts(self) -> Self:
        if self.not_before is not None and self.on_busy not in {None, "enqueue"}:
            raise ValueError(
                "A message with `not_before` takes its place in line later; `on_busy` can only be `enqueue`."
            )
        return self

    @cached_property
    def user_messages(self) -> list[UserMessage]:
        """The messages, one or more."""
        if self.messages is None:
            return [UserMessageBody(text=self.text, images=self.images).user_message]
        return [UserMessage(said) if isinstance(said, str) else said.user_message for said in self.messages]


class EndSession(Body):
    """The end of a conversation."""

    reason: Name = Field(
        default="ended_by_request", description=f"Why it ends: one line of 1 to {MAX_NAME_CHARS} characters."
    )
    disposition: Name | None = Field(
        default=None, description=f"What came of the conversation: one line of 1 to {MAX_NAME_CHARS} characters."
    )
    wait: bool = Field(
        default=False,
        description="Let a running turn finish, and end with it. Without it, it is cancelled like those that are pending.",
    )
    expected_revision: ExpectedRevision = None


_Wanted = TypeVar("_Wanted", bound=Body)


async def read_body(request: Request, limit: int, *, too_large: str = "body_too_large") -> bytes:
    """Read a request's body, and no more of it than `limit` bytes.

    Args:
        too_large: the code of the problem that it is when it is larger.

    Raises:
        Problem: when it is larger.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit, too_large)
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, too_large)
        chunks.append(chunk)
    return b"".join(chunks)


def parse(request: Request, body: bytes, model: type[_Wanted], settings: Settings) -> _Wanted:
    """Make of a body what `model` describes. An empty body stands for an empty object.

    Raises:
        Problem: naming everything that is wrong with it.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if body and media_type != "application/json" and not media_type.endswith("+json"):
        raise Problem("unsupported_media_type", f"The body is declared as {media_type!r}.")
    try:
        return model.model_validate_json(body or b"{}", context={"max_text_chars": settings.max_text_chars})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        raise Problem("malformed_json", f"{found[0]['ctx']['error']}.".capitalize())
    document = json.loads(body or b"{}")
    raise invalid_request(
        [
            describe(item, place="body", pointer=_path(document, item["loc"]), accepted=_accepted(model, item["loc"]))
            for item in found
        ]
    )


def _path(document: Any, location: tuple[int | str, ...]) -> list[int | str]:
    """The path of a value in the body. Inside a value of several kinds, pydantic's location also names the kind."""
    path: list[int | str] = []
    for place, step in enumerate(location, 1):
        names_kind = isinstance(document, dict) and step not in document and place < len(location)
        if step in {"[key]", "<text>", "<message>"} or names_kind:
            continue
        path.append(step)
        document = _inside(document, step)
    return path


def _inside(document: Any, step: Any) -> Any:
    try:
        return document[step]
    except (LookupError, TypeError):
        return None


def _accepted(model: type[Body], location: tuple[int | str, ...]) -> str | None:
    field: Any = model.model_fields.get(str(location[0])) if location else None
    if field is not None:
        return str(field.description)
    return f"The fields are {', '.join(model.model_fields)}." if location else None


def _too_large(limit: int, code: str) -> Problem:
    # What is left of the body is not read, so the connection cannot be used for another request.
    return Problem(
        code,
        f"The body may have at most {limit:,} bytes.",
        headers={"Connection": "close"},
        limit_bytes=limit,
    )
