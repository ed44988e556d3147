from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, FormatChecker

import worker.channel
from worker.channel import event_types
from worker.channel.envelope import CANCELLATIONS, Envelope, UnreadableEnvelope, channel_name, channel_pattern

ASYNCAPI: dict[str, Any] = yaml.safe_load((Path(worker.channel.__path__[0]) / "asyncapi.yaml").read_text())
EVENT_TYPES = [value for name, value in vars(event_types).items() if name.startswith(("TURN_", "SESSION_"))]
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

envelopes = st.builds(
    Envelope,
    organization_id=st.uuids(),
    session_id=st.uuids(),
    turn_id=st.none() | st.uuids(),
    sequence=st.integers(1, 2**63 - 1),
    type=st.sampled_from(EVENT_TYPES) | st.from_regex(r"(turn|session)\.[a-z_.]+", fullmatch=True),
    time=st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])),  # noqa: DTZ001 -- Hypothesis adds the zone
    status=st.none() | st.sampled_from(["scheduled", "pending", "running", "completed", "failed", "cancelled"]),
    revision=st.none() | st.integers(0, 2**31),
)


def an_envelope(**fields: Any) -> Envelope:
    values: dict[str, Any] = {
        "organization_id": uuid4(),
        "session_id": uuid4(),
        "turn_id": uuid4(),
        "sequence": 1,
        "type": event_types.TURN_COMPLETED,
        "time": datetime.now(UTC),
    }
    return Envelope(**(values | fields))


def validator(schema: str) -> Draft7Validator:
    document = {"$ref": f"#/components/schemas/{schema}", "components": ASYNCAPI["components"]}
    return Draft7Validator(document, format_checker=FormatChecker())


@given(envelopes)
def test_an_envelope_that_is_encoded_and_decoded_is_the_same(envelope: Envelope) -> None:
    assert Envelope.decode(envelope.encode()) == envelope
    assert Envelope.decode(envelope.encode().encode()) == envelope


@given(envelopes)
def test_every_envelope_is_what_the_asyncapi_document_says(envelope: Envelope) -> None:
    schema, other = ("turnEvent", "sessionEvent") if envelope.turn_id else ("sessionEvent", "turnEvent")
    event = json.loads(envelope.encode())
    validator(schema).validate(event)
    assert not validator(other).is_valid(event)
    assert RFC_3339.fullmatch(event["time"])


@given(envelopes)
def test_every_channel_is_an_address_of_the_asyncapi_document(envelope: Envelope) -> None:
    channel = ASYNCAPI["channels"]["turn" if envelope.turn_id else "session"]
    ids = json.loads(envelope.encode())["data"]
    assert envelope.channel == channel["address"].format(**ids)
    assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))


@given(envelopes)
def test_only_the_end_of_a_cancelled_turn_goes_to_the_workers_channel_as_well(envelope: Envelope) -> None:
    channel = ASYNCAPI["channels"]["cancelled"]
    ids = json.loads(envelope.encode())["data"]
    expected = channel["address"].format(**ids) if envelope.status == "cancelled" else None
    assert envelope.cancellation_channel == expected
    assert expected is None or fnmatchcase(expected, CANCELLATIONS)


def test_an_envelope_has_the_attributes_that_cloudevents_requires_and_only_such_names_as_it_allows() -> None:
    event = json.loads(an_envelope().encode())
    assert {"specversion", "id", "source", "type"} <= event.keys()
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in event)
    assert all(value for value in event.values())


def test_the_same_event_published_twice_has_the_same_id_and_another_event_another() -> None:
    first = an_envelope(sequence=1)
    again = an_envelope(session_id=first.session_id, sequence=1)
    second = an_envelope(session_id=first.session_id, sequence=2)
    ids = [json.loads(envelope.encode())["id"] for envelope in (first, again, second)]
    assert ids == [f"{first.session_id}/1", f"{first.session_id}/1", f"{first.session_id}/2"]


