"""OpenAI's Chat Completions API, and everything else that speaks it, through pipecat's own service."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pipecat.adapters.llm.services.open_ai_adapter import OpenAILLMAdapter
from pipecat.services.openai.llm import OpenAILLMService

from worker.conversation.usage import LLMUsage
from worker.engine.llm.openai.client import ERRORS, open_client
from worker.engine.llm.provider import (
    TextOnly,
    check_model,
    check_parameters,
    estimated_tokens,
    pipecat_service,
    reported_tokens,
)
from worker.engine.llm.reply import EarlyStop, Reply, ToolCall, parse_arguments, universal_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import openai
    from pipecat.services.llm_service import LLMService

    from worker.engine.llm.calls import LLMCalls
    from worker.engine.llm.reply_stream import ReplyStream
    from worker.engine.request import ResolvedModel

_WITH_COMPLETION_TOKENS: Final = frozenset({"openai", "azure"})
_ORDINARY_STOPS: Final = frozenset({"stop", "tool_calls", "function_call"})
_STOPS: Final = {"length": "max_tokens", "content_filter": "refusal"}
"""OpenAI's finish reasons in the words of the engine."""


class OpenAIProvider:
    """OpenAI, a provider for which pipecat has a service that speaks the same protocol, or any server that does."""

    message_id = "openai"
    errors = ERRORS

    def __init__(self, name: str) -> None:
        self._name = name
        self._service = _service(pipecat_service(name))
        self.processor = self._service.__name__

    def connect(self, model: ResolvedModel) -> openai.AsyncOpenAI:
        """Create the SDK's client."""
        return open_client(model)

    def service(
        self,
        client: openai.AsyncOpenAI,
        model: ResolvedModel,
        calls: LLMCalls,
        system_prompt: str,
        *,
        cache_prompt: bool = True,  # noqa: ARG002 -- OpenAI decides that itself, at no cost
    ) -> LLMService[Any]:
        """Create pipecat's service for one turn."""
        check_model(model)
        check_parameters(model.parameters)
        effort = {} if model.effort is None else {"reasoning_effort": model.effort}
        settings = self._service.Settings(
            model=model.model,
            system_instruction=system_prompt or None,
            extra={"extra_body": {**effort, **model.parameters}},
        )
        if model.temperature is not None:
            settings.temperature = model.temperature
        if model.max_tokens is not None and self._name in _WITH_COMPLETION_TOKENS and model.base_url is None:
            settings.max_completion_tokens = model.max_tokens  # OpenAI's newer models refuse `max_tokens`
        elif model.max_tokens is not None:
            settings.max_tokens = model.max_tokens  # which is what all the others understand
        service: LLMService[Any] = self._service(
            shared_client=client, calls=calls, settings=settings, api_key="none", name=self.processor
        )
        return service


def create_provider(name: str) -> OpenAIProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    return OpenAIProvider(name)


class _OnSharedClient(TextOnly):
    """Mixed into pipecat's services for OpenAI's protocol, which let a subclass bring its own client."""

    run_function_calls = OpenAILLMService.run_function_calls
    """Some services leave out calls that the context has results for. Ours are told of each call once, and never again."""

    def __init__(self, *, shared_client: openai.AsyncOpenAI, calls: LLMCalls, **kwargs: Any) -> None:
        self._shared_client = shared_client
        self._calls = calls
        self._stream_options: dict[str, Any] = {}
        super().__init__(**kwargs)

    def build_chat_completion_params(self, params_from_context: Any) -> dict[str, Any]:
        """Remember how the service asks a stream for its usage, if it does: some providers refuse a request that does."""
        params: dict[str, Any] = super().build_chat_completion_params(params_from_context)  # type: ignore[misc] # pipecat's
        self._stream_options = {name: params[name] for name in params.keys() & {"stream_options"}}
        return params

    def create_client(self, *_args: Any, **_kwargs: Any) -> SimpleNamespace:
        """Stand in for the SDK's client with the one method that pipecat's service calls on it."""

        async def create(**request: Any) -> ReplyStream | SimpleNamespace:
            completions = self._shared_client.chat.completions
            if request["stream"]:
                return await self._calls.stream(completions.create, request, OpenAIReader())
            # A side question. It is streamed all the same, so that silence is noticed and what was used is known.
            request |= {"stream": True, **self._stream_options}
            reply = await self._calls.ask(completions.create, request, OpenAIReader())
            return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=reply.text))])

        return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


