"""Every kind of message that the parser understands, and how each event gets its key and its id."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.core.errors import ConfigError, MalformedMessageError
from router.core.messages.origin import origin_of
from router.core.messages.parser import ATTEMPT, KILLED, UNANSWERED, Extraction, Parser, held_draft
from router.core.models import Event, Message
from tests.support.attribute_keys import KEYS
from tests.support.paths import REPOSITORY

PARSER = Parser(Extraction())
ACCOUNT = "123456789012"
KEY = f"AWSLogs/{ACCOUNT}/CloudTrail/x.json.gz"
POINTER = '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]'


def message(body: str, **attributes: str) -> Message:
    """A message with this body."""
    return Message("m-1", "r-1", body, 0, 1, attributes)


def fifo(body: str, dedup_id: str = "d", group_id: str = "g", **attributes: str) -> Message:
    """A message of a FIFO queue."""
    return replace(message(body, **attributes), group_id=group_id, dedup_id=dedup_id)


def only(message: Message, parser: Parser = PARSER) -> Event:
    """The one event in the message."""
    (event,) = parser.parse(message)
    return event


def s3_record(key: str, bucket: str = "logs", name: str = "ObjectCreated:Put", **entity: Any) -> dict[str, Any]:
    """One record of a notification."""
    s3 = {"bucket": {"name": bucket}, "object": {"key": key, **entity}}
    return {"eventName": name, "eventTime": "2026-01-01T00:00:00.000Z", "s3": s3}


def notification(*records: Any) -> str:
    """S3's message for these records."""
    return json.dumps({"Records": records})


def sns(inner: str, **more: Any) -> str:
    """What SNS makes of a message without raw delivery."""
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": inner, **more})


def bridged(detail: Any, source: str = "shop", kind: str = "Order Placed", **more: Any) -> str:
    """An EventBridge event."""
    envelope = {"version": "0", "id": "bridge-1", "detail-type": kind, "source": source, "account": "999999999999"}
    return json.dumps({**envelope, "time": "2026-01-01T00:00:00Z", "detail": detail, **more})


def bridged_s3(key: str, bucket: str = "logs", kind: str = "Object Created", **entity: Any) -> str:
    """S3's event through EventBridge."""
    return bridged({"bucket": {"name": bucket}, "object": {"key": key, **entity}}, "aws.s3", kind)


def test_a_notification_has_an_event_for_each_record() -> None:
    """Each event has its own record as the body, byte for byte."""
    first, second = s3_record("AWSLogs/111111111111/a"), s3_record("AWSLogs/222222222222/b")
    events = PARSER.parse(message(json.dumps({"Records": [first, second]}, indent=1)))
    assert [event.partition_key for event in events] == ["111111111111", "222222222222"]
    assert [json.loads(event.body) for event in events] == [first, second]
    assert events[0].event_id != events[1].event_id


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        (KEY, ACCOUNT),
        (f"prefix%2Fof/AWSLogs/{ACCOUNT}/x", ACCOUNT),
        (f"some/prefix/AWSLogs/o-abc123/{ACCOUNT}/x", ACCOUNT),
        (f"AWSLogs/o-abc123/{ACCOUNT}/x", ACCOUNT),
        ("AWSLogs/12345678901/x", "logs"),
        ("AWSLogs/1234567890123/x", "logs"),
        ("AWSLogs/\u0661" + "1" * 11 + "/x", "logs"),
        (f"NotAWSLogs/{ACCOUNT}/x", "logs"),
        ("images/cat.jpg", "logs"),
        ("wrongly%FFencoded", "logs"),
        ("", "logs"),
    ],
)
def test_the_partition_key_of_an_object(key: str, partition: str) -> None:
    """It is the account in an AWSLogs/ path, else the bucket, and the same through EventBridge."""
    assert only(message(notification(s3_record(key)))).partition_key == partition
    if "%" not in key:
        assert only(message(bridged_s3(key))).partition_key == partition


