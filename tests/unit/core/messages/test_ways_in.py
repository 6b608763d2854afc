"""What real producers send is understood without a configuration: the examples of their own documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from cell_worker.handlers.security.logs import log_object
from router.core.errors import MalformedMessageError, UnconfirmedSubscriptionError
from router.core.messages.dead_letter import of_message, to_drafts
from router.core.messages.parser import MAX_KEY_BYTES, Extraction, Parser
from router.core.messages.shapes import TEST_TEXT
from router.core.models import Event, Message
from tests.support.aws_messages import (
    BRIDGED,
    CLOUD_EVENT,
    CONFIG_ITEM,
    S3_RECORD,
    S3_TEST,
    SHAPES,
    STREAM_RECORD,
    SUBSCRIPTION,
    TRAIL,
    by_sns,
)

PARSER = Parser(Extraction())
ACCOUNT = "123456789012"
KEYS = {
    "S3": ["amzn-s3-demo-bucket"],
    "S3, several records": ["amzn-s3-demo-bucket"] * 2,
    "S3 by EventBridge": ["amzn-s3-demo-bucket1"],
    "S3's test": [],
    "CloudTrail": [ACCOUNT],
    "CloudTrail, several keys": [ACCOUNT, "210987654321"],
    "Config item": [ACCOUNT],
    "Config item, old": [ACCOUNT],
    "Config item, oversized": [ACCOUNT],
    "Config history": [ACCOUNT],
    "Config snapshot": ["108e0794-84a7-4cca-a179-76a199ddd11a"],
    "Config compliance": [ACCOUNT],
    "DynamoDB": ["EventSourceTable/Id=101"],
    "DynamoDB by Kinesis": ["EventSourceTable/Id=101"],
    "DynamoDB, several records": ["EventSourceTable/Id=101"] * 2,
    "CloudEvent": ["acme"],
}


def message(body: Any, name: str = "m-1", **attributes: str) -> Message:
    """A message with this body, a text or what becomes JSON."""
    return Message(name, "r-1", body if isinstance(body, str) else json.dumps(body), 0, 1, attributes)


def only(body: Any, **attributes: str) -> Event:
    """The one event in a message with this body."""
    (event,) = PARSER.parse(message(body, **attributes))
    return event


def named(**attributes: str) -> dict[str, str]:
    """The attributes of a CloudEvent by these names: SQS takes no hyphen in a Python keyword, so tests use `ce_`."""
    return {f"ce_{name}": value for name, value in attributes.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_understood_directly_raw_and_wrapped(shape: str) -> None:
    """Each event has its key, an id of its own and a body that is JSON; the wrapping changes none of them."""
    body = json.dumps(SHAPES[shape])
    events = PARSER.parse(message(body))
    assert [event.partition_key for event in events] == KEYS[shape]
    assert len({event.event_id for event in events}) == len(events)
    assert all(isinstance(json.loads(event.body), dict) for event in events)
    assert PARSER.parse(message(by_sns(body))) == events


@pytest.mark.parametrize("shape", [shape for shape, keys in KEYS.items() if len(keys) == 1 and "S3" not in shape])
def test_a_body_that_is_one_event_stays_as_it_is(shape: str) -> None:
    """Byte for byte, also with blanks that nobody needs."""
    body = json.dumps(SHAPES[shape], indent=2)
    assert only(body).body == body.encode()


@pytest.mark.parametrize("shape", [shape for shape, keys in KEYS.items() if keys])
def test_another_message_of_the_same_thing_is_another_event_unless_it_has_an_id(shape: str) -> None:
    """Only what names itself is known again: objects by their version, records and CloudEvents by their ids."""
    first, again = ({event.event_id for event in PARSER.parse(message(SHAPES[shape], name))} for name in ("m-1", "m-2"))
    names_itself = shape.startswith(("S3", "DynamoDB", "CloudEvent"))
    assert (first == again) is names_itself
    assert first & again == (first if names_itself else set())


@pytest.mark.parametrize("shape", [shape for shape, keys in KEYS.items() if keys])
def test_a_configured_key_and_the_producers_attributes_come_first(shape: str) -> None:
    """A known shape takes nothing from those who say it themselves."""
    by_path = Parser(Extraction(partition_key="'here'"))
    assert {event.partition_key for event in by_path.parse(message(SHAPES[shape]))} == {"here"}
    events = PARSER.parse(message(SHAPES[shape], partition_key="p", event_id="i"))
    assert {event.partition_key for event in events} == {"p"}
    assert len({event.event_id for event in events}) == len(events)


@pytest.mark.parametrize("body", [S3_TEST, TEST_TEXT], ids=["S3", "CloudTrail"])
def test_what_a_service_sends_when_it_is_set_up_is_no_event(body: Any) -> None:
    """Neither an event nor an error, directly and by SNS."""
    text = body if isinstance(body, str) else json.dumps(body)
    assert PARSER.parse(message(text)) == PARSER.parse(message(by_sns(text))) == []


def test_a_notification_of_cloudtrail_is_an_event_for_each_key() -> None:
    """Each looks like a notification of that key alone, so a handler needs to know one form only."""
    keys = [f"AWSLogs/{ACCOUNT}/CloudTrail/{number}.json.gz" for number in range(3)]
    events = PARSER.parse(message({"s3Bucket": "b", "s3ObjectKey": keys, "more": "x" * 100}))
    assert [json.loads(event.body) for event in events] == [{"s3Bucket": "b", "s3ObjectKey": [key]} for key in keys]
    assert [event.event_id for event in events] == [f"b/{key}#m-1" for key in keys]
    assert [log_object(json.loads(event.body)).key for event in events] == keys


@pytest.mark.parametrize(
    "change",
    [{"s3ObjectKey": []}, {"s3ObjectKey": [1]}, {"s3ObjectKey": ["a", ""]}, {"s3Bucket": ""}, {"s3Bucket": "b" * 256}],
    ids=repr,
)
def test_a_notification_of_cloudtrail_without_a_file_says_so(change: Any) -> None:
    """It is dead-lettered with what it lacks."""
    with pytest.raises(MalformedMessageError, match="CloudTrail's notification names no"):
        PARSER.parse(message(TRAIL | change))


def test_a_split_message_does_not_grow() -> None:
    """10 000 keys beside half a megabyte of other members make no 5 gigabytes of bodies."""
    body = json.dumps({"s3Bucket": "b", "s3ObjectKey": ["k"] * 10_000, "more": "x" * 500_000})
    assert sum(len(event.body) for event in PARSER.parse(message(body))) < 5 * len(body)


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("a+b.gz", "a%2Bb.gz"),
        ("a b.gz", "a+b.gz"),
        ("100%25.gz", "100%2525.gz"),
        ("100%.gz", "100%25.gz"),
        ("caf\u00e9.gz", "caf%C3%A9.gz"),
        ("year=2025/month=01/a.gz", "year%3D2025/month%3D01/a.gz"),
        ("year%3D2025/a.gz", "year%253D2025/a.gz"),
        ("%FF.gz", "%FF.gz"),
        ("\U0001f600 &?#.gz", "%F0%9F%98%80+%26%3F%23.gz"),
    ],
)
def test_a_key_is_the_objects_own_in_every_shape(key: str, encoded: str) -> None:
    """S3 encodes it as forms do; EventBridge and CloudTrail don't. The handler asks S3 for the same one."""
    prefix = f"AWSLogs/{ACCOUNT}/CloudTrail/"
    record = {**S3_RECORD, "s3": {"bucket": {"name": "b"}, "object": {"key": prefix + encoded, "sequencer": "1"}}}
    detail = {"bucket": {"name": "b"}, "object": {"key": prefix + key, "sequencer": "1"}}
    shapes = [{"Records": [record]}, {**BRIDGED, "detail": detail}, {"s3Bucket": "b", "s3ObjectKey": [prefix + key]}]
    for shape in shapes:
        for body in (json.dumps(shape), by_sns(json.dumps(shape)), json.dumps(shape, ensure_ascii=False)):
            event = only(body)
            assert event.partition_key == ACCOUNT
            assert event.event_id.startswith(f"b/{prefix}{key}#")
            assert log_object(json.loads(event.body)).key == prefix + key


