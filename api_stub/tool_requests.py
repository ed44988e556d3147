"""What the API accepts about tools and the credentials they send."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path
from pydantic import Field

from api_stub.requests import Body
from worker.workflow.credential import NAME_PATTERN, Credential, CredentialName
from worker.workflow.tool_definition import ToolDefinition

NamedCredential = Annotated[str, Path(pattern=NAME_PATTERN)]
"""As a parameter of a route: the credential's name."""


class CreateTool(Body):
    """A new tool."""

    id: UUID | None = Field(
        default=None,
        description="What workflows refer to it by (`tool_uuids`): a UUID. Keep the ids of an exported workflow. Without "
        "one, an id is made.",
    )
    definition: ToolDefinition = Field(description="A JSON object whose `type` says which fields it has.")


class PutTool(Body):
    """The next version of a tool. Workflow definitions that exist keep theirs."""

    definition: ToolDefinition = Field(description="A JSON object whose `type` says which fields it has.")


class CreateCredential(Body):
    """What a tool sends to prove who is asking. It is encrypted, and never shown again."""

    name: CredentialName = Field(
        description="What tools refer to it by: 1 to 100 letters, digits, `.`, `_`, `:` and `-`.",
        examples=["calendar-key"],
    )
    credential: Credential = Field(description="A JSON object whose `kind` says which fields it has.")


class PutCredential(Body):
    """What a tool sends from now on in place of what it sent."""

    credential: Credential = Field(description="A JSON object whose `kind` says which fields it has.")
