"""What an operator sets for one organization: its limits, how long its content is kept, where its agents may reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from worker.errors import TurnWorkerError
from worker.workflow.prices import PriceList
from worker.workflow.web_address import AllowedHosts, form_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

_MAX_COUNT: Final = 2**31 - 1
_MAX_RUNNING: Final = 10_000
_MAX_DAYS: Final = 36_500


class InvalidOrganizationSettings(TurnWorkerError):
    """Settings of an organization cannot be what they were set to. Carries every problem, not only the first."""

    code = "invalid_organization_settings"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n- ".join(["These settings cannot be used:", *self.problems])


def _listed(value: object) -> object:
    # On a command line, one host or several with commas between them are easier to write than JSON.
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    AllowedHosts.of(value)
    return value


def _web_address(value: str | None) -> str | None:
    if value is not None and (problem := form_problem(value)) is not None:
        raise ValueError(problem)
    return value


_Count = Annotated[int | None, Field(ge=1, le=_MAX_COUNT, strict=True)]
_Running = Annotated[int | None, Field(ge=1, le=_MAX_RUNNING, strict=True)]
_Days = Annotated[int | None, Field(ge=1, le=_MAX_DAYS, strict=True)]
HostList = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_hosts)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Settings):
    """How much of the system an organization may take. What is not set has no limit."""

    max_running_turns: _Running = Field(default=None, description="Turns that run at the same time; further ones wait.")
    max_pending_turns: _Count = Field(default=None, description="Turns that wait; a further one is refused with 429.")
    enqueue_per_minute: _Count = Field(
        default=None,
        description="Turns enqueued in a minute, also all at once after a quiet minute; a further one is refused with 429.",
    )
    tokens_per_day: _Count = Field(
        default=None,
        description="LLM tokens used in a day (UTC); once they are used up, turns are refused with 429 until the next.",
    )

    @property
    def restrict_enqueueing(self) -> bool:
        """A turn may have to be refused; `max_running_turns` only makes it wait."""
        return (self.max_pending_turns, self.enqueue_per_minute, self.tokens_per_day) != (None, None, None)


class Retention(_Settings):
    """After how many days what an organization stored is erased. What is not set is kept."""

    sessions_days: _Days = Field(
        default=None,
        description="Sessions with all their content, counted from their end or, if they have none, last turn.",
    )
    events_days: _Days = Field(default=None, description="Events of the log, counted from when they happened.")
    journal_days: _Days = Field(
        default=None,
        description="Journals of turns that are over, counted from their end; a retry begins anew without.",
    )


class TraceSettings(_Settings):
    """A collector of the organization's own, which gets its spans in place of the operator's."""

    endpoint: Annotated[str | None, AfterValidator(_web_address)] = Field(
        default=None,
        description="Its OTLP collector over HTTP, e.g. `https://otlp.example.com`; `/v1/traces` is appended. Public, or "
        "one of the allowed hosts.",
    )
    headers_secret: str | None = Field(
        default=None,
        description="The name of a secret with headers to send along: `name=value`, comma-separated, percent-encoded.",
    )
    content: bool = Field(default=False, description="Whether its spans hold what was said.")
    url_template: str | None = Field(
        default=None, description="Where its traces can be looked at, with `{trace_id}` in it; shown as `trace_url`."
    )


class OrganizationSettings(_Settings):
    """Everything that can be set for one organization. It is stored as JSON without what is at its default."""

    limits: Limits = Field(default=Limits(), description="How much of the system it may take.")
    retention: Retention = Field(default=Retention(), description="After how many days its content is erased.")
    allowed_hosts: HostList = Field(
        default=(),
        description="Hosts inside your own network that its tools, webhooks and models may reach, each as `host` or "
        "`host:port`; all others there are closed.",
    )

    traces: TraceSettings = Field(default=TraceSettings(), description="A collector of its own for its spans.")
    prices: PriceList = Field(
        default={},
        description="What a million tokens of a model cost, in place of the operator's prices: by model, as in "
        "TURN_WORKER_PRICES_FILE.",
    )

    def document(self) -> dict[str, JsonValue]:
        """What is stored: only what differs from the defaults, so that a new default holds for everyone who set nothing."""
        stored: dict[str, JsonValue] = self.model_dump(mode="json", exclude_defaults=True)
        return {name: value for name, value in stored.items() if value != {}}

    def changed(self, changes: Mapping[str, JsonValue]) -> OrganizationSettings:
        """These settings with some replaced: by dotted name, such as `limits.max_running_turns`; None is the default.

        Raises:
            InvalidOrganizationSettings: with every name that does not exist and every value that cannot be.
        """
        unknown = [
            f"{name}: there is no such setting. There are {', '.join(setting_names())}."
            for name in changes
            if name not in setting_names()
        ]
        document: dict[str, Any] = self.document()
        for name, value in changes.items():
            if name in setting_names():
                _set(document, name.split("."), value)
        try:
            result = OrganizationSettings.model_validate(document)
        except ValidationError as error:
            wrong = [f"{_dotted(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
            raise InvalidOrganizationSettings((*unknown, *wrong)) from None
        if unknown:
            raise InvalidOrganizationSettings(tuple(unknown))
        return result


def setting_names() -> tuple[str, ...]:
    """The dotted name of every setting."""
    return tuple(name for name, _ in settings_described())


def settings_described(model: type[BaseModel] = OrganizationSettings, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting's dotted name and what it is."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_described(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(field.description)


def _set(document: dict[str, Any], path: list[str], value: JsonValue) -> None:
    *groups, last = path
    for group in groups:
        document = document.setdefault(group, {})
    if value is None:
        document.pop(last, None)
    else:
        document[last] = value


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))
