"""The tools an organization defines and a node refers to by id, as typed, frozen models: a union by `type`.

What is written is checked as a whole: `parse_tool` names every problem at once, and what refers to another field is
checked where the later of the two stands. `null` means absent, as in workflow definitions.

Templates (`worker.workflow.template`) stand in URLs, headers, queries, bodies, presets and messages. Those of an HTTP
request also know `{{ arguments.NAME }}`: what the model gave for a parameter, or the value of a preset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, JsonValue, Tag, TypeAdapter, ValidationError, ValidationInfo, field_validator

from worker.errors import TurnWorkerError
from worker.workflow.credential import CredentialName
from worker.workflow.tool_fields import (
    Description,
    HeaderName,
    JsonTemplate,
    LineTemplate,
    Part,
    PlainUrl,
    Reason,
    Template,
    TimeoutSeconds,
    ToolName,
    UrlTemplate,
    Zone,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RETRYABLE_METHODS: Final = frozenset({"GET", "PUT", "DELETE"})
"""HTTP methods whose requests may be sent twice, as HTTP itself defines them (RFC 9110, 9.2.2)."""

QUERY_METHODS: Final = frozenset({"GET", "DELETE"})
"""HTTP methods whose requests have no body, so that arguments go into the query."""

_ARGUMENT: Final = re.compile(r"\{\{\s*arguments\.([^\s{}|.]+)")


class _Definition(Part):
    name: ToolName = Field(description="What the model calls it: 1 to 64 of a-z, A-Z, 0-9, `_` and `-`.")
    description: Description = Field(description="Tells the model what it does and when to call it.")


class _SpeakingDefinition(_Definition):
    message: Template = Field(default="", description="A template of what the user reads when it is called.")
    message_recording_id: str = Field(
        default="", max_length=255, description="A recording whose transcript the user reads in place of `message`."
    )

    @field_validator("message_recording_id")
    @classmethod
    def _says_one_thing(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("message"):
            raise ValueError("Give either `message` or `message_recording_id`, not both.")
        return value


class ToolParameter(Part):
    """One value that the model gives when it calls a tool."""

    name: ToolName = Field(description="1 to 64 of a-z, A-Z, 0-9, `_` and `-`.")
    type: Literal["string", "number", "integer", "boolean", "object", "array"] = "string"
    description: str = Field(default="", max_length=4096, description="Tells the model what to give.")
    required: bool = True

    def json_schema(self) -> dict[str, JsonValue]:
        """The JSON Schema of its value, as providers want to be told."""
        schema: dict[str, JsonValue] = {"type": self.type}
        if self.description:
            schema["description"] = self.description
        if self.type == "array":
            schema["items"] = {}  # OpenAI refuses an array that does not mention its items
        return schema


class HttpRequestDefinition(_SpeakingDefinition):
    """Sends an HTTP request and gives the model `{status, status_code, data}`.

    Arguments are what the model gives for the `parameters`, and the `presets`. An argument goes where a template names it
    as `{{ arguments.NAME }}`. Those that no template names go into the query of a GET or DELETE, and become the JSON body
    of any other request; with a `body` of its own, such a request names every argument.
    """

    type: Literal["http_request"]
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: UrlTemplate = Field(description="http or https; placeholders may only follow the host.")
    headers: dict[HeaderName, LineTemplate] = Field(default_factory=dict, description="Templates by name.")
    query: dict[str, Template] = Field(default_factory=dict, description="Templates of query parameters by name.")
    body: JsonTemplate = Field(
        default=None,
        description="What is sent as JSON, every text in it a template. A text that is one placeholder and nothing else "
        "becomes the value itself: a number stays a number.",
    )
    parameters: tuple[ToolParameter, ...] = Field(default=(), max_length=64, description="What the model gives.")
    presets: dict[ToolName, JsonTemplate] = Field(
        default_factory=dict,
        description="Further arguments, by name, that the model neither gives nor sees: templates, as in `body`.",
    )
    credential: CredentialName | None = Field(default=None, description="The name of a stored credential to send.")
    timeout_seconds: TimeoutSeconds = Field(default=10.0, description="Of one attempt, 0.1 to 60.")
    max_response_bytes: int = Field(
        default=65_536, ge=1, le=1_048_576, description="A longer answer is not read to its end and is an error."
    )
    accepts_idempotency_key: bool = Field(
        default=False,
        description="The server answers a repeated `Idempotency-Key` without acting twice, so that any method may be "
        "retried. The key is sent in any case.",
    )
    retries: int = Field(
        default=0,
        ge=0,
        le=5,
        description="How often a request that got no answer, or a 429, 502, 503 or 504, is sent again. POST and PATCH need "
        "`accepts_idempotency_key`.",
    )
    repeatable: bool = Field(
        default=True,
        description="Whether a call that a lost worker left unfinished is made again, with the same `Idempotency-Key`. If "
        "not, the model is told that its outcome is unknown.",
    )

    @property
    def unplaced_arguments(self) -> tuple[str, ...]:
        """The names of arguments that no template mentions."""
        names = [*(parameter.name for parameter in self.parameters), *self.presets]
        return _unplaced(names, {"url": self.url, "headers": self.headers, "query": self.query, "body": self.body})

    @field_validator("body")
    @classmethod
    def _method_has_a_body(cls, value: JsonValue, info: ValidationInfo) -> JsonValue:
        if value is not None and info.data.get("method") in QUERY_METHODS:
            raise ValueError(f"A {info.data['method']} request has no body. Use `query`, or another method.")
        return value

    @field_validator("parameters")
    @classmethod
    def _are_named_once_and_used(
        cls, value: tuple[ToolParameter, ...], info: ValidationInfo
    ) -> tuple[ToolParameter, ...]:
        names = [parameter.name for parameter in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{_quoted(twice)} stands here more than once.")
        _refuse_unplaced(names, info.data)
        return value

    @field_validator("presets")
    @classmethod
    def _are_no_parameters_and_used(cls, value: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        given = {parameter.name for parameter in info.data.get("parameters", ())}
        if both := sorted(given & value.keys()):
            raise ValueError(f"{_quoted(both)} is a parameter already: either the model gives it, or it is preset.")
        _refuse_unplaced(value, info.data)
        return value

    @field_validator("retries")
    @classmethod
    def _may_be_sent_twice(cls, value: int, info: ValidationInfo) -> int:
        method = info.data.get("method")
        if value and method not in {None, *RETRYABLE_METHODS} and not info.data.get("accepts_idempotency_key"):
            raise ValueError(
                f"A {method} request may act twice when it is sent twice. Set `accepts_idempotency_key` if the server "
                "honours the Idempotency-Key header; otherwise leave this at 0."
            )
        return value


class CalculatorDefinition(_Definition):
    """Works out an arithmetic expression that the model writes."""

    type: Literal["calculator"]
    name: ToolName = "calculator"
    description: Description = "Work out an arithmetic expression exactly. Use it for every calculation."


class CurrentTimeDefinition(_Definition):
    """Tells the date and time in a zone that the model names, or in the one given here."""

    type: Literal["current_time"]
    name: ToolName = "current_time"
    description: Description = "Tell the current date, time and weekday in a time zone."
    zone: Zone = Field(default="UTC", description="The IANA name of the zone that is meant when the model names none.")


class EndConversationDefinition(_SpeakingDefinition):
    """Ends the session."""

    type: Literal["end_conversation"]
    name: ToolName = "end_conversation"
    description: Description = "End the conversation. Call it when nothing is left to be said."
    reason: Reason = Field(default="end_conversation", description="Why the session then ended; its disposition.")


class HandOverDefinition(_SpeakingDefinition):
    """Ends the session and reports, in an event `hand_over`, that a person is to take over."""

    type: Literal["hand_over"]
    name: ToolName = "hand_over"
    description: Description = (
        "Hand the conversation over to a person. Call it when the user asks for one or needs one."
    )
    reason: Reason = Field(default="handed_over", description="Why the session then ended; its disposition.")
    destination: LineTemplate = Field(
        default="",
        max_length=255,
        description="A template of who is to take over, such as a queue; put into the event.",
    )


class McpServerDefinition(_Definition):
    """Offers the tools of an MCP server, each as `NAME__TOOL`; a node's `mcp_tool_filters` say which."""

    type: Literal["mcp_server"]
    description: str = Field(default="", max_length=4096, description="For people; its tools describe themselves.")
    url: PlainUrl = Field(description="Where the server is: http or https, without placeholders.")
    transport: Literal["streamable_http", "sse"] = "streamable_http"
    credential: CredentialName | None = Field(default=None, description="The name of a stored credential to send.")
    timeout_seconds: TimeoutSeconds = Field(default=10.0, description="Of one call, 0.1 to 60.")
    repeatable: bool = Field(
        default=True,
        description="Whether a call that a lost worker left unfinished is made again; as for HTTP requests.",
    )


