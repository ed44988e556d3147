"""What the API accepts as a document: a form with a file in it, as browsers and curl send it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api_stub.problems import Problem, describe, invalid_request
from api_stub.requests import MAX_METADATA_BYTES, MAX_NAME_CHARS, Body, Metadata, Name, read_body
from worker.knowledge.media_types import DocumentType, document_type

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

MEDIA_TYPE: Final = "multipart/form-data"
_MAX_FIELDS: Final = 10
_AROUND_THE_FILE_BYTES: Final = 65_536 + MAX_METADATA_BYTES


def _json_of_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # the second: nested a thousand times and more
        raise ValueError("It is not JSON.") from None


class UploadDocument(Body):
    """A document for the knowledge base."""

    file: Annotated[bytes, WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"})] = Field(
        min_length=1,
        description="The document, not empty: plain text, Markdown, HTML or PDF. Its Content-Type, or else the extension of "
        "its filename, says which.",
    )
    name: Name = Field(
        default="document",
        description=f"What people and agents know it by: one line of 1 to {MAX_NAME_CHARS} characters. By default, the "
        "filename.",
    )
    language: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = Field(
        default="simple",
        description="The language of its words, so that their forms are brought together: a text search configuration of "
        "PostgreSQL, such as `english` or `german`. `simple` fits every language, and several in one document.",
    )
    metadata: Annotated[Metadata, BeforeValidator(_json_of_text)] = Field(
        default_factory=dict,
        description=f"Your own notes about it: a JSON object of at most {MAX_METADATA_BYTES:,} bytes.",
    )


class Upload:
    """A form that was read and checked.

    Attributes:
        document: What was sent.
        type: What kind of document it is.
        fingerprint: The same for the same upload, though each form has a boundary of its own.
    """

    def __init__(self, document: UploadDocument, type_: DocumentType) -> None:
        self.document = document
        self.type = type_
        parts = [
            hashlib.sha256(document.file).hexdigest(),
            *(document.name, document.language, document.metadata, type_.media_type, type_.charset),
        ]
        self.fingerprint = json.dumps(parts, sort_keys=True).encode()


async def read_upload(request: Request, *, limit: int) -> Upload:
    """Read an uploaded document of at most `limit` bytes.

    Raises:
        Problem: naming everything that is wrong with it.
        UnsupportedDocument: when it is of no kind that can be read.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise Problem("unsupported_media_type", f"A document is uploaded as {MEDIA_TYPE!r}, not as {media_type!r}.")
    body = await read_body(request, limit + _AROUND_THE_FILE_BYTES, too_large="document_too_large")
    values, declared, filename = await _form(request, body)
    if isinstance(values.get("file"), bytes) and len(values["file"]) > limit:
        raise Problem("document_too_large", f"The document may have at most {limit:,} bytes.", limit_bytes=limit)
    try:
        document = UploadDocument.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        fields = UploadDocument.model_fields
        raise invalid_request(
            [
                describe(
                    item,
                    place="body",
                    pointer=item["loc"],
                    accepted=fields[field].description if (field := str(item["loc"][0])) in fields else None,
                )
                for item in found
            ]
        ) from None
    return Upload(document, document_type(document.file, declared=declared, filename=filename))


async def _form(request: Request, body: bytes) -> tuple[dict[str, Any], str, str]:
    """The form's values by name, and how its file is declared: Content-Type and filename."""

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    parser = MultiPartParser(
        request.headers, stream(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=_AROUND_THE_FILE_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, LookupError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it lacks a boundary, or a name"
        raise Problem("malformed_form", f"The form cannot be read: {reason.rstrip('.')}.") from None
    values: dict[str, Any] = {}
    declared = filename = ""
    for name, value in form.multi_items():
        values[name] = await value.read() if isinstance(value, UploadFile) else value
        if name == "file" and isinstance(value, UploadFile):
            declared, filename = value.content_type or "", value.filename or ""
    await form.close()
    if filename and "name" not in values:
        values["name"] = filename.replace("\\", "/").rpartition("/")[2]
    return values, declared, filename
