"""Gemini on Google Cloud's Vertex AI: the models and messages of Gemini's own API, for which a service account signs in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from google.oauth2.credentials import Credentials

from worker.engine.failures import LLMNotConfigured
from worker.engine.llm.google.client import open_client
from worker.engine.llm.google.messages import VertexAdapter
from worker.engine.llm.google.service import GoogleProvider, GoogleService
from worker.engine.llm.google.sign_in import ServiceAccountAuth
from worker.engine.llm.provider import address
from worker.workflow.service_account import InvalidServiceAccount, read_service_account

if TYPE_CHECKING:
    from worker.engine.llm.google.client import GoogleClient
    from worker.engine.request import ResolvedModel

_GLOBAL: Final = "global"
_LOCATED_HOST: Final = re.compile(r"(?:([a-z0-9-]+)-aiplatform|aiplatform\.([a-z]+)\.rep)\.googleapis\.com")
_RESOURCE: Final = re.compile(r"/projects/([^/]+)/locations/([^/]+)/*$")
_VERSION: Final = re.compile(r"(?:/v1(?:beta1)?)?/*$")
"""The end of an address. Which version of the API is spoken, the SDK says."""


class VertexService(GoogleService):
    """pipecat's service for Gemini. The one that it has for Vertex AI adds to it how it signs in, which is done here."""

    adapter_class = VertexAdapter


class VertexProvider(GoogleProvider):
    """Gemini by Vertex AI."""

    processor = "GoogleVertexLLMService"
    service_class = VertexService

    def connect(self, model: ResolvedModel) -> GoogleClient:
        """Create the SDK's client. Nothing is left for it to look for in the environment or in the home directory."""
        if model.api_key is None:
            raise LLMNotConfigured(
                "The model configuration has no API key for google-vertex. Store the JSON of a service account's key: "
                "turn-worker config set."
            )
        try:
            account = read_service_account(model.api_key.get_secret_value(), model.base_url)
        except InvalidServiceAccount as error:
            raise LLMNotConfigured(f"google-vertex cannot be called. {error}") from None
        place = vertex_place(str(address(model)))
        return open_client(
            model,
            base_url=place.root,
            auth=ServiceAccountAuth(account),
            vertexai=True,
            project=place.project or account.project_id,
            location=place.location,
            credentials=Credentials(token="replaced"),  # type: ignore[no-untyped-call] # noqa: S106 -- by `auth`
        )


def create_provider(_name: str) -> VertexProvider:
    """Create the provider (see `worker.engine.llm.provider`)."""
    return VertexProvider()


class VertexPlace(NamedTuple):
    """Where Vertex AI is called.

    Attributes:
        root: Root of the API.
        project: The Google Cloud project; None for the service account's own.
        location: Where the model runs.
    """

    root: str
    project: str | None
    location: str


def vertex_place(base_url: str) -> VertexPlace:
    """Read a base URL. Its host names a location as Google's hosts do, or its path names project and location."""
    parts = urlsplit(base_url)
    host, resource = _LOCATED_HOST.fullmatch(parts.hostname or ""), _RESOURCE.search(parts.path)
    project, location = resource.groups() if resource else (None, (host and (host[1] or host[2])) or _GLOBAL)
    path = parts.path[: resource.start()] if resource else parts.path
    return VertexPlace(f"{parts.scheme}://{parts.netloc}{_VERSION.sub('', path, count=1)}", project, location)
