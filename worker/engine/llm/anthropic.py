"""Anthropic's Messages API, through pipecat's own service."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import anthropic
from pipecat.services.anthropic.llm import AnthropicLLMService
from pipecat.utils.http import connection_limits

from worker.conversation.usage import LLMUsage
from worker.engine.failures import LLMNotConfigured
from worker.engine.llm.errors import SDKErrors
from worker.engine.llm.provider import (
    CONNECT_SECONDS,
    KEEPALIVE_SECONDS,
    MAX_CONNECTIONS,
    TextOnly,
    check_parameters,
    effort_of_claude,
    estimated_tokens,
    guarded,
    reported_tokens,
)
from worker.engine.llm.reply import EarlyStop, Reply, is_kept, parse_arguments, tool_call, universal_message
from worker.workflow.llm_providers import LLM_PROVIDERS

if TYPE_CHECKING:
    from pipecat.services.llm_service import LLMService

    from worker.conversation.history import Message
    from worker.engine.llm.calls import LLMCalls
    from worker.engine.llm.reply import Block, ToolCall
    from worker.engine.llm.reply_stream import ReplyStream
    from worker.engine.request import ResolvedModel

PROCESSOR: Final = "AnthropicLLMService"
_ORDINARY_STOPS: Final = frozenset({"end_turn", "tool_use", "stop_sequence"})
_SEEN_BY_PIPECAT: Final = frozenset({"thinking", "output_config"})
"""Parameters by which pipecat's service tells whether to send its own default for the model's thinking."""


class AnthropicProvider:
    """Anthropic, or whoever speaks its protocol at another base URL."""

    message_id = "anthropic"
    processor = PROCESSOR
    errors = SDKErrors(
        status=anthropic.APIStatusError,
        connection=anthropic.APIConnectionError,
        api=anthropic.APIError,
    )

    def connect(self, model: ResolvedModel) -> anthropic.AsyncAnthropic:
        """Create the SDK's client. Key and address are always given, so that it looks for neither in the environment."""
        if model.api_key is None and model.base_url is None:
            raise LLMNotConfigured(
                "The model configuration has no API key for anthropic. Store one: turn-worker config set."
            )
        client = anthropic.AsyncAnthropic(
            api_key=model.api_key.get_secret_value() if model.api_key else "none",
            base_url=model.base_url or LLM_PROVIDERS["anthropic"].base_url,
            max_retries=0,  # retries are the executor's, which knows the turn's deadline
            timeout=anthropic.Timeout(None, connect=CONNECT_SECONDS),  # silence is bounded by LLMCalls
            http_client=anthropic.DefaultAioHttpClient(
                limits=connection_limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS),
                follow_redirects=False,  # a redirect would take the key along
                **guarded(model),
            ),
        )
        # What the environment adds is the operator's and may be secret, and this need not be the operator's server.
        client._custom_headers = {}  # noqa: SLF001 -- there is no other way
        return client

    def service(
        self,
        client: anthropic.AsyncAnthropic,
        model: ResolvedModel,
        calls: LLMCalls,
        system_prompt: str,
        *,
        cache_prompt: bool = True,
    ) -> LLMService[Any]:
        """Create pipecat's service for one turn."""
        check_parameters(model.parameters)
        parameters = dict(model.parameters)
        if model.effort is not None:
            output_config = parameters.get("output_config")
            given = output_config if isinstance(output_config, dict) else {}
            parameters["output_config"] = {"effort": effort_of_claude(model.effort), **given}
        settings = AnthropicLLMService.Settings(
            model=model.model,
            system_instruction=system_prompt or None,
            enable_prompt_caching=cache_prompt and model.prompt_caching,
            extra={
                **{name: value for name, value in parameters.items() if name in _SEEN_BY_PIPECAT},
                "extra_body": {name: value for name, value in parameters.items() if name not in _SEEN_BY_PIPECAT},
            },
        )
        if model.max_tokens is not None:
            settings.max_tokens = model.max_tokens
        if model.temperature is not None:
            settings.temperature = model.temperature
        return _Service(api_key="", client=_reading_along(client, calls), settings=settings, name=PROCESSOR)


class _Service(TextOnly, AnthropicLLMService):
    """pipecat's service."""


def create_provider(_name: str) -> AnthropicProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    return AnthropicProvider()