def test_an_event_of_a_session_has_no_subject() -> None:
    assert "subject" not in json.loads(an_envelope(turn_id=None).encode())


def test_an_envelope_is_small() -> None:
    longest = an_envelope(type="turn.tool_call_started", status="completed", sequence=10**6, revision=10**6)
    assert len(longest.encode()) < 600


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        an_envelope(time=datetime(2026, 1, 1))  # noqa: DTZ001 -- that is the point


def test_what_a_later_version_adds_is_ignored_when_decoding() -> None:
    envelope = an_envelope()
    event = json.loads(envelope.encode())
    event["traceparent"] = "00-1-1-00"
    event["data"]["region"] = "eu"
    assert Envelope.decode(json.dumps(event)) == envelope


GOOD = an_envelope(turn_id=UUID(int=0), time=datetime(2026, 1, 1, tzinfo=UTC)).encode()
UNREADABLE: dict[str, str | bytes] = {
    "Expecting value": "hello",
    "codec can't decode": b"\xff",
    "list indices": "[]",
    "no 'specversion'": "{}",
    "specversion is '0.3'": '{"specversion": "0.3"}',
    "NoneType": '{"specversion": "1.0", "data": null}',
    "no 'sequence'": GOOD.replace('"sequence":1', '"number":1'),
    "Invalid isoformat": GOOD.replace('"time":"2026', '"time":"now'),
    "time zone": GOOD.replace("+00:00", ""),
    "has no attribute": GOOD.replace('"turn_id":"00000000-0000-0000-0000-000000000000"', '"turn_id":7'),
    "badly formed": GOOD.replace('"turn_id":"0', '"turn_id":"'),
}


@pytest.mark.parametrize("reason", UNREADABLE)
def test_a_message_that_is_no_envelope_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(UnreadableEnvelope, match=reason) as caught:
        Envelope.decode(UNREADABLE[reason])
    assert "turns." in str(caught.value)


def test_patterns_widen_from_a_turn_to_everything() -> None:
    organization_id, session_id, turn_id = uuid4(), uuid4(), uuid4()
    assert channel_pattern(organization_id, session_id, turn_id) == channel_name(organization_id, session_id, turn_id)
    assert channel_pattern(organization_id, session_id) == f"turns.{organization_id}.{session_id}.*"
    assert channel_pattern(organization_id) == f"turns.{organization_id}.*"
    assert channel_pattern(organization_id, turn_id=turn_id) == f"turns.{organization_id}.*.{turn_id}"
    assert channel_pattern() == "turns.*"


def test_the_asyncapi_document_lists_the_event_types_with_their_descriptions() -> None:
    listed = [entry for entry in ASYNCAPI["components"]["schemas"]["type"]["anyOf"] if "const" in entry]
    assert [entry["const"] for entry in listed] == EVENT_TYPES
    assert all(entry["description"] for entry in listed)


def test_the_examples_of_the_asyncapi_document_are_valid_and_readable() -> None:
    for name, message in ASYNCAPI["components"]["messages"].items():
        for example in message["examples"]:
            validator(name).validate(example["payload"])
            if name not in {"turnEvent", "sessionEvent"}:
                continue
            envelope = Envelope.decode(json.dumps(example["payload"]))
            assert json.loads(envelope.encode()) == example["payload"]


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(ASYNCAPI))
    assert references
    for reference in references:
        target: Any = ASYNCAPI
        for step in reference.split("/"):
            target = target[step]


def test_an_event_type_reports_the_status_of_the_turn_life_cycle_it_leads_to() -> None:
    turn_types = [event_type for event_type in EVENT_TYPES if event_type.startswith("turn.")]
    assert list(event_types.STATUS_REPORTED) == turn_types
    assert set(event_types.STATUS_REPORTED.values()) == {
        "scheduled",
        "pending",
        "running",
        "completed",
        "failed",
        "cancelled",
    }
