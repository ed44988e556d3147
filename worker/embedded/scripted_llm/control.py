"""Steering a scripted LLM that runs in another process, over its own HTTP port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from worker.embedded.scripted_llm.errors import InvalidScript, ScriptedLLMFailed
from worker.embedded.scripted_llm.script import Script

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.recorder import Recorder

_DEFAULT_WAIT_SECONDS = 10.0


class Steered(Protocol):
    """What can be steered."""

    def set_script(self, script: Script) -> None:
        """Play another script."""
        ...

    def release(self, name: str) -> None:
        """Let held replies go."""
        ...


def control_routes(app: Steered, recorder: Recorder) -> list[web.RouteDef]:
    """Return the routes below `/scripted`.

    `GET /scripted/requests` lists the recorded requests, with `?count=3` only once there are three
    (`&timeout_seconds=10`, else 408); `DELETE` forgets them. `PUT /scripted/script` plays another script.
    `POST /scripted/release/{name}` lets held replies go.
    """

    async def requests(http: web.Request) -> web.Response:
        try:
            count = int(http.query.get("count", 0))
            timeout_seconds = float(http.query.get("timeout_seconds", _DEFAULT_WAIT_SECONDS))
        except ValueError:
            return _problem(400, "`count` and `timeout_seconds` are numbers.")
        if count > 0:
            try:
                await recorder.wait_for(lambda _: True, count, timeout_seconds)
            except ScriptedLLMFailed as error:
                return _problem(408, str(error))
        return web.json_response({"requests": [request.as_json() for request in recorder.all()]})

    async def clear(_: web.Request) -> web.Response:
        recorder.clear()
        return web.Response(status=204)

    async def script(http: web.Request) -> web.Response:
        try:
            app.set_script(Script.from_json(await http.read(), source="in the request"))
        except InvalidScript as error:
            return _problem(400, str(error))
        return web.Response(status=204)

    async def release(http: web.Request) -> web.Response:
        app.release(http.match_info["name"])
        return web.Response(status=204)

    return [
        web.get("/scripted/requests", requests),
        web.delete("/scripted/requests", clear),
        web.put("/scripted/script", script),
        web.post("/scripted/release/{name}", release),
    ]


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
