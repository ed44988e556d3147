"""What the API accepts to change the course of a conversation."""

from __future__ import annotations

from pydantic import Field

from api_stub.requests import Body, ExpectedRevision, Name


class CancelTurn(Body):
    """A turn is no longer wanted."""

    reason: Name | None = Field(default=None, description="Why: one line, shown with the turn and its event.")
    expected_revision: ExpectedRevision = None
