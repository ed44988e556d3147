"""The HTTP side: read a request, record it, choose its rule, wait as the rule says, write."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from aiohttp import web

from worker.embedded.scripted_llm.answer import Play, compose
from worker.embedded.scripted_llm.anthropic.api import AnthropicApi
from worker.embedded.scripted_llm.aws.api import BedrockApi
from worker.embedded.scripted_llm.control import control_routes
from worker.embedded.scripted_llm.embeddings_api import EmbeddingsApi
from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.google.api import GENERATE, STREAM, GoogleApi
from worker.embedded.scripted_llm.google.vertex_api import PATH as VERTEX_PATH
from worker.embedded.scripted_llm.google.vertex_api import AccessTokens, InvalidGrant, VertexApi
from worker.embedded.scripted_llm.openai.api import OpenAIApi
from worker.embedded.scripted_llm.recorder import RecordedRequest
from worker.embedded.scripted_llm.responses.api import ResponsesApi

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.api import Api
    from worker.embedded.scripted_llm.recorder import Recorder
    from worker.embedded.scripted_llm.request import ModelRequest
    from worker.embedded.scripted_llm.script import ErrorReply, Rule, Script

MAX_REQUEST_BYTES = 32 * 1024 * 1024
"""The limit of the Anthropic Messages API: https://platform.claude.com/docs/en/api/errors."""

