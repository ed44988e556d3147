"""Templates: `{{ path.to.value }}` in prompts, greetings, speeches and tool configuration.

- `{{ x.y }}` and `{{ initial_context.x.y }}` read the initial context, `{{ gathered_context.x }}` the gathered one; a
  number in a path counts into a list.
- `{{ x | text }}` and `{{ x | fallback:text }}` render the text when the value is missing, null or empty.
- `{{ current_time }}` and `{{ current_weekday }}` tell the time in UTC, `{{ current_time_Europe/Berlin }}` and
  `{{ current_weekday_Europe/Berlin }}` in an IANA zone. With a zone that does not exist it is an ordinary name.
- A missing value is empty text; a structure, a boolean and a number render as JSON. Braces that hold no path stay as
  they are, so that a prompt can show JSON. What a value holds is never rendered again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from worker.errors import TurnWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pydantic import JsonValue

_PLACEHOLDER = re.compile(r"\{\{\s*(?P<path>[^\s{}|]+)\s*(?:\|\s*(?:fallback\s*:)?(?P<fallback>[^{}]*))?\}\}")
_CLOCK = re.compile(r"current_(?P<what>time|weekday)(?:_(?P<zone>.+))?")
_SCHEME_AND_HOST = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_LIST_INDEX = re.compile(r"[0-9]{1,9}")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class UnsafeURL(TurnWorkerError):
    """A URL template, or a value put into it, would lead somewhere its author did not write."""

    code: ClassVar[str] = "unsafe_url"

    def __init__(self, template: str, reason: str) -> None:
        super().__init__(template, reason)
        self.template = template
        self.reason = reason

    def __str__(self) -> str:
        return f"The URL {self.template!r} cannot be used: {self.reason}"


def render(
    template: str,
    initial_context: dict[str, JsonValue],
    gathered_context: dict[str, JsonValue],
    now: datetime,
) -> str:
    """Fill in a template.

    Args:
        template: Text with placeholders, as the module describes them.
        initial_context: Values given when the session was created.
        gathered_context: What the conversation has learned.
        now: The current time, with its zone.
    """
    return _render(template, initial_context, gathered_context, now, encode=str)


def render_url(
    template: str,
    initial_context: dict[str, JsonValue],
    gathered_context: dict[str, JsonValue],
    now: datetime,
) -> str:
    """Fill in a URL, each value percent-encoded, so that it stays inside the path segment or parameter it stands in.

    Args:
        template: An http or https URL with placeholders after its host.
        initial_context: Values given when the session was created.
        gathered_context: What the conversation has learned.
        now: The current time, with its zone.

    Raises:
        UnsafeURL: The template is no http or https URL, has a placeholder in its scheme or host, or a value would
            make a path segment `.` or `..`, which clients resolve.
    """
    origin = _SCHEME_AND_HOST.match(template)
    if origin is None or "{" in origin[0] or not _has_host(origin[0]):
        raise UnsafeURL(
            template, "it must begin with http:// or https:// and a host, and placeholders may only follow the host."
        )
    url = _render(template, initial_context, gathered_context, now, encode=_percent_encode)
    path = re.split("[?#]", url[origin.end() :], maxsplit=1)[0]
    if any(unquote(segment) in {".", ".."} for segment in path.split("/")):
        raise UnsafeURL(template, "a segment of its path is '.' or '..'. Check the values put into it.")
    return url


def render_json(
    template: JsonValue,
    initial_context: dict[str, JsonValue],
    gathered_context: dict[str, JsonValue],
    now: datetime,
) -> JsonValue:
    """Fill in every text of a JSON value. A text that is one placeholder and nothing else becomes the value it names.

    So a number stays a number and a list a list, and what is missing is null. The names of members are no templates.

    Args:
        template: A JSON value whose texts have placeholders.
        initial_context: Values given when the session was created.
        gathered_context: What the conversation has learned.
        now: The current time, with its zone.
    """
    match template:
        case str():
            placeholder = _PLACEHOLDER.fullmatch(template.strip())
            if placeholder is not None:
                return _value(placeholder, initial_context, gathered_context, now)
            return render(template, initial_context, gathered_context, now)
        case list():
            return [render_json(item, initial_context, gathered_context, now) for item in template]
        case dict():
            return {name: render_json(item, initial_context, gathered_context, now) for name, item in template.items()}
        case _:
            return template


def template_problem(template: str) -> str | None:
    """Say what is wrong with a template as written, or None. Rendering itself never fails on it."""
    opened = template.rfind("{{")
    if opened < 0 or "}}" in template[opened:]:
        return None
    return f"The placeholder that begins with {template[opened : opened + 20]!r} is never closed. Close it with }}}}."


def _render(
    template: str,
    initial_context: dict[str, JsonValue],
    gathered_context: dict[str, JsonValue],
    now: datetime,
    *,
    encode: Callable[[str], str],
) -> str:
    if "{{" not in template:
        return template

    def fill(placeholder: re.Match[str]) -> str:
        return encode(_text(_value(placeholder, initial_context, gathered_context, now)))

    return _PLACEHOLDER.sub(fill, template)


def _value(
    placeholder: re.Match[str],
    initial_context: dict[str, JsonValue],
    gathered_context: dict[str, JsonValue],
    now: datetime,
) -> JsonValue:
    if now.tzinfo is None:
        raise ValueError("The current time needs its time zone; got a naive datetime.")
    path = placeholder["path"]
    value: JsonValue = _clock(path, now)
    if value is None:
        value = _lookup(path, initial_context, gathered_context)
    if value in (None, "") and placeholder["fallback"] is not None:
        return placeholder["fallback"].strip()
    return value


def _clock(path: str, now: datetime) -> str | None:
    clock = _CLOCK.fullmatch(path)
    if clock is None:
        return None
    try:
        local = now.astimezone(ZoneInfo(clock["zone"] or "UTC"))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as `America`
        return None
    return _WEEKDAYS[local.weekday()] if clock["what"] == "weekday" else local.strftime("%Y-%m-%d %H:%M:%S %Z")


def _lookup(path: str, initial_context: dict[str, JsonValue], gathered_context: dict[str, JsonValue]) -> JsonValue:
    first, *rest = path.split(".")
    value: JsonValue
    if first == "gathered_context":
        value = gathered_context
    else:
        value = initial_context
        rest = rest if first == "initial_context" else [first, *rest]
    for key in rest:
        value = _item(value, key)
    return value


def _item(value: JsonValue, key: str) -> JsonValue:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and _LIST_INDEX.fullmatch(key) and int(key) < len(value):
        return value[int(key)]
    return None


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _percent_encode(text: str) -> str:
    return quote(text, safe="", errors="replace")  # JSON can hold half a surrogate pair, UTF-8 cannot


def _has_host(origin: str) -> bool:
    try:
        return bool(urlsplit(origin).hostname)
    except ValueError:
        return False