@pytest.mark.parametrize(
    ("encoded", "year"), [("year%3D2025/a+b.gz", "2025"), ("year%3D20%2B25/a.gz", "20+25"), ("year=2025/a", "2025")]
)
def test_a_configured_path_sees_the_objects_own_key(encoded: str, year: str) -> None:
    """S3 encodes the sign in `year=2025/`: what is found is what is found through EventBridge. The body stays."""
    parser = Parser(Extraction(partition_key="s3.object.key | match(@, '(?:^|/)year=([^/]+)/')"))
    body = json.dumps({"Records": [{**S3_RECORD, "s3": {"bucket": {"name": "b"}, "object": {"key": encoded}}}]})
    (event,) = parser.parse(message(body))
    assert event.partition_key == year
    assert json.loads(event.body)["s3"]["object"]["key"] == encoded


def test_what_config_tells_of_no_account_has_the_resource_for_a_key() -> None:
    """A tenant's name in it comes before both."""
    item = {name: value for name, value in CONFIG_ITEM["configurationItem"].items() if name != "awsAccountId"}
    assert only(CONFIG_ITEM | {"configurationItem": item}).partition_key == "example-trail"
    assert only(CONFIG_ITEM | {"tenant": "acme"}).partition_key == "acme"


def test_an_items_changes_have_one_key() -> None:
    """In whatever order its primary key comes; a key that is too long for a partition key is not refused."""
    keys = {"PK": {"S": "order#7"}, "SK": {"S": "line#1"}}
    turned = dict(reversed(keys.items()))
    first, second = (only(STREAM_RECORD | {"dynamodb": {"Keys": each}}) for each in (keys, turned))
    assert first.partition_key == second.partition_key == "EventSourceTable/PK=order#7,SK=line#1"
    long = [only(STREAM_RECORD | {"dynamodb": {"Keys": {"PK": {"S": "x" * 2000 + end}}}}) for end in "ab"]
    assert len({event.partition_key for event in long}) == 2
    assert all(len(event.partition_key) <= MAX_KEY_BYTES for event in long)
    assert first.event_id == "1"


