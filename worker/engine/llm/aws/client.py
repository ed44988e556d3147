"""AWS's SDK, cut off from what it would find in the environment and in the home directory, and from its own connections."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.tokens import FrozenAuthToken
from yarl import URL

from worker.engine.web.client import WebClient, web_error
from worker.workflow.web_address import NO_HOSTS

if TYPE_CHECKING:
    from botocore.model import StructureShape

    from worker.workflow.web_address import AllowedHosts

_SERVICE: Final = "bedrock-runtime"
_REGION: Final = "us-east-1"
"""The SDK insists on one. It has no effect: where requests go, the address says, and a bearer's are not signed."""

_NOTHING_FOUND: Final = {
    name: (None, None, default, conversion)
    for name, (_, _, default, conversion) in AioSession.SESSION_VARIABLES.items()
} | dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
"""The SDK's settings with their defaults and nowhere to look for others."""


class BedrockUnreachable(Exception):
    """The API could not be reached, or must not be; the cause says why."""


class BedrockClient:
    """The SDK's client for one key and address, created when it is first used."""

    def __init__(self, *, base_url: str, api_key: str, allowed_hosts: AllowedHosts | None) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._transport = _Transport(allowed_hosts)
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._sdk: Any = None

    async def converse_stream(self, **request: Any) -> Any:
        """Send a request (`ConverseStream`)."""
        async with self._opening:
            self._sdk = self._sdk or await self._open()
        return await self._sdk.converse_stream(**request)

    async def close(self) -> None:
        """Close every connection."""
        await self._opened.aclose()
        await self._transport.close()

    async def _open(self) -> Any:
        session = _session()
        session.register_component("token_provider", _Bearer(self._api_key))
        sdk = await self._opened.enter_async_context(
            session.create_client(
                _SERVICE,
                region_name=_REGION,
                endpoint_url=self._base_url,
                aws_access_key_id="none",  # or it would look for some
                aws_secret_access_key="none",  # noqa: S106 -- no secret
                config=AioConfig(
                    signature_version="bearer",
                    retries={"total_max_attempts": 1},  # retries are the executor's, which knows the turn's deadline
                ),
            )
        )
        sdk.meta.events.register(f"before-send.{_SERVICE}", self._transport.send)
        return sdk


class _Bearer:
    """Gives the SDK the key."""

    def __init__(self, api_key: str) -> None:
        self._token = FrozenAuthToken(api_key)

    def load_token(self, **_: Any) -> _Bearer:
        return self

    async def get_frozen_token(self) -> FrozenAuthToken:
        return self._token


class _Transport:
    """Makes the SDK's requests over connections that lead where they may, and follows no redirect, which would take the key
    along.
    """

    def __init__(self, allowed_hosts: AllowedHosts | None) -> None:
        # An operator's address may lead anywhere.
        self._web = WebClient() if allowed_hosts is not None else WebClient(judge=lambda _: None)
        self._allowed = allowed_hosts or NO_HOSTS

    async def send(self, request: Any, **_: Any) -> AioAWSResponse:
        """Answer the SDK's event before it would send the request itself."""
        url = URL(request.url, encoded=True)
        headers = {name: _text(value) for name, value in request.headers.items()}
        try:
            answer = await self._web.session(url, self._allowed).request(
                request.method,
                url,
                headers={**headers, "Accept-Encoding": "identity"},
                data=request.body,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BedrockUnreachable from web_error(error, url)
        return AioAWSResponse(
            str(url), answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer
        )

    async def close(self) -> None:
        await self._web.close()


def request_shape() -> StructureShape:
    """What the API takes."""
    return _service_model().operation_model("ConverseStream").input_shape


@cache
def load_api_description() -> Loader:
    """Read what the SDK knows of the API, once: parsing it takes 0.2 s of CPU time."""
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    session = AioSession(session_vars=_NOTHING_FOUND)
    session.register_component("data_loader", loader)
    session.warm_up_loader_caches(_SERVICE)
    return loader


@cache
def _service_model() -> ServiceModel:
    return ServiceModel(load_api_description().load_service_model(_SERVICE, "service-2"), _SERVICE)


def _session() -> AioSession:
    session = AioSession(session_vars=_NOTHING_FOUND)
    session.register_component("data_loader", load_api_description())
    return session


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
