from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.workflow.template import UnsafeURL, render, render_json, render_url, template_problem

if TYPE_CHECKING:
    from pydantic import JsonValue

NOW = datetime(2026, 3, 1, 23, 30, 5, tzinfo=UTC)  # a Sunday
INITIAL: dict[str, Any] = {
    "name": "Ada",
    "empty": "",
    "nothing": None,
    "zero": 0,
    "no": False,
    "address": {"city": "Zürich", "lines": ["One", {"street": "Two"}]},
    "braces": "{{ name }}",
    "First-Name": "A.",
}
GATHERED: dict[str, Any] = {"name": "Grace", "visits": [1, 2]}


def rendered(template: str) -> str:
    return render(template, INITIAL, GATHERED, NOW)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Hello {{ name }}!", "Hello Ada!"),
        ("{{name}}{{ name }}{{\tname\n}}", "AdaAdaAda"),
        ("{{ initial_context.name }}", "Ada"),
        ("{{ gathered_context.name }}", "Grace"),
        ("{{ address.city }}", "Zürich"),
        ("{{ initial_context.address.lines.1.street }}", "Two"),
        ("{{ First-Name }}", "A."),
        ("no placeholder", "no placeholder"),
        ("", ""),
    ],
)
def test_a_placeholder_is_replaced_by_the_value_at_its_path(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize(
    "path",
    [
        *("missing", "nothing", "name.first", "address.lines.2", "address.lines.x", "visits", "address.lines.-1"),
        *(
            "gathered_context.address",
            "initial_context.initial_context.name",
            "address.",
            ".",
            "address.lines." + "9" * 5000,
        ),
    ],
)
def test_a_missing_value_is_empty_text(path: str) -> None:
    assert rendered(f"<{{{{ {path} }}}}>") == "<>"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ missing | friend }}", "friend"),
        ("{{missing|friend}}", "friend"),
        ("{{ nothing | dear friend }}", "dear friend"),
        ("{{ empty | friend }}", "friend"),
        ("{{ missing | fallback:friend }}", "friend"),
        ("{{ missing | fallback : at 12:30 | or later }}", "at 12:30 | or later"),
        ("{{ missing | fallback: }}", ""),
        ("{{ missing | }}", ""),
        ("{{ name | friend }}", "Ada"),
        ("{{ zero | friend }}", "0"),
        ("{{ no | friend }}", "false"),
        ("{{ gathered_context.missing | friend }}", "friend"),
    ],
)
def test_a_fallback_stands_in_for_a_missing_null_or_empty_value_only(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ address }}", '{"city": "Zürich", "lines": ["One", {"street": "Two"}]}'),
        ("{{ gathered_context.visits }}", "[1, 2]"),
        ("{{ gathered_context }}", '{"name": "Grace", "visits": [1, 2]}'),
        ("{{ no }}", "false"),
        ("{{ zero }}", "0"),
    ],
)
def test_a_structure_renders_as_json(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ current_time }}", "2026-03-01 23:30:05 UTC"),
        ("{{ current_time_UTC }}", "2026-03-01 23:30:05 UTC"),
        ("{{ current_time_Europe/Berlin }}", "2026-03-02 00:30:05 CET"),
        ("{{ current_time_America/Argentina/Buenos_Aires }}", "2026-03-01 20:30:05 -03"),
        ("{{ current_weekday }}", "Sunday"),
        ("{{ current_weekday_Asia/Kolkata }}", "Monday"),
    ],
)
def test_the_clock_is_told_in_utc_or_the_zone_that_is_named(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize("zone", ["Atlantis", "of_day", "America", "../../etc/passwd", "/etc/passwd", "a" * 5000, "\0"])
def test_an_unknown_zone_makes_an_ordinary_name(zone: str) -> None:
    name = f"current_time_{zone}"
    assert rendered(f"{{{{ {name} | soon }}}}") == "soon"


def test_a_value_whose_name_only_resembles_the_clocks_is_still_a_value() -> None:
    assert render("{{ current_time_of_day }}", {"current_time_of_day": "morning"}, {}, NOW) == "morning"


def test_the_clock_wins_over_a_bare_value_of_the_same_name_but_not_over_its_full_path() -> None:
    template = "{{ current_weekday }} {{ initial_context.current_weekday }}"
    assert render(template, {"current_weekday": "someday"}, {}, NOW) == "Sunday someday"


def test_a_time_without_a_zone_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="time zone"):
        render("{{ current_time }}", {}, {}, NOW.replace(tzinfo=None))


def test_a_value_that_looks_like_a_template_is_not_rendered_again() -> None:
    assert rendered("{{ braces }}") == "{{ name }}"


@given(value=st.text(), tail=st.text(alphabet="{}| name", max_size=12))
def test_no_value_can_make_another_one_appear(value: str, tail: str) -> None:
    secret = "s3cret"
    text = render("{{ value }}" + tail, {"value": value, "name": secret}, {}, NOW)
    assert text.removeprefix(value) == render(tail, {"name": secret}, {}, NOW)