def _reading_along(client: anthropic.AsyncAnthropic, calls: LLMCalls) -> SimpleNamespace:
    """Stand in for the SDK's client with the one method that pipecat's service calls on it."""

    async def create(**request: Any) -> ReplyStream | SimpleNamespace:
        if request["stream"]:
            return await calls.stream(client.beta.messages.create, request, AnthropicReader())
        # A side question. It is streamed all the same, so that silence is noticed and what was used is known.
        request["stream"] = True
        reply = await calls.ask(client.beta.messages.create, request, AnthropicReader())
        return SimpleNamespace(content=[SimpleNamespace(text=reply.text)], stop_reason="end_turn")

    return SimpleNamespace(beta=SimpleNamespace(messages=SimpleNamespace(create=create)))


class AnthropicReader:
    """Puts a streamed message together again, block by block, with everything the provider sent.

    Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
    """

    def __init__(self) -> None:
        self.complete = False
        self._blocks: list[Block] = []
        self._json: dict[int, str] = {}
        self._text_length = 0
        self._stop_reason: str | None = None
        self._stop_category: str | None = None
        self._tokens = {
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        }

    def read(self, event: Any) -> bool:
        """Take an event in. pipecat sees the text; the rest it would lose or misread."""
        match event.type:
            case "content_block_delta":
                self._read_delta(event.index, event.delta)
                return bool(event.delta.type == "text_delta")
            case "content_block_start":
                self._blocks.append(event.content_block.to_dict(mode="json"))
            case "message_start":
                self._read_usage(event.message.usage)
            case "message_delta":
                self._stop_reason = event.delta.stop_reason
                self._stop_category = getattr(event.delta.stop_details, "category", None)
                self._read_usage(event.usage)
            case "message_stop":
                self.complete = True
        return False

    @property
    def usage(self) -> LLMUsage:
        """Anthropic counts input without what the cache held or took; the total here is of everything."""
        tokens = dict(self._tokens)
        if not self.complete:
            tokens["output_tokens"] = max(tokens["output_tokens"], estimated_tokens(self._text_length))
        return LLMUsage(
            prompt_tokens=tokens["input_tokens"],
            completion_tokens=tokens["output_tokens"],
            total_tokens=sum(tokens.values()),
            cache_read_input_tokens=tokens["cache_read_input_tokens"],
            cache_creation_input_tokens=tokens["cache_creation_input_tokens"],
        )

    def reply(self) -> Reply:
        """The message, with all of it that can be sent back."""
        stopped_early = self._stop_reason not in _ORDINARY_STOPS
        calls: list[ToolCall] = []
        blocks: list[Block] = []
        for index, block in enumerate(self._blocks):
            if not is_kept(block, stopped_early=stopped_early):
                continue
            if block["type"] == "tool_use":
                block["input"] = parse_arguments(self._json.get(index, ""))
                calls.append(tool_call(block))
                block["input"] = block["input"] or {}
            blocks.append(block)
        return Reply(
            message=_message(blocks, calls),
            tool_calls=tuple(calls),
            early_stop=EarlyStop(str(self._stop_reason), self._stop_category) if stopped_early else None,
        )

    def _read_delta(self, index: int, delta: Any) -> None:
        block = self._blocks[index]
        match delta.type:
            case "text_delta":
                block["text"] = str(block["text"]) + delta.text
                self._text_length += len(delta.text)
            case "input_json_delta":
                self._json[index] = self._json.get(index, "") + delta.partial_json
            case "thinking_delta":
                block["thinking"] = str(block["thinking"]) + delta.thinking
                self._text_length += len(delta.thinking)
            case "citations_delta":
                citations = block.get("citations")
                citation = delta.citation.to_dict(mode="json")
                block["citations"] = [*citations, citation] if isinstance(citations, list) else [citation]
            case _:  # a signature, or what comes whole
                block.update({key: value for key, value in delta.to_dict(mode="json").items() if key != "type"})

    def _read_usage(self, usage: Any) -> None:
        """Counts are cumulative: each report replaces the one before, as far as it goes."""
        for name in self._tokens:
            if (count := getattr(usage, name, None)) is not None:
                self._tokens[name] = reported_tokens(count)


def _message(blocks: list[Block], calls: list[ToolCall]) -> Message | None:
    """Write the blocks in the universal notation if it can hold all of them, else in Anthropic's own."""
    if not blocks:
        return None
    text = [block for block in blocks if block["type"] == "text"]
    if (
        blocks[: len(text)] != text
        or len(text) > 1
        or len(text) + len(calls) < len(blocks)
        or not all(map(_is_plain, blocks))
    ):
        return {"llm": AnthropicProvider.message_id, "message": {"role": "assistant", "content": list(blocks)}}
    return universal_message(text[0]["text"] if text else None, calls)


def _is_plain(block: Block) -> bool:
    return not any(value for key, value in block.items() if key not in {"type", "text", "id", "name", "input"})
