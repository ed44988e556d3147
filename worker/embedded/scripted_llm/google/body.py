"""What the Gemini API refuses in the body of a request, in its words."""

from __future__ import annotations

import base64
import re
from typing import Any

from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.google.wire import SIGNATURE_PREFIX, signature, signed_content

_ROLES = (None, "user", "model")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_DATA = ("text", "functionCall", "functionResponse", "inlineData", "fileData", "executableCode", "codeExecutionResult")
_FIELDS = frozenset({*_DATA, "thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution"})
_SCHEMA_FIELDS_UNKNOWN = frozenset({"additionalProperties", "$schema", "$ref", "const", "oneOf", "allOf"})
"""JSON Schema's words that the schema of a declaration's `parameters` has no field for."""


def check_body(body: object, *, call_ids: bool) -> None:
    """Refuse a body the real API refuses.

    Args:
        body: The body.
        call_ids: Whether calls and their results may have ids.

    Raises:
        ApiError: The first rule broken.
    """
    if not isinstance(body, dict):
        raise _refused("Invalid JSON payload received. Unexpected token.")
    if not body.get("contents"):
        raise _refused("* GenerateContentRequest.contents: contents is not specified")
    _check_tools(body.get("tools"))
    if not isinstance(body["contents"], list):
        raise _refused("Invalid value at 'contents': expected a list.")
    _check_contents(body["contents"])
    if not call_ids:
        _check_without_ids(body["contents"])


def _refused(message: str) -> ApiError:
    return ApiError(400, message)


def _check_tools(tools: object) -> None:
    names: set[str] = set()
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        for place, declaration in enumerate(tool.get("functionDeclarations") or ()):
            where = f"tools[{number}].function_declarations[{place}]"
            name = str(declaration.get("name", ""))
            if not _NAME.fullmatch(name):
                raise _refused(
                    f"* GenerateContentRequest.{where}.name: Invalid function name. Must start with a letter or an "
                    "underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes "
                    "(-), with a maximum length of 128."
                )
            if name in names:
                raise _refused(f"Duplicate function declaration found: {name}")
            names.add(name)
            _check_schema(declaration.get("parameters"), f"{where}.parameters")


def _check_schema(schema: object, where: str) -> None:
    if not isinstance(schema, dict):
        return
    if str(schema.get("type")).upper() == "OBJECT" and not schema.get("properties"):
        raise _refused(f"* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type")
    for field in sorted(schema.keys() & _SCHEMA_FIELDS_UNKNOWN):
        raise _refused(f"Invalid JSON payload received. Unknown name \"{field}\" at '{where}': Cannot find field.")
    for name, inner in (schema.get("properties") or {}).items():
        _check_schema(inner, f"{where}.properties[{name}]")
    _check_schema(schema.get("items"), f"{where}.items")


def _check_contents(contents: list[Any]) -> None:
    called: list[str] = []
    previous: str | None = None
    for number, content in enumerate(contents):
        parts = _checked_parts(content, number)
        calls = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        results = [part["functionResponse"]["name"] for part in parts if "functionResponse" in part]
        if calls and previous != "user":
            raise _refused(
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        if len(results) != len(called):
            raise _refused(
                "Please ensure that the number of function response parts is equal to the number of function call parts "
                "of the function call turn."
            )
        if sorted(results) != sorted(called):
            raise _refused("Please ensure that the function responses are of the functions that were called.")
        called, previous = calls, content.get("role") or "user"
    if called:
        raise _refused("Please ensure that function response turn comes immediately after a function call turn.")
    if previous == "model":
        raise _refused("Please ensure that single turn requests end with a user role or the role field is empty.")


def _check_without_ids(contents: list[Any]) -> None:
    for number, content in enumerate(contents):
        for place, part in enumerate(content["parts"]):
            for field, said in (("functionCall", "function_call"), ("functionResponse", "function_response")):
                if "id" in part.get(field, ()):
                    where = f"contents[{number}].parts[{place}].{said}"
                    raise _refused(
                        f"Invalid JSON payload received. Unknown name \"id\" at '{where}': Cannot find field."
                    )


def _checked_parts(content: object, number: int) -> list[dict[str, Any]]:
    if not isinstance(content, dict):
        raise _refused(f"Invalid value at 'contents[{number}]': expected an object.")
    if content.get("role") not in _ROLES:
        raise _refused("Please use a valid role: user, model.")
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts:
        raise _refused(f"* GenerateContentRequest.contents[{number}].parts: contents.parts must not be empty.")
    for place, part in enumerate(parts):
        _check_part(part, f"contents[{number}].parts[{place}]")
    _check_signed(parts, number)
    return parts


def _check_part(part: object, where: str) -> None:
    fields = part.keys() if isinstance(part, dict) else set()
    for field in sorted(fields - _FIELDS):
        raise _refused(f"Invalid JSON payload received. Unknown name \"{field}\" at '{where}': Cannot find field.")
    if not isinstance(part, dict) or len(fields & set(_DATA)) != 1:
        raise _refused(
            f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have one initialized field"
        )
    for field in ("functionCall", "functionResponse"):
        if field in part and not part[field].get("name"):
            raise _refused(f"* GenerateContentRequest.{where}.{field}.name: Name cannot be empty.")
    if "functionResponse" in part and not isinstance(part["functionResponse"].get("response"), dict):
        raise _refused(f"Invalid value at '{where}.function_response.response': expected an object.")


def _check_signed(parts: list[dict[str, Any]], number: int) -> None:
    """Refuse a call without the signature of the thought before it, and a signature of this server of something else."""
    first_call = next((part for part in parts if "functionCall" in part), None)
    if first_call is not None and not any(part.get("thoughtSignature") for part in parts):
        raise _refused(
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            f"correctly. Additional data, function call `{first_call['functionCall']['name']}`, position {number + 1}."
        )
    for part in parts:
        given = part.get("thoughtSignature")
        if given and _is_ours(given) and _decoded(given) != _decoded(signature(signed_content(part))):
            raise _refused("Corrupted thought signature.")


def _is_ours(given: str) -> bool:
    return _decoded(given).startswith(SIGNATURE_PREFIX)


def _decoded(given: str) -> bytes:
    """Decode base64 in either alphabet, as the API does."""
    try:
        return base64.b64decode(given.replace("-", "+").replace("_", "/") + "=" * (-len(given) % 4), validate=True)
    except ValueError:
        raise _refused("Invalid value at 'thought_signature' (TYPE_BYTES), Base64 decoding failed.") from None