_CREDENTIAL_HEADERS = frozenset({"x-api-key", "authorization", "x-goog-api-key"})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ScriptedApp:
    """The request handlers and what they share. Everything here runs on the server's own event loop."""

    def __init__(self, script: Script, recorder: Recorder) -> None:
        self._play = Play(script)
        self._recorder = recorder
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tokens = AccessTokens()

    def set_script(self, script: Script) -> None:
        """Play another script from its beginning; replies held so far stay held, released names hold again."""
        self._play = Play(script)
        for name in [name for name, gate in self._gates.items() if gate.is_set()]:
            del self._gates[name]

    def release(self, name: str) -> None:
        """Let every reply held under this name go, now and from now on."""
        self._gates[name].set()

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.add_routes(
            [
                web.post("/v1/messages", partial(self._serve, AnthropicApi())),
                web.post("/v1/messages/count_tokens", self._count_tokens),
                web.post("/v1/chat/completions", partial(self._serve, OpenAIApi())),
                web.post("/v1/responses", partial(self._serve, ResponsesApi())),
                web.post("/v1/embeddings", partial(self._serve, EmbeddingsApi())),
                web.post(f"/v1beta/models/{{model}}:{{method:{GENERATE}|{STREAM}}}", self._serve_google),
                web.post(VERTEX_PATH, self._serve_vertex),
                web.post("/token", self._give_token),
                web.post("/model/{model}/converse", partial(self._serve_bedrock, stream=False)),
                web.post("/model/{model}/converse-stream", partial(self._serve_bedrock, stream=True)),
                *control_routes(self, self._recorder),
                web.route("*", "/{path:.*}", _not_found),
            ]
        )
        return application

    async def _serve(self, api: Api, http: web.Request) -> web.StreamResponse:
        request_id = _request_id()
        headers = _headers(http)
        recorded = RecordedRequest(
            path=http.path,
            headers={name: value for name, value in headers.items() if name not in _CREDENTIAL_HEADERS},
            api_key=api.api_key(headers),
        )
        try:
            api.authenticate(headers, recorded.api_key, self._play.script)
            raw = await _body(http)
            body = _parsed(raw)
            if isinstance(body, dict):
                recorded.body = body
            api.check(body, self._play.script)
        except ApiError as error:
            recorded.refused = str(error)
            self._recorder.add(recorded)
            return _error_response(api, error, request_id)
        request = api.read(recorded.body, len(raw))
        recorded.rule, rule = self._play.choose(request)
        recorded.model, recorded.system = request.model, request.system
        recorded.user_text, recorded.tools = request.user_text, request.tools
        self._recorder.add(recorded)
        try:
            return await self._answer(http, api, request, rule, request_id)
        except (asyncio.CancelledError, ConnectionError):
            self._recorder.mark_client_gone(recorded)
            raise

    async def _serve_google(self, http: web.Request) -> web.StreamResponse:
        """Serve a request whose path says what others say in the body."""
        return await self._serve(GoogleApi(http.match_info["model"], stream=http.match_info["method"] == STREAM), http)

    async def _serve_vertex(self, http: web.Request) -> web.StreamResponse:
        model, stream = http.match_info["model"], http.match_info["method"] == STREAM
        return await self._serve(VertexApi(model, stream=stream, tokens=self._tokens), http)

    async def _give_token(self, http: web.Request) -> web.Response:
        try:
            token = self._tokens.give(await http.post(), str(http.url), self._play.script.rejected_keys)
        except InvalidGrant as error:
            return web.json_response(error.body, status=400)
        return web.json_response(token)

    async def _serve_bedrock(self, http: web.Request, *, stream: bool) -> web.StreamResponse:
        """Serve a request whose path says what others say in the body."""
        return await self._serve(BedrockApi(http.match_info["model"], stream=stream), http)

    async def _count_tokens(self, http: web.Request) -> web.Response:
        api, request_id, headers = AnthropicApi(), _request_id(), _headers(http)
        try:
            api.authenticate(headers, api.api_key(headers), self._play.script)
            raw = await _body(http)
            body = api.count_tokens(raw, _parsed(raw), self._play.script)
        except ApiError as error:
            return _error_response(api, error, request_id)
        return web.Response(body=body, content_type="application/json", headers={api.request_id_header: request_id})

    async def _answer(
        self, http: web.Request, api: Api, request: ModelRequest, rule: Rule, request_id: str
    ) -> web.StreamResponse:
        if rule.hold and not rule.hold_after:
            await self._gates[rule.hold].wait()
        if rule.delay_seconds:
            await asyncio.sleep(rule.delay_seconds)
        if rule.reset:
            return _hang_up(http, web.Response(), reset=True)
        if rule.error and (rule.error.after_chunks is None or not request.stream):
            return _error_response(api, _scripted_error(rule.error), request_id)
        if request.stream:
            return await self._stream(http, api, request, rule, request_id)
        if rule.break_after is not None:
            return _hang_up(http, web.Response())
        if rule.hold:
            await self._gates[rule.hold].wait()
        return web.Response(
            body=api.reply(compose(rule, request), request),
            content_type="application/json",
            headers={api.request_id_header: request_id},
        )

    async def _stream(
        self, http: web.Request, api: Api, request: ModelRequest, rule: Rule, request_id: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "content-type": api.stream_type,
                "cache-control": "no-cache",
                api.request_id_header: request_id,
            }
        )
        response.enable_chunked_encoding()
        await response.prepare(http)
        chunks, end = api.stream(compose(rule, request), request)
        if rule.error and rule.error.after_chunks is not None:
            chunks, end = chunks[: rule.error.after_chunks], api.error_event(_scripted_error(rule.error))
        elif rule.break_after is not None:
            chunks, end = chunks[: rule.break_after], b""
        if rule.hold and rule.hold_after:
            await response.write(b"".join(chunks[: rule.hold_after]))
            await self._gates[rule.hold].wait()
            chunks = chunks[rule.hold_after :]
        if rule.seconds_per_chunk:
            for chunk in chunks:
                await asyncio.sleep(rule.seconds_per_chunk)
                await response.write(chunk)
            chunks = []
        if rule.break_after is not None:
            await response.write(b"".join(chunks))
            return _hang_up(http, response)
        await response.write_eof(b"".join([*chunks, end]))
        return response


async def _not_found(http: web.Request) -> web.Response:
    return _error_response(AnthropicApi(), ApiError(404, f"Not Found: {http.method} {http.path}"), _request_id())


def _request_id() -> str:
    return f"req_{uuid4().hex[:24]}"


def _headers(http: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in http.headers.items()}


async def _body(http: web.Request) -> bytes:
    try:
        return await http.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "Request exceeds the maximum size") from None


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from None


def _scripted_error(error: ErrorReply) -> ApiError:
    return ApiError(
        error.status,
        error.message or f"An error that the script asks for (status {error.status})",
        error_type=error.type,
        error_code=error.code,
        retry_after=error.retry_after,
    )


def _error_response(api: Api, error: ApiError, request_id: str) -> web.Response:
    headers = {api.request_id_header: request_id, **api.error_headers(error)}
    if error.retry_after is not None:
        headers["retry-after"] = f"{error.retry_after:g}"
    return web.Response(
        status=error.status, body=api.error(error, request_id), content_type="application/json", headers=headers
    )


def _hang_up(http: web.Request, response: web.StreamResponse, *, reset: bool = False) -> web.StreamResponse:
    """Close the connection under a response, after what is written or, on reset, at once."""
    if http.transport is not None:
        if reset:
            http.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            http.transport.abort()
        else:
            http.transport.close()
    return response
