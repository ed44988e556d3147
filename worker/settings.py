"""The one reader of the environment: every setting, its unit, its default and what it is for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import TurnWorkerError

Seconds = Annotated[float, Field(gt=0)]
HttpAddress = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


class InvalidSettings(TurnWorkerError):
    """The environment holds values the program cannot start with; the message names every one of them."""

    code = "invalid_settings"


class Settings(BaseSettings):
    """Everything that can be configured from outside, read once at process start by `load_settings`.

    Some variables keep the names that their worlds gave them (`DATABASE_URL`, `REDIS_URL`, the providers'
    `ANTHROPIC_API_KEY` / `OPENAI_API_KEY` with their base URLs, and OpenTelemetry's `OTEL_*`); all others start
    with `TURN_WORKER_`. Durations are in seconds, sizes in bytes.
    """

    model_config = SettingsConfigDict(
        env_prefix="TURN_WORKER_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    # The three real services; what is not set is served by an embedded stand-in where the command allows one.
    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL 14 or newer, e.g. `postgresql://user:password@host/database`. "
        "Not set: `demo`, `up` and `chat` start an embedded server.",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis 6.2 or newer (or Valkey), e.g. `redis://host:6379/0`: Celery's broker and the event channel. "
        "Not set: `demo`, `up` and `chat` start an embedded server.",
    )
    anthropic_api_key: SecretStr | None = Field(
        None,
        validation_alias="ANTHROPIC_API_KEY",
        description="The operator's Anthropic key. Not set: `demo`, `up` and `chat` use the scripted LLM.",
    )
    anthropic_base_url: str | None = Field(
        None, validation_alias="ANTHROPIC_BASE_URL", description="Another address for the Anthropic API."
    )
    openai_api_key: SecretStr | None = Field(
        None, validation_alias="OPENAI_API_KEY", description="The operator's key for `openai` models."
    )
    openai_base_url: str | None = Field(
        None, validation_alias="OPENAI_BASE_URL", description="Another address for the OpenAI API."
    )

    llm: Literal["anthropic", "scripted", "local"] | None = Field(
        None,
        description="Which LLM `demo`, `chat` and `up` use when an organization names none: `anthropic`, the `scripted` "
        "stand-in, or the `local` model. Default: `anthropic` with a key, else `scripted`.",
    )
    default_model: str = Field(
        "claude-sonnet-5",
        min_length=1,
        description="The model of the provider `anthropic` when neither organization nor definition names one.",
    )
    data_dir: Path | None = Field(
        None, description="Where the embedded servers keep their data. Default: `~/.local/share/turn-worker`."
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Encrypts organizations' stored secrets (a Fernet key: 32 bytes, URL-safe base64; several, "
        "comma-separated, to rotate: the first encrypts). Needed as soon as a secret is stored: "
        "a worker then does not start without it.",
    )

    prices_file: Path | None = Field(
        None,
        description="What models cost: a JSON file of prices for a million tokens, by model, e.g. "
        '`{"claude-sonnet-5": {"currency": "USD", "input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75"}}`.',
    )

    # API
    host: str = Field("127.0.0.1", description="The address the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="The port the API listens on; 0 takes a free one.")
    max_body_bytes: int = Field(1_048_576, gt=0, description="Largest request body accepted, in bytes.")
    max_text_chars: int = Field(32_000, gt=0, description="Longest user message accepted, in characters.")

    schedule_horizon_days: float = Field(
        90.0, gt=0, le=3660, description="How far ahead a turn may be scheduled (`not_before`), in days."
    )

    # Knowledge base
    max_document_bytes: int = Field(
        20_971_520, gt=0, le=268_435_456, description="Largest document accepted, in bytes."
    )
    max_document_chars: int = Field(
        2_000_000, gt=0, description="Most characters of text that a document may hold; a longer one fails."
    )
    document_concurrency: int = Field(
        2, ge=0, le=64, description="Documents one worker process reads at once; 0 leaves them to others."
    )
    embeddings_model: str | None = Field(
        None,
        min_length=1,
        description="The model that makes vectors of documents and questions. Not set: documents are searched by their "
        "words alone.",
    )
    embeddings_base_url: str | None = Field(
        None,
        description="The address of a service that speaks OpenAI's embeddings protocol, e.g. `http://localhost:11434/v1`. "
        "Not set: OpenAI, with `OPENAI_BASE_URL` and `OPENAI_API_KEY`.",
    )
    embeddings_api_key: SecretStr | None = Field(None, description="The key for that service, if it wants one.")

    # Worker
    concurrency: int = Field(500, ge=1, le=10_000, description="Turns one worker process runs at once.")
    worker_processes: int = Field(1, ge=0, le=64, description="Worker processes that `up` starts.")
    shutdown_grace_seconds: Seconds = Field(
        20.0, description="How long SIGTERM lets running turns finish before they are given back."
    )
    database_pool_size: int = Field(
        10,
        ge=1,
        le=500,
        description="PostgreSQL connections of one API or worker process (a worker adds one for leases).",
    )

    # A turn's life
    turn_time_limit_seconds: Seconds = Field(60.0, description="Limit of one attempt at a turn.")
    turn_deadline_seconds: Seconds = Field(
        600.0, description="Limit of a turn with all its attempts, from the first claim."
    )
    max_provider_failures: int = Field(
        5, ge=1, description="A turn fails after this many transient failures of the LLM provider."
    )
    max_worker_losses: int = Field(3, ge=1, description="A turn fails as `worker_lost` after losing this many workers.")
    retry_base_seconds: Seconds = Field(
        1.0, description="First pause after a transient failure; it doubles, with jitter."
    )
    retry_max_seconds: Seconds = Field(60.0, description="Longest pause between two attempts.")
    provider_timeout_seconds: Seconds = Field(
        45.0, description="How long one LLM call may stay silent before it counts as a provider timeout."
    )
    lease_seconds: Seconds = Field(
        10.0, description="A running turn whose lease is not renewed for this long is run again."
    )
    lease_renewal_seconds: Seconds = Field(3.0, description="How often a process renews the leases of its turns.")
    cancellation_check_seconds: Seconds = Field(
        0.75,
        description="How often a worker asks PostgreSQL whether turns that it runs were cancelled, in case the news is lost.",
    )
    loop_stall_seconds: Seconds = Field(
        10.0, description="A worker whose event loop makes no progress for this long stops renewing its leases."
    )
    sweep_interval_seconds: Seconds = Field(
        1.0, description="How often each worker looks for what was lost on the way."
    )
    sweep_after_seconds: Seconds = Field(
        2.0, description="A turn claimable, or an event unpublished, for this long is swept."
    )
    sweep_batch: int = Field(100, ge=1, description="How many turns and how many events one sweep takes at most.")
    ring_again_seconds: Seconds = Field(
        2.0, description="A turn that a worker was rung for and that nobody claimed is rung for again after this long."
    )

    # Telemetry
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe log lines written."
    )
    log_format: Literal["json", "console"] | None = Field(
        None, description="`json` or `console`. Default: `console` on a terminal, else `json`."
    )

    trace_content: bool = Field(
        default=False,
        description="Whether spans hold what was said: prompts, messages, arguments and results of tools.",
    )
    trace_url_template: str | None = Field(
        None,
        description="Where a trace can be looked at, e.g. `https://jaeger.example/trace/{trace_id}`; shown as `trace_url` in "
        "a session's gathered context.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="The port on which a worker shows its metrics to Prometheus, at TURN_WORKER_HOST, one for each process "
        "of a machine; 0 for none. The API shows its own at `/metrics`.",
    )
    otlp_endpoint: HttpAddress | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Where spans and metrics are sent, e.g. `http://collector:4318`. Not set: nowhere.",
    )
    otlp_traces_endpoint: HttpAddress | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="Where spans are sent instead: with `http/protobuf` the whole URL.",
    )
    otlp_metrics_endpoint: HttpAddress | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        description="Where metrics are sent instead: with `http/protobuf` the whole URL.",
    )
    otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        "http/protobuf",
        validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        description="How they are sent: `grpc` or `http/protobuf`.",
    )
    otlp_headers: SecretStr | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="Headers sent along, e.g. a key: `name=value`, comma-separated, values percent-encoded.",
    )
    otel_service_name: str = Field(
        "turn-worker", min_length=1, validation_alias="OTEL_SERVICE_NAME", description="What traces call the program."
    )
    otel_sdk_disabled: bool = Field(
        default=False, validation_alias="OTEL_SDK_DISABLED", description="`true`: send neither spans nor metrics."
    )

    @model_validator(mode="after")
    def _lease_outlives_its_renewal(self) -> Self:
        if self.lease_renewal_seconds * 2 > self.lease_seconds:
            msg = "TURN_WORKER_LEASE_RENEWAL_SECONDS must be at most half of TURN_WORKER_LEASE_SECONDS"
            raise ValueError(msg)
        return self


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        InvalidSettings: with every variable that is wrong, its problem and what would be accepted.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"  {variable_name(str(p['loc'][0])) if p['loc'] else 'settings'}: {p['msg']}" for p in error.errors()
        ]
        raise InvalidSettings("These settings cannot be used:\n" + "\n".join(problems)) from None


def variable_name(field: str) -> str:
    """The environment variable that sets `field`, e.g. `TURN_WORKER_PORT` for `port`."""
    definition = Settings.model_fields.get(field)
    if definition is None:
        return field
    alias = definition.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return str(alias) if alias is not None else f"TURN_WORKER_{field.upper()}"


def environment_secret(name: str) -> SecretStr | None:
    """The value of an environment variable that an operator's model configuration refers to; None if it is not set."""
    value = os.environ.get(name)
    return SecretStr(value) if value else None