@pytest.mark.parametrize(
    ("entity", "name"),
    [
        ({"sequencer": "0A"}, "b/k#0A."),
        ({"sequencer": "0A", "eTag": "e"}, "b/k#0A.e"),
        ({"sequencer": "0A", "eTag": "e", "versionId": "v"}, "b/k#v.e"),
        ({"sequencer": "0A", "versionId": "null"}, "b/k#0A."),
        ({"sequencer": "0A", "versionId": None, "eTag": None}, "b/k#0A."),
    ],
)
def test_the_id_of_an_object_is_of_its_version(entity: dict[str, Any], name: str) -> None:
    """S3 notifies at least once, so the id is that of the object's version, whichever way it came."""
    assert only(message(notification(s3_record("k", "b", **entity)))).event_id == name
    bridge_names = {"versionId": "version-id", "eTag": "etag", "sequencer": "sequencer"}
    detail = {bridge_names[key]: value for key, value in entity.items()}
    assert only(message(bridged_s3("k", "b", **detail))).event_id == name


def test_keys_are_url_encoded_in_notifications_only() -> None:
    """An object has the same id and key whether its name comes encoded or not."""
    encoded = only(message(notification(s3_record("a+b%2B/caf%C3%A9", sequencer="1"))))
    plain = only(message(bridged_s3("a b+/café", sequencer="1")))
    assert encoded.event_id == plain.event_id == "logs/a b+/café#1."
    assert only(message(bridged_s3("100%25+1", sequencer="1"))).event_id == "logs/100%25+1#1."


def test_what_happens_to_a_version_later_is_another_event() -> None:
    """Tags may be set twice on one version; only a repeated delivery has the same id."""

    def ids(*names: str) -> set[str]:
        return {
            only(message(notification(s3_record("k", name=name, versionId="v", eTag="e")))).event_id for name in names
        }

    assert ids("ObjectCreated:Put", "s3:ObjectCreated:Put", "") == {"logs/k#v.e"}
    assert len(ids("ObjectCreated:Put", "ObjectTagging:Put", "ObjectRestore:Completed", "ObjectTagging:Put")) == 3


def test_a_test_event_is_no_event() -> None:
    """S3 sends a test event when a notification is set up, through SNS too."""
    test = '{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}'
    assert PARSER.parse(message(test)) == PARSER.parse(message(sns(test))) == []


def test_an_sns_wrapping_is_taken_off() -> None:
    """The event inside the SNS notification counts, and becomes the body."""
    for inner in (notification(s3_record(KEY)), bridged_s3(KEY), '{"tenant": "t", "é\\n": "\\u00e9\\"Message\\""}'):
        assert PARSER.parse(message(sns(inner))) == PARSER.parse(message(inner))


def test_attributes_inside_the_sns_wrapping_name_an_event() -> None:
    """SNS puts attributes inside; the queue's own come first, and a publisher can't set the hold queue's attributes."""
    attributes = {
        "event_id": {"Type": "String", "Value": "i"},
        "partition_key": {"Type": "String", "Value": "p"},
        ATTEMPT: {"Type": "String", "Value": "7"},
    }
    body = sns("{}", MessageAttributes=attributes)
    assert only(message(body)) == Event("i", "p", b"{}")
    assert only(message(body, partition_key="q")).partition_key == "q"
    odds: list[Any] = [[], {"partition_key": 5}, {"partition_key": {"Value": 5}}]
    for odd in odds:
        assert only(message(sns('{"tenant": "t"}', MessageAttributes=odd))).partition_key == "t"


def test_an_eventbridge_event_keeps_its_envelope() -> None:
    """Its key is looked for in the detail, then in the envelope; its id is that of the envelope."""
    body = bridged({"tenant": "t", "id": "not this", "account": "nor this"})
    assert only(message(body)) == Event("bridge-1", "t", body.encode())
    assert only(message(bridged({"x": 1}))).partition_key == "999999999999"
    assert only(message(bridged("no object"))).partition_key == "999999999999"
    assert only(message(bridged({}, id=None))).event_id == "m-1"


def test_api_calls_on_s3_through_eventbridge_tell_of_no_object() -> None:
    """API calls come from aws.s3 too, by way of CloudTrail, but describe no object."""
    body = bridged({"eventName": "PutBucketPolicy"}, "aws.s3", "AWS API Call via CloudTrail")
    assert only(message(body)) == Event("bridge-1", "999999999999", body.encode())