def _service(pipecats: type[OpenAILLMService]) -> type[Any]:
    """Make of one of pipecat's services the one that a text turn uses."""
    members: dict[str, Any] = {"__doc__": pipecats.__doc__}
    if pipecats.__name__ == "MistralLLMService":
        # pipecat's adapter for Mistral puts a message of the assistant behind each of several parallel results, which
        # tears them from their calls. The API takes them as OpenAI's does.
        members["adapter_class"] = OpenAILLMAdapter
    return type(pipecats.__name__, (_OnSharedClient, pipecats), members)


@dataclass(slots=True)
class _StreamedCall:
    id: str = ""
    name: str = ""
    arguments: str = ""


class OpenAIReader:
    """Puts a streamed chat completion together again.

    Source: https://platform.openai.com/docs/api-reference/chat-streaming. Other servers take liberties: they send
    several calls in one chunk, leave out a call's id or index, or send no usage.
    """

    def __init__(self) -> None:
        self.complete = False
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, _StreamedCall] = {}
        self._finish_reason: str | None = None
        self._usage: LLMUsage | None = None

    def read(self, event: Any) -> bool:
        """Take a chunk in. pipecat sees the text; the rest it would lose or misread."""
        if event.usage:
            self._usage = _usage(event.usage)
        if not event.choices:
            return False
        choice = event.choices[0]
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
            self.complete = True
        delta = choice.delta
        if delta is None:
            return False
        for call in delta.tool_calls or ():
            self._read_call(call)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        if not delta.content:
            return False
        self._text.append(delta.content)
        delta.tool_calls = None
        return True

    @property
    def usage(self) -> LLMUsage:
        """What was reported; of a reply that was cut off, what its text amounts to."""
        if self._usage is not None or self.complete:
            return self._usage or LLMUsage()
        estimated = estimated_tokens(sum(map(len, self._text)))
        return LLMUsage(completion_tokens=estimated, total_tokens=estimated)

    def reply(self) -> Reply:
        """The message. Calls of a reply that stopped early are cut off."""
        early_stop = None
        if self._finish_reason not in _ORDINARY_STOPS:
            early_stop = EarlyStop(_STOPS.get(str(self._finish_reason), str(self._finish_reason)))
        elif self._refusal:
            early_stop = EarlyStop("refusal", "".join(self._refusal))
        calls = () if early_stop else tuple(_tool_calls(self._calls.values()))
        text = "".join(self._text)
        content = text if text.strip() else None
        return Reply(universal_message(content, calls) if content or calls else None, calls, early_stop)

    def _read_call(self, delta: Any) -> None:
        index = delta.index
        if index is None:  # without one, a new id begins a new call
            index = len(self._calls) - (0 if delta.id or not self._calls else 1)
        call = self._calls.setdefault(index, _StreamedCall())
        call.id = call.id or delta.id or ""
        if delta.function:
            call.name = call.name or delta.function.name or ""
            call.arguments += delta.function.arguments or ""


def _tool_calls(calls: Iterable[_StreamedCall]) -> Iterator[ToolCall]:
    ids: set[str] = set()
    for call in calls:
        call_id = call.id if call.id and call.id not in ids else f"call_{uuid4().hex}"
        ids.add(call_id)
        yield ToolCall(call_id, call.name, parse_arguments(call.arguments))


def _usage(usage: Any) -> LLMUsage:
    details = usage.prompt_tokens_details
    prompt, completion = reported_tokens(usage.prompt_tokens), reported_tokens(usage.completion_tokens)
    return LLMUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=reported_tokens(usage.total_tokens) or prompt + completion,
        cache_read_input_tokens=reported_tokens(getattr(details, "cached_tokens", None)),
        cache_creation_input_tokens=reported_tokens(getattr(details, "cache_write_tokens", None)),
    )
