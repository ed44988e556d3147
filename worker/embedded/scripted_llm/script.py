"""The script format: which request gets which answer. README.md beside this file explains it to users."""

from __future__ import annotations

from pathlib import Path
from re import Pattern
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from worker.embedded.scripted_llm.errors import InvalidScript

StopReason = Literal[
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "refusal",
    "pause_turn",
    "model_context_window_exceeded",
    "malformed_tool_use",
]

_BLOCK_KINDS = ("text", "tool", "thinking")


class _ScriptPart(BaseModel):
    """A part of a script: unknown fields are mistakes, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_ScriptPart):
    """Text that the model says. Placeholders such as `{user}` are filled from the request."""

    text: str = Field(min_length=1)


class ToolCall(_ScriptPart):
    """A call of a tool. Several of them in one reply are parallel calls."""

    tool: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    input: dict[str, Any] = Field(default_factory=dict)
    """The arguments. Placeholders inside strings are filled from the request."""


class Thinking(_ScriptPart):
    """Extended thinking with its signature; the OpenAI API shows only its token count."""

    thinking: str = Field(min_length=1)


def _block_kind(value: object) -> str | None:
    """Tell the kind of a reply block by the one key that names it, so that its problems are reported once."""
    if isinstance(value, dict):
        return next((kind for kind in _BLOCK_KINDS if kind in value), None)
    return next((kind for kind in _BLOCK_KINDS if hasattr(value, kind)), None)


Block = Annotated[
    Annotated[Text, Tag("text")] | Annotated[ToolCall, Tag("tool")] | Annotated[Thinking, Tag("thinking")],
    Discriminator(
        _block_kind,
        custom_error_type="block_kind",
        custom_error_message='a reply block is an object with "text", "tool" or "thinking"',
    ),
]


def _text_as_reply(value: object) -> object:
    """Let `"reply": "Hello"` stand for a reply of one text block."""
    return [{"text": value}] if isinstance(value, str) else value


class Usage(_ScriptPart):
    """Token counts to report instead of the ones derived from the lengths of request and reply."""

    input_tokens: NonNegativeInt | None = None
    output_tokens: NonNegativeInt | None = None
    cache_read_input_tokens: NonNegativeInt = 0
    cache_creation_input_tokens: NonNegativeInt = 0


class ErrorReply(_ScriptPart):
    """An error in the form of the API that was called."""

    status: int = Field(ge=400, le=599)
    type: str | None = None
    """The API's error type. Default: the one the real API sends with this status."""
    code: str | None = None
    """OpenAI: the error's code, e.g. `insufficient_quota`. Gemini: the reason among its details, e.g. `API_KEY_INVALID`."""
    message: str | None = None
    retry_after: NonNegativeFloat | None = None
    """Seconds, sent as the `retry-after` header."""
    after_chunks: NonNegativeInt | None = None
    """Streaming: send this many chunks of the reply, then the error as an event of the stream."""


class When(_ScriptPart):
    """Conditions on the request alone, all of which must hold; an empty one always holds."""

    user_contains: str | None = None
    """Text inside the last user text; case does not matter."""
    user_matches: Pattern[str] | None = None
    """A regular expression found in the last user text; its named groups become placeholders."""
    user_turn: NonNegativeInt | None = None
    """How many messages of the user with text the request holds."""
    system_contains: str | None = None
    """Text inside the system prompt; case does not matter."""
    tool_offered: str | None = None
    """The name of a tool the request offers."""
    after_tool_result: str | None = None
    """The request ends with results of tools, one of them of the tool of this name."""
    tool_result_contains: str | None = None
    """The request ends with results of tools, one of them containing this text; case does not matter."""
    model: str | None = None
    """The requested model, exactly."""


class Rule(_ScriptPart):
    """One answer and the requests it is for."""

    name: str | None = None
    """For people and for `RecordedRequest.rule`. Default: the rule's place, e.g. `rules.0`."""
    when: When = When()
    times: PositiveInt | None = None
    """Apply to this many requests only, then act as if the rule were not there."""

    reply: Annotated[tuple[Block, ...], BeforeValidator(_text_as_reply)] | None = None
    """What the model says and calls; an empty list is an empty reply."""
    stop_reason: StopReason | None = None
    """Default: `tool_use` when the reply calls a tool, else `end_turn`."""
    usage: Usage = Usage()
    error: ErrorReply | None = None
    reset: Literal[True] | None = None
    """Reset the connection before any reply."""

    hold: str | None = None
    """Send nothing until `release` is called with this name."""
    hold_after: NonNegativeInt = 0
    """Streaming, with `hold`: send this many chunks first."""
    delay_seconds: NonNegativeFloat = 0
    """Wait this long before the first byte."""
    seconds_per_chunk: NonNegativeFloat = 0
    """Streaming: wait this long before each chunk."""
    chunk_characters: PositiveInt = 32
    """Streaming: how many characters of text, thinking or tool arguments one chunk carries."""
    break_after: PositiveInt | None = None
    """Streaming: close the connection after this many chunks, without the events that end a reply."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.reset and (self.reply is not None or self.error):
            raise ValueError("a reset connection carries neither a reply nor an error: remove `reset` or the others")
        if not self.reset and self.reply is None and self.error is None:
            raise ValueError("a rule needs one of `reply`, `error` and `reset`")
        if self.error and (self.reply is None) != (self.error.after_chunks is None):
            raise ValueError(
                "`error` goes together with `reply` only as `error.after_chunks`, and that needs a `reply`"
            )
        if self.break_after is not None and (self.reply is None or self.error):
            raise ValueError("`break_after` needs a `reply` and no `error`")
        if self.hold_after and not self.hold:
            raise ValueError("`hold_after` needs the name in `hold`")
        return self


class Script(_ScriptPart):
    """What the model does: the first rule that applies answers; where none does, the built-in rules do.

    `Script.model_validate` reads Python objects and raises pydantic's `ValidationError`; `Script.from_file`
    reads a JSON file and raises `InvalidScript`.
    """

    rules: tuple[Rule, ...] = ()
    rejected_keys: frozenset[str] = frozenset()
    """API keys that are answered with 401; every other key is accepted."""
    allow_prefill: bool = False
    """Accept a conversation that ends with the assistant, as Anthropic's models before Claude 4.6 did."""

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str) -> Self:
        """Read a script.

        Args:
            text: The JSON document.
            source: Where it comes from, for the message.

        Raises:
            InvalidScript: It is not JSON or breaks the format; the message names every problem with its place.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidScript(_describe(source, error)) from error

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a script from a JSON file.

        Raises:
            InvalidScript: The file cannot be read, is not JSON or breaks the format; the message names
                every problem with its place.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise InvalidScript(f"The script {path} cannot be read: {error.strerror}.") from error
        return cls.from_json(text, source=str(path))


def _describe(source: str, error: ValidationError) -> str:
    lines = [f"The script {source} cannot be used:"]
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "the whole script"
        lines.append(f"  {place}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


BUILT_IN_RULES: tuple[Rule, ...] = (
    Rule(name="built-in.opening", when=When(user_turn=0), reply=(Text(text="Hello, how can I help you?"),)),
    Rule(
        name="built-in.tool_result",
        when=When(tool_result_contains=""),
        reply=(Text(text="The tool answered: {tool_result}"),),
    ),
    Rule(name="built-in.echo", reply=(Text(text="You said: {user}"),)),
)
"""What the model does where no rule of the script applies: it is a free LLM that repeats what it hears."""