def test_plain_json_by_the_default_order() -> None:
    """Without a configuration the members KEY_MEMBERS are looked for in order, and no member is taken for the id."""
    event = only(message('{"tenant": "t", "tenant_id": 7, "id": "e-1", "event_id": "e-2"}'))
    assert (event.partition_key, event.event_id) == ("7", "m-1")
    assert only(message('{"account": "a", "tenant": null, "tenant_id": ""}')).partition_key == "a"
    assert only(message('{"tenant": 0, "account": "a"}')) == Event("m-1", "0", b'{"tenant": 0, "account": "a"}')


def test_attributes_of_the_producer_come_first() -> None:
    """Message attributes win over what is in the body, whatever kind of message it is."""
    for body in ('{"tenant": "t"}', bridged({"tenant": "t"}), bridged_s3(KEY), notification(s3_record(KEY))):
        event = only(message(body, partition_key="p", event_id="i"))
        assert (event.partition_key, event.event_id) == ("p", "i")


def test_one_id_for_several_records_is_made_several() -> None:
    """With one id for all records, the cell would take all but the first for duplicates."""
    events = PARSER.parse(message(notification(s3_record("a"), s3_record("b")), event_id="i"))
    assert [event.event_id for event in events] == ["i#0", "i#1"]


def test_a_jmespath_of_ones_own() -> None:
    """A JMESPath may use match(), and works on S3 records and whole EventBridge envelopes too."""
    parser = Parser(Extraction("s3.object.key | match(@, 'tenants/([^/]+)/')", "s3.object.sequencer"))
    event = only(message(notification(s3_record("tenants/acme/x", sequencer="7"))), parser)
    assert (event.partition_key, event.event_id) == ("acme", "7")
    parser = Parser(Extraction('detail."tenant-id" || source', "detail.order"))
    assert only(message(bridged({"tenant-id": "t", "order": 5})), parser).event_id == "5"
    assert only(message(bridged_s3(KEY)), parser).partition_key == "aws.s3"


def test_what_a_jmespath_does_not_find_is_found_as_without_it() -> None:
    """Null and the empty text count as not found; the number 0 is found."""
    parser = Parser(Extraction("customer", "order"))
    event = only(message(notification(s3_record(KEY, sequencer="1"))), parser)
    assert (event.partition_key, event.event_id) == (ACCOUNT, f"logs/{KEY}#1.")
    assert only(message('{"customer": "", "tenant": "t"}'), parser).partition_key == "t"
    assert only(message('{"customer": 0, "tenant": "t"}'), parser).partition_key == "0"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a ||| b", "no JMESPath"),
        ("match(a, '(')", "no regular expression"),
        ("b || match(a, 'x+')", r"has no \(group\)"),
        ("map(&match(@, '['), a)", "no regular expression"),
    ],
)
def test_a_wrong_jmespath_is_wrong_at_once(path: str, reason: str) -> None:
    """A wrong expression is refused when the parser is made, not with the first message."""
    with pytest.raises(ConfigError, match=reason):
        Parser(Extraction(path))


@pytest.mark.parametrize("path", ["nosuch(a)", "length(n)", "max_by(l, &x)", "sum(l)", "match(n, '(x)')", "join(n, l)"])
def test_a_jmespath_that_does_not_fit_the_message_is_the_messages_fault(path: str) -> None:
    """Such a message goes to the dead-letter queue with the reason; it doesn't stop the router."""
    body = '{"a": "text", "b": "(", "n": 5, "l": [{"x": 1}, {"x": "a"}, null]}'
    with pytest.raises(MalformedMessageError, match="can't be applied"):
        Parser(Extraction(path)).parse(message(body))


def test_on_fifo_queues_the_group_is_the_key() -> None:
    """Order is kept by group, so the group wins over the body, but not over an attribute or a configured path."""
    assert only(fifo('{"tenant": "t"}')).partition_key == "g"
    assert only(fifo('{"tenant": "t"}', partition_key="p")).partition_key == "p"
    assert only(fifo(bridged({"tenant": "t"}))).partition_key == "g"
    assert only(fifo(notification(s3_record(KEY)))).partition_key == ACCOUNT
    assert only(fifo('{"tenant": "t"}'), Parser(Extraction("tenant"))).partition_key == "t"


