"""The tool that sends an HTTP request as an organization defined it."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urldefrag, urlencode

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.engine.tools.arguments import read_arguments
from worker.engine.tools.tool import Tool, ToolResult
from worker.engine.web.client import WebRequest
from worker.engine.web.errors import WebError
from worker.engine.web.retries import RETRIED_STATUSES, pause_seconds, retry_after_seconds
from worker.errors import TurnWorkerError
from worker.telemetry.masking import mask_secrets
from worker.workflow.template import render, render_json, render_url
from worker.workflow.tool_definition import QUERY_METHODS, RETRYABLE_METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from worker.engine.tools.tool import ToolInvocation
    from worker.engine.web.access import WebAccess
    from worker.engine.web.client import WebResponse
    from worker.workflow.tool_definition import HttpRequestDefinition

MAX_TEXT_CHARACTERS: Final = 16_000
"""How much of an answer in plain text the model sees."""

LONGEST_PAUSE_SECONDS: Final = 10.0
"""The longest a call waits between two attempts. A server that asks for more has answered for now."""

_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()


def http_request_tool(definition: HttpRequestDefinition, web: WebAccess) -> Tool:
    """Make the tool of a definition.

    Its result is `{status, status_code, data}`: `status` is `success` or `error`, `data` the answer's JSON, or its text. A
    request that was not made or got no answer is `{status: error, message}`.
    """

    async def run(invocation: ToolInvocation) -> ToolResult:
        given = read_arguments(definition.parameters, invocation.arguments)
        if given.problems:
            message = f"The request was not made. {' '.join(given.problems)}"
            return ToolResult(result={"status": "error", "message": message})
        call = _Call(definition, web, invocation, _templates(definition, given.values, invocation))
        speech = render(definition.message, invocation.initial_context, invocation.gathered_context, invocation.now)
        return ToolResult(result=await call.result(), message=speech)

    return Tool(
        name=definition.name,
        description=definition.description,
        run=run,
        properties={parameter.name: parameter.json_schema() for parameter in definition.parameters},
        required=[parameter.name for parameter in definition.parameters if parameter.required],
        repeatable=definition.repeatable,
    )


@dataclass(frozen=True, slots=True)
class _Templates:
    """What the templates of one call are filled in with."""

    arguments: Mapping[str, JsonValue]
    context: dict[str, JsonValue]
    invocation: ToolInvocation

    def text(self, template: str) -> str:
        return render(template, self.context, self.invocation.gathered_context, self.invocation.now)

    def url(self, template: str) -> str:
        return render_url(template, self.context, self.invocation.gathered_context, self.invocation.now)

    def json(self, template: JsonValue) -> JsonValue:
        return render_json(template, self.context, self.invocation.gathered_context, self.invocation.now)


def _templates(
    definition: HttpRequestDefinition, given: Mapping[str, JsonValue], invocation: ToolInvocation
) -> _Templates:
    """Fill in the presets, which may mention what the model gave, and everything else with both."""
    first = _Templates(given, {**invocation.initial_context, "arguments": dict(given)}, invocation)
    arguments = {**given, **{name: first.json(template) for name, template in definition.presets.items()}}
    return _Templates(arguments, {**invocation.initial_context, "arguments": arguments}, invocation)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the tool, with all its attempts."""

    definition: HttpRequestDefinition
    web: WebAccess
    invocation: ToolInvocation
    templates: _Templates

    async def result(self) -> dict[str, JsonValue]:
        try:
            response = await self._answer(self._request())
        except TurnWorkerError as error:
            return {"status": "error", "message": mask_secrets(str(error))}
        status = "success" if response.ok else "error"
        return {"status": status, "status_code": response.status, "data": data_of(response)}

    async def _answer(self, request: WebRequest) -> WebResponse:
        for failures in itertools.count(1):
            try:
                response = await self.web.send(request, self.definition.credential)
            except WebError as error:
                pause = self._pause(failures) if error.retryable else None
                if pause is None:
                    raise
            else:
                asked = retry_after_seconds(response.headers, self.invocation.now)
                pause = self._pause(failures, asked) if response.status in RETRIED_STATUSES else None
                if pause is None:
                    return response
            await asyncio.sleep(pause)
        raise AssertionError("counting has no end")

    def _pause(self, failures: int, asked_seconds: float | None = None) -> float | None:
        """How long to wait before the request is made again; None if it is not."""
        safe = self.definition.method in RETRYABLE_METHODS or self.definition.accepts_idempotency_key
        if not safe or failures > self.definition.retries:
            return None
        return pause_seconds(failures, asked_seconds, LONGEST_PAUSE_SECONDS)

    def _request(self) -> WebRequest:
        definition = self.definition
        headers = {name: self.templates.text(value) for name, value in definition.headers.items()}
        present = {name.lower() for name in headers}
        if "accept" not in present:
            headers["Accept"] = "application/json, */*"
        content = self._content()
        if content is not None and "content-type" not in present:
            headers["Content-Type"] = "application/json"
        if definition.method != "GET":
            headers["Idempotency-Key"] = self.invocation.idempotency_key
        _TRACE_CONTEXT.inject(headers)
        return WebRequest(
            method=definition.method,
            url=self._url(),
            headers=headers,
            body=None if content is None else json.dumps(content).encode(),
            timeout_seconds=definition.timeout_seconds,
            max_bytes=definition.max_response_bytes,
        )

    def _url(self) -> str:
        url = urldefrag(self.templates.url(self.definition.url)).url
        query = {name: self.templates.text(value) for name, value in self.definition.query.items()}
        if self.definition.method in QUERY_METHODS:
            query |= {name: _query_text(value) for name, value in self._unplaced().items() if value is not None}
        if not query:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query, errors='replace')}"

    def _content(self) -> JsonValue:
        if self.definition.method in QUERY_METHODS:
            return None
        if self.definition.body is not None:
            return self.templates.json(self.definition.body)
        return self._unplaced() or None

    def _unplaced(self) -> dict[str, JsonValue]:
        unplaced = self.definition.unplaced_arguments
        return {name: self.templates.arguments[name] for name in unplaced if name in self.templates.arguments}


def data_of(response: WebResponse) -> JsonValue:
    """What the model sees of an answer: its JSON, or else its text, cut off with a notice where it is long."""
    text = response.text
    try:
        data: JsonValue = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        pass
    else:
        return data
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    return f"{text[:MAX_TEXT_CHARACTERS]}\n[Cut off here: {len(text) - MAX_TEXT_CHARACTERS:,} more characters.]"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _query_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
