"""Messages → events: every shape that is understood, and a reason for every one that isn't."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.errors import ConfigError, MalformedMessageError
from router.core.messages import ATTEMPT, Extraction, Parser, held_draft
from router.core.models import Event, Message

PARSER = Parser(Extraction())


def message(body: str, **attributes: str) -> Message:
    """A message with this body."""
    return Message("m-1", "r-1", body, 0, 1, attributes)


def s3_record(key: str, bucket: str = "logs", **entity: str) -> dict[str, object]:
    """One record of a notification."""
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key, **entity}}}


def test_a_notification_has_an_event_for_each_record() -> None:
    """Each keeps its own record as the body, byte for byte."""
    first, second = (
        s3_record("AWSLogs/111111111111/a", sequencer="1"),
        s3_record("AWSLogs/222222222222/b", sequencer="2"),
    )
    events = PARSER.parse(message(json.dumps({"Records": [first, second]})))
    assert [event.partition_key for event in events] == ["111111111111", "222222222222"]
    assert [json.loads(event.body) for event in events] == [first, second]
    assert events[0].event_id != events[1].event_id


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        ("AWSLogs/123456789012/CloudTrail/x.json.gz", "123456789012"),
        ("prefix%2Fof/AWSLogs/123456789012/x", "123456789012"),
        ("some/prefix/AWSLogs/o-abc123/123456789012/x", "123456789012"),
        ("images/cat.jpg", "logs"),
    ],
)
def test_the_partition_key_of_an_object(key: str, partition: str) -> None:
    """The account where the key has one in an AWSLogs/ path, else the bucket."""
    assert PARSER.parse(message(json.dumps({"Records": [s3_record(key)]})))[0].partition_key == partition


def test_a_redelivered_notification_has_the_same_event_id_and_a_new_version_another() -> None:
    """S3 notifies at least once; the id is of the object's version, not of the message."""
    ids = [
        PARSER.parse(message(json.dumps({"Records": [s3_record("k", sequencer=sequencer)]})))[0].event_id
        for sequencer in ("a", "a", "b")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_test_event_is_no_event() -> None:
    """S3 sends one when the notification is set up."""
    assert PARSER.parse(message('{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}')) == []


def test_an_sns_wrapping_is_taken_off() -> None:
    """The event inside counts."""
    inner = json.dumps({"Records": [s3_record("AWSLogs/123456789012/x")]})
    wrapped = json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": inner})
    assert PARSER.parse(message(wrapped))[0].partition_key == "123456789012"


def test_plain_json_by_the_default_order() -> None:
    """partition_key, tenant_id, tenant, account_id, account; the id by event_id, id, then the message's."""
    event = PARSER.parse(message('{"tenant": "t", "tenant_id": 7, "id": "e-1"}'))[0]
    assert (event.partition_key, event.event_id) == ("7", "e-1")
    assert PARSER.parse(message('{"account": "a"}'))[0].event_id == "m-1"


def test_attributes_of_the_producer_come_first() -> None:
    """They win over what is in the body."""
    event = PARSER.parse(message('{"tenant": "t", "id": "e"}', partition_key="p", event_id="i"))[0]
    assert (event.partition_key, event.event_id) == ("p", "i")


def test_a_jmespath_of_ones_own() -> None:
    """With match() for what hides in a path; for S3 records too."""
    parser = Parser(Extraction("s3.object.key | match(@, 'tenants/([^/]+)/')"))
    assert parser.parse(message(json.dumps({"Records": [s3_record("tenants/acme/x")]})))[0].partition_key == "acme"
    with pytest.raises(ConfigError, match="no JMESPath"):
        Parser(Extraction("a ||| b"))


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    st.integers(1, 99),
)
def test_an_event_survives_the_hold_queue(event_id: str, key: str, attempt: int) -> None:
    """Whatever characters its id and key have."""
    event = Event(event_id, key, b'{"a": [1, 2]}', attempt)
    draft = held_draft(event, 3)
    assert PARSER.parse(Message("other", "r", draft.body, 0, 1, draft.attributes)) == [event]
    assert all(32 <= ord(character) < 127 for value in draft.attributes.values() for character in value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("\x00\x01", "not JSON"),
        ("hello", "not JSON"),
        ("[1]", "not an object"),
        ('{"tenant": NaN}', "not JSON"),
        ('{"tenant": "a", "x": ' + "9" * 5000 + "}", "can't be read: Integer value out of range"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "too deeply"),
        ("[" * 200_000, "too deeply"),
        ('{"x": 1}', "no partition key"),
        ('{"tenant": {"a": 1}}', "neither text nor a whole number"),
        ('{"tenant": true}', "neither text nor a whole number"),
        ('{"tenant": "' + "k" * 2000 + '"}', "longer than 1024"),
        ('{"tenant": "' + "k" * 1024 * 1024 + '"}', "more than 1048576"),
        ('{"tenant": "a\ud800"}', "not JSON"),
        ('{"Records": 5}', "no S3 notification"),
        ('{"Records": []}', "list of Records is empty"),
        ('{"Records": [{"a": 1}]}', "no S3 notification"),
        ('{"TopicArn": "t", "Message": 5}', "can't be read"),
    ],
)
def test_nonsense_has_a_reason(body: str, reason: str) -> None:
    """Nothing but MalformedMessageError, with a sentence for people."""
    with pytest.raises(MalformedMessageError, match=reason):
        PARSER.parse(message(body))


@pytest.mark.parametrize("attributes", [{ATTEMPT: "1"}, {ATTEMPT: "x", "event_id": "e", "partition_key": "p"}])
def test_a_broken_held_message_has_a_reason(attributes: dict[str, str]) -> None:
    """Someone else wrote into the hold queue."""
    with pytest.raises(MalformedMessageError, match=ATTEMPT):
        PARSER.parse(Message("m", "r", "{}", 0, 1, attributes))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children)
        | st.dictionaries(
            st.sampled_from(["Records", "s3", "tenant", "Message", "TopicArn", "Event"]) | st.text(), children
        )
    ),
)


@given(json_values.map(json.dumps) | st.text())
def test_no_body_crashes_the_parser(body: str) -> None:
    """Events or a reason; never another exception."""
    try:
        events = PARSER.parse(message(body))
    except MalformedMessageError:
        return
    assert all(event.partition_key for event in events)