def test_on_fair_queues_the_group_comes_last() -> None:
    """The group of a standard queue serves fairness among senders, so what the body says wins over it."""
    assert only(replace(message('{"tenant": "t"}'), group_id="g")).partition_key == "t"
    assert only(replace(message('{"x": 1}'), group_id="g")).partition_key == "g"


def test_one_event_that_a_pointer_led_to_keeps_the_pointer() -> None:
    """The event, even a large one, travels on as the pointer and comes back with its body."""
    body = json.dumps({"tenant": "t", "text": "x" * 2 * 1024 * 1024})
    event = only(replace(message(body), pointer=POINTER))
    assert (event.body, event.pointer) == (body.encode(), POINTER)
    draft = held_draft(event, 0, KEYS)
    assert draft.body == POINTER
    back = Message("m-2", "r", body, 0, 1, draft.attributes, pointer=POINTER)
    assert only(back) == event


def test_an_event_that_is_not_all_of_the_payload_travels_itself() -> None:
    """The pointer leads to more than the event, so the event itself has to fit in a message."""
    for body in (notification(s3_record(KEY)), sns('{"tenant": "t"}')):
        assert only(replace(message(body), pointer=POINTER)).pointer == ""
    large = notification({**s3_record(KEY), "more": "x" * 1024 * 1024})
    with pytest.raises(MalformedMessageError, match="an event has 1048"):
        PARSER.parse(replace(message(large), pointer=POINTER))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


generations = st.lists(st.integers(1, 10**15), max_size=8).map(tuple)


@given(texts, texts, st.integers(1, 99), generations, generations)
def test_an_event_survives_the_hold_queue(
    event_id: str, key: str, attempt: int, unanswered: tuple[int, ...], killed: tuple[int, ...]
) -> None:
    """An event survives the hold queue whatever characters its id and key have."""
    event = Event(event_id, key, b'{"a": [1, 2]}', attempt, unanswered, killed)
    draft = held_draft(event, 3, KEYS)
    assert PARSER.parse(Message("other", "r", draft.body, 0, 1, draft.attributes)) == [event]
    assert all(32 <= ord(character) < 127 for value in draft.attributes.values() for character in value)
    assert (UNANSWERED in draft.attributes) == bool(unanswered)
    assert (KILLED in draft.attributes) == bool(killed)


@given(texts, texts)
def test_a_held_message_has_the_group_of_its_key_and_of_no_other(key: str, other: str) -> None:
    """SQS takes it, whatever the key, and the group is a router's own: no producer has named it."""
    draft = held_draft(Event("e", key, b"{}"), 0, KEYS)
    assert draft.group_id is not None
    assert re.fullmatch("[0-9a-f]{32}", draft.group_id)
    assert (draft.group_id == held_draft(Event("f", other, b"{}"), 9, KEYS).group_id) == (key == other)
    came = Message("m", "r", draft.body, 0, 1, draft.attributes, draft.group_id)
    assert (only(came), origin_of(came).group_id) == (Event("e", key, b"{}"), "")


def test_a_held_body_is_not_looked_into() -> None:
    """Its key and id came as attributes, so a held body that looks like a notification is still one event."""
    for body in (json.dumps(s3_record(KEY)), '{"Event": "s3:TestEvent"}', '{"Records": 5}', "{}"):
        held = message(body, **{ATTEMPT: "2", "event_id": "i", "partition_key": "p"})
        assert only(held) == Event("i", "p", body.encode(), 2)


def test_the_examples_of_the_users_page_are_true() -> None:
    """Message, key and id, a row each."""
    page = (REPOSITORY / "docs" / "reference" / "events.md").read_text()
    rows = re.findall(r"^\| `(\{.*\})` \| `(.*)` \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 8
    for body, key, event_id in rows:
        event = only(replace(message(body), message_id="the message's id"))
        assert (event.partition_key, event.event_id) == (key, event_id.strip("`"))
