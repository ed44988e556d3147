"""What the API accepts to change the course of a conversation."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from api_stub.requests import Body, ExpectedRevision, ExternalId, Metadata, Name


class CancelTurn(Body):
    """A turn is no longer wanted."""

    reason: Name | None = Field(default=None, description="Why: one line, shown with the turn and its event.")
    expected_revision: ExpectedRevision = None


class RetryTurn(Body):
    """A failed or cancelled turn is to be tried once more."""

    expected_revision: ExpectedRevision = None


class RewindSession(Body):
    """The conversation is to go on from an earlier turn."""

    turn_id: UUID | None = Field(
        description="A completed turn of the session, of whichever branch; null for its beginning."
    )
    expected_revision: ExpectedRevision = None


class ForkSession(Body):
    """A new session that goes on from a turn of this one."""

    turn_id: UUID | None = Field(
        default=None,
        description="A completed turn of the session, of whichever branch; null for its beginning. Without it, the session's "
        "head.",
    )
    external_id: ExternalId = None
    metadata: Metadata = Field(default_factory=dict)
    expected_revision: ExpectedRevision = None