def test_a_cloud_event_is_known_by_source_and_id() -> None:
    """Two producers may number their events alike, and no two pairs make one id."""
    assert only(CLOUD_EVENT).event_id == "https://github.com/cloudevents/spec/pull#A234-1234-1234"
    pairs = [("a#b", "c"), ("a", "b#c"), ("a%23b", "c"), ("a%2523b", "c")]
    assert len({only(CLOUD_EVENT | {"source": s, "id": i}).event_id for s, i in pairs}) == len(pairs)


def test_a_cloud_event_without_a_partition_key_has_its_tenants_or_else_its_source() -> None:
    """Looked for in its data, then in its own members."""
    bare = {name: value for name, value in CLOUD_EVENT.items() if name != "partitionkey"}
    assert only(bare | {"data": {"tenant": "t"}, "tenant": "u"}).partition_key == "t"
    assert only(bare | {"tenant": "u"}).partition_key == "u"
    assert only(bare).partition_key == CLOUD_EVENT["source"]


@pytest.mark.parametrize("prefix", ["ce-", "ce_", "cloudEvents_", "Ce-", "cloudEvents-"])
def test_a_cloud_event_in_attributes_is_the_same_event(prefix: str) -> None:
    """The body is its data alone, whatever that is; SNS has the attributes inside its wrapping."""
    names = {f"{prefix}{name}": str(CLOUD_EVENT[name]) for name in ("specversion", "type", "source", "id")}
    event = only({"tenant": "t"}, **names)
    assert (event.event_id, event.partition_key) == (only(CLOUD_EVENT).event_id, "t")
    assert only({"x": 1}, **names).partition_key == CLOUD_EVENT["source"]
    keyed = {**names, f"{prefix}partitionkey": "acme"}
    assert only({"tenant": "t"}, **keyed).partition_key == "acme"
    assert only({"tenant": "t"}, **keyed, partition_key="p", event_id="i") == Event("i", "p", b'{"tenant": "t"}')
    wrapped = {name: {"Type": "String", "Value": value} for name, value in keyed.items()}
    assert only(by_sns('{"tenant": "t"}', MessageAttributes=wrapped)) == only({"tenant": "t"}, **keyed)


@pytest.mark.parametrize("change", [{"specversion": "0.3"}, {"id": ""}, {"source": None}, {"id": 7}], ids=repr)
def test_what_is_no_cloud_event_is_plain_json(change: dict[str, Any]) -> None:
    """It has no source and id that could be relied on, and is no error."""
    event = only(CLOUD_EVENT | change | {"tenant": "t"})
    assert event.partition_key == "t"
    assert "#" not in event.event_id
    attributes = named(**{**dict.fromkeys(("specversion", "type", "source", "id"), "1.0"), "id": ""})
    assert only({"tenant": "t"}, **attributes).event_id == "m-1"


def test_a_cloud_event_on_a_fifo_queue_keeps_its_partition_key() -> None:
    """The producer says it, as with an attribute; only without it does the message group count."""
    bare = {name: value for name, value in CLOUD_EVENT.items() if name != "partitionkey"}
    for body, key in ((CLOUD_EVENT, "acme"), (bare, "g")):
        (event,) = PARSER.parse(replace(message(body), group_id="g", dedup_id="d"))
        assert event.partition_key == key


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_snss_question_is_kept_whole_and_says_what_to_do(kind: str) -> None:
    """Nothing follows its link, and the dead letter has the token that a person needs."""
    asked = message(SUBSCRIPTION | {"Type": kind})
    with pytest.raises(UnconfirmedSubscriptionError, match="arn:aws:sns:us-west-2:123456789012:MyTopic") as caught:
        PARSER.parse(asked)
    assert "it is no event" in str(caught.value)
    assert "https:" not in str(caught.value)
    letter = of_message(asked, reason="malformed", error=str(caught.value), source="q", dead_at_ms=0)
    [draft] = to_drafts(letter)
    assert SUBSCRIPTION["Token"] in draft.body


def test_a_notification_of_a_members_kind_is_no_question() -> None:
    """`Type` may be anything in a producer's own JSON."""
    for kind in ("SubscriptionConfirmation", 5, None, {"a": [1]}):
        assert only({"Type": kind, "tenant": "t"}).partition_key == "t"
        assert only({"Type": kind, "Records": [S3_RECORD]}).partition_key == "amzn-s3-demo-bucket"