@pytest.mark.parametrize(
    "text",
    ['{"a": {"b": 1}}', '{{"a": 1}}', "{{ two words }}", "{{}}", "{{ | x }}", "{ name }", "{{ name", "name }}"],
)
def test_braces_that_hold_no_path_stay_as_they_are(text: str) -> None:
    assert rendered(text) == text


def test_triple_braces_render_the_innermost_pair() -> None:
    assert rendered("{{{ name }}}") == "{Ada}"


@given(st.text(alphabet="{}| .:ab\n"))
def test_rendering_never_fails(template: str) -> None:
    render(template, {"a": {"b": [1]}}, {}, NOW)


@pytest.mark.parametrize("template", ["{{ name", "a {{ b }} c {{ d }", "{{"])
def test_a_placeholder_that_is_never_closed_is_a_problem_that_shows_where(template: str) -> None:
    problem = template_problem(template)
    assert problem is not None
    assert "{{" in problem


@pytest.mark.parametrize("template", ["", "{{ a }}", '{"a": {"b": {}}}', '{{"a": {{"b": 1}}}}', "}} {{ x }}"])
def test_json_and_complete_placeholders_are_no_problem(template: str) -> None:
    assert template_problem(template) is None


def test_values_in_a_url_are_percent_encoded() -> None:
    context: dict[str, JsonValue] = {"id": "a/b?c#d", "q": "x&y=z é", "deep": {"k": 1}}
    url = render_url("https://api.example.com/u/{{ id }}?q={{ q }}&d={{ deep }}#{{ id }}", context, {}, NOW)
    parts = urlsplit(url)
    assert parts.path == "/u/a%2Fb%3Fc%23d"
    assert parse_qs(parts.query) == {"q": ["x&y=z é"], "d": [json.dumps({"k": 1})]}


def test_a_missing_value_in_a_url_is_empty_and_a_fallback_is_encoded() -> None:
    assert render_url("http://h/{{ x }}/{{ x | a b }}", {}, {}, NOW) == "http://h//a%20b"


@pytest.mark.parametrize(
    "template",
    [
        "{{ url }}",
        "{{ scheme }}://example.com/",
        "https://{{ host }}/",
        "https://{{ sub }}.example.com/",
        "https://example.com{{ path }}",
        "https://example.com:{{ port }}/",
        "https://{{ user }}@example.com/",
        "https:{{ rest }}",
        "ftp://example.com/",
        "//example.com/",
        "https:///path",
        "https://[::1/",
        "",
    ],
)
def test_a_url_template_must_name_its_scheme_and_host_itself(template: str) -> None:
    values: dict[str, JsonValue] = dict.fromkeys(["url", "scheme", "host", "sub", "path", "port", "user", "rest"], "x")
    with pytest.raises(UnsafeURL) as caught:
        render_url(template, values, {}, NOW)
    assert caught.value.code == "unsafe_url"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("https://h/a/{{ x }}/b", ".."),
        ("https://h/{{ x }}", "."),
        ("https://h/{{ x }}{{ x }}?q", "."),
        ("https://h/%2e{{ x }}", "."),
    ],
)
def test_a_value_cannot_climb_out_of_its_path_segment(template: str, value: str) -> None:
    with pytest.raises(UnsafeURL, match="segment"):
        render_url(template, {"x": value}, {}, NOW)


def test_dots_are_harmless_inside_a_segment_and_in_a_query() -> None:
    assert render_url("https://h/v{{ x }}?q={{ x }}", {"x": ".."}, {}, NOW) == "https://h/v..?q=.."


@given(st.text())
@example("\ud800")
@example("\r\nHost: evil.example")
@example("@evil.example/")
@example("//evil.example")
@example("\\evil.example")
def test_no_value_changes_the_scheme_the_host_or_the_number_of_segments(value: str) -> None:
    try:
        url = render_url("https://api.example.com/a/{{ x }}/b?q={{ x }}", {"x": value}, {}, NOW)
    except UnsafeURL:
        assert value in {".", ".."}
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("https", "api.example.com")
    assert parts.path.count("/") == 3
    assert url.isascii()
    encodable = value.encode(errors="replace").decode()
    assert unquote(parts.path.split("/")[2]) == encodable


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ zero }}", 0),
        (" {{ no }} ", False),
        ("{{ address.lines }}", ["One", {"street": "Two"}]),
        ("{{ missing }}", None),
        ("{{ missing | none }}", "none"),
        ("No. {{ zero }}", "No. 0"),
        ("{{ zero }}{{ zero }}", "00"),
        ({"{{ name }}": ["{{ name }}", 1.5, None, True]}, {"{{ name }}": ["Ada", 1.5, None, True]}),
    ],
)
def test_a_text_in_json_that_is_one_placeholder_becomes_the_value_itself(template: JsonValue, value: JsonValue) -> None:
    rendered_value = render_json(template, INITIAL, GATHERED, NOW)
    assert (rendered_value, type(rendered_value)) == (value, type(value))