_TYPES: Final = ("http_request", "calculator", "current_time", "end_conversation", "hand_over", "mcp_server")


def _type_of(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in _TYPES else None


ToolDefinition: TypeAlias = Annotated[
    Annotated[HttpRequestDefinition, Tag("http_request")]
    | Annotated[CalculatorDefinition, Tag("calculator")]
    | Annotated[CurrentTimeDefinition, Tag("current_time")]
    | Annotated[EndConversationDefinition, Tag("end_conversation")]
    | Annotated[HandOverDefinition, Tag("hand_over")]
    | Annotated[McpServerDefinition, Tag("mcp_server")],
    Discriminator(
        _type_of,
        custom_error_type="tool_type",
        custom_error_message=f"A tool is a JSON object whose `type` is one of {', '.join(_TYPES)}.",
    ),
]
"""One immutable version of a tool."""

_PLAIN_MESSAGES: Final = {
    "missing": "It is needed.",
    "extra_forbidden": "There is no such field. Check its spelling.",
    "string_pattern_mismatch": "It is too long, empty, or has characters that are not accepted here.",
}
_ADAPTER: Final[TypeAdapter[ToolDefinition]] = TypeAdapter(ToolDefinition)


@dataclass(frozen=True, slots=True)
class ToolProblem:
    """One thing that keeps a tool from being accepted: the path of its field, and what is wrong with it."""

    path: tuple[int | str, ...]
    message: str


class InvalidTool(TurnWorkerError):
    """A tool cannot be accepted. Carries every problem found, not only the first."""

    code: ClassVar[str] = "invalid_tool"

    def __init__(self, problems: tuple[ToolProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        described = [
            f"{'.'.join(map(str, problem.path)) or 'the tool'}: {problem.message}" for problem in self.problems
        ]
        return "\n- ".join([f"The tool has {count}:", *described])


def parse_tool(data: object) -> ToolDefinition:
    """Read and check a tool that a user handed in.

    Raises:
        InvalidTool: It cannot be accepted; carries every problem at once.
    """
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    raise InvalidTool(
        tuple(
            ToolProblem(
                tool_field(item["loc"]),
                _PLAIN_MESSAGES.get(item["type"], item["msg"]).removeprefix("Value error, "),
            )
            for item in found
        )
    )


def load_tool(data: dict[str, Any]) -> ToolDefinition:
    """Read a stored tool for running. It was checked when it was written: what another release added is left out.

    Raises:
        InvalidTool: There is not enough in it to run.
    """
    while True:
        try:
            return parse_tool(data)
        except InvalidTool as error:
            faulty = {item.path[0] for item in error.problems if item.path}
            known = {key: value for key, value in data.items() if key not in faulty}
            if len(known) == len(data):
                raise
            data = known


def stored_form(definition: ToolDefinition) -> dict[str, JsonValue]:
    """What is kept of a tool: every field with its value, so that another release's defaults change nothing."""
    form: dict[str, JsonValue] = definition.model_dump(mode="json")
    return form


def tool_field(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path of a field inside a tool, from where pydantic found a problem: it names the type of tool first."""
    path = location[1:] if location and location[0] in _TYPES else location
    return tuple(step for step in path if step != "[key]")


def _unplaced(names: Iterable[str], fields: Mapping[str, Any]) -> tuple[str, ...]:
    mentioned = set(_ARGUMENT.findall(repr([fields.get(field) for field in ("url", "headers", "query", "body")])))
    return tuple(name for name in names if name not in mentioned)


def _refuse_unplaced(names: Iterable[str], fields: Mapping[str, Any]) -> None:
    if fields.get("body") is not None and (unused := _unplaced(names, fields)):
        raise ValueError(
            f"{_quoted(unused)} is used nowhere. Put {{{{ arguments.{unused[0]} }}}} into `body`, or leave `body` out: "
            "the arguments are then the body."
        )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
