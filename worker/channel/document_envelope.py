"""What is published about a document of the knowledge base: that its status changed. `asyncapi.yaml` describes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from uuid import UUID

DOCUMENTS_PREFIX: Final = "documents."
"""What channels of documents begin with."""

DOCUMENT_READY: Final = "document.ready"
"""The document can be searched."""

DOCUMENT_FAILED: Final = "document.failed"
"""The document will not be tried again; it carries a code and a message."""

DOCUMENT_PROCESSING: Final = "document.processing"
"""A worker claimed the document."""

DOCUMENT_RETRYING: Final = "document.retrying"
"""An attempt ended without a result; the document waits to be claimed again."""

STATUS_REPORTED: Final = MappingProxyType(
    {
        DOCUMENT_PROCESSING: "processing",
        DOCUMENT_RETRYING: "pending",
        DOCUMENT_READY: "ready",
        DOCUMENT_FAILED: "failed",
    }
)
"""The document's status after an event of this type."""


@dataclass(frozen=True, slots=True)
class DocumentEnvelope:
    """A change of a document's status. It is news and no record: read the document for what is true now."""

    organization_id: UUID
    document_id: UUID
    type: str

    @property
    def channel(self) -> str:
        """The channel this event is published on."""
        return f"{DOCUMENTS_PREFIX}{self.organization_id}.{self.document_id}"

    def encode(self) -> str:
        """Write the envelope as CloudEvents 1.0 JSON, ready to be published."""
        document_id = str(self.document_id)
        return json.dumps(
            {
                "specversion": "1.0",
                "id": str(uuid7()),
                "source": f"/organizations/{self.organization_id}/documents/{document_id}",
                "type": self.type,
                "subject": document_id,
                "time": datetime.now(UTC).isoformat(),
                "datacontenttype": "application/json",
                "data": {
                    "organization_id": str(self.organization_id),
                    "document_id": document_id,
                    "status": STATUS_REPORTED[self.type],
                },
            },
            separators=(",", ":"),
        )
