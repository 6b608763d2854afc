"""A message that holds no event has a reason for people; it never crashes the parser or spoils a batch."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cell_worker.contract import protocol
from router.core.errors import MalformedMessageError
from router.core.messages.parser import ATTEMPT, UNANSWERED, Extraction, Parser
from router.core.messages.strict_json import MAX_DEPTH, depth_exceeds
from router.core.models import Event, Message

PARSER = Parser(Extraction())
PARSERS = [
    PARSER,
    Parser(Extraction("tenant")),
    Parser(Extraction("s3.object.key | match(@, '^([^/]*)/')", "s3.bucket.name")),
]
GOOD = '{"s3":{"bucket":{"name":"b"},"object":{"key":"k","sequencer":"1"}}}'
POINTER = '["com.amazon.sqs.javamessaging.MessageS3Pointer",{"s3BucketName":"b","s3Key":"k"}]'
MIB = 1024 * 1024


def message(body: str, **attributes: str) -> Message:
    """A message with this body."""
    return Message("m-1", "r-1", body, 0, 1, attributes)


def records(*raw: str) -> str:
    """A notification with these records."""
    return f'{{"Records":[{",".join(raw)}]}}'


def record(*, bucket: str = '"name":"b"', entity: str = '"key":"k"', more: str = "") -> str:
    """A record whose objects have these members, which may be there twice."""
    return f'{{"s3":{{"bucket":{{{bucket}}},"object":{{{entity}}}}}{more}}}'


def sns(inner: Any, **more: Any) -> str:
    """What SNS makes of a message."""
    return json.dumps({"TopicArn": "arn", "Message": inner, **more})


NO_TEXT = [
    ("", "the body is empty"),
    (" \n\t", "the body is empty"),
    ("\x00\x01", "not JSON: .*invalid character"),
    ("\x1f\x8b\x08\x00", "not JSON"),
    ('{"tenant": "a\x07"}', "not JSON: .*invalid character"),
    ("\ufeff{}", "not JSON"),
    ("hello", "not JSON"),
    ("<Error/>", "not JSON"),
    ('{"tenant": "a"', "not JSON"),
    ('{"tenant": "a"} {}', "not JSON: .*trailing"),
    ("{'tenant': 'a'}", "not JSON"),
    ('{"tenant": "a\ud800"}', "the body is no text: it holds half of a surrogate pair"),
    ('{"tenant": "a\\ud800"}', r"the body is no text: a \\u escape in it is half of a surrogate pair"),
    ('{"tenant": "a", "x": [NaN]}', "not JSON: it holds NaN"),
    ('{"tenant": "a", "x": -Infinity}', "not JSON: it holds -Infinity"),
    ('{"tenant": "a", "x": 1e999}', "can't be read: Number out of range"),
    ('{"tenant": "a", "x": ' + "9" * 5000 + "}", "can't be read: Integer value out of range"),
    ('{"tenant": "' + "k" * MIB + '"}', "has 1048590 bytes, more than 1048576"),
    ('{"a":' * 2000 + "1" + "}" * 2000, "too deeply: more than 500"),
    ('{"a":' * 100_000 + "1" + "}" * 100_000, "too deeply: more than 500"),
    ("[" * 200_000, "too deeply"),
    ('{"a":"\\"[[", "b":' + "[" * 600 + "]" * 600 + "}", "too deeply"),
    ('{"Records":' + "[" * 600 + "]" * 600 + "}", "too deeply"),
]
NO_EVENT = [
    ("[1]", "JSON but not an object"),
    ('"text"', "JSON but not an object"),
    ("5", "JSON but not an object"),
    ("null", "JSON but not an object"),
    (POINTER, "the body is an S3 pointer, not resolved"),
    ('{"x": 1}', "no partition key found: send a message attribute"),
    ('{"tenant": null}', "no partition key found"),
    ('{"tenant": ""}', "no partition key found"),
    ('{"tenant": {"a": 1}}', "partition key is neither text nor a whole number: {'a': 1}"),
    ('{"tenant": ["a"]}', "partition key is neither text nor a whole number"),
    ('{"tenant": []}', "partition key is neither text nor a whole number"),
    ('{"tenant": true}', "partition key is neither text nor a whole number: True"),
    ('{"tenant": 1.0}', "partition key is neither text nor a whole number: 1.0"),
    ('{"tenant": "' + "k" * 1025 + '"}', "partition key is longer than 1024 bytes"),
    ('{"tenant": "' + "é" * 513 + '"}', "partition key is longer than 1024 bytes"),
    ('{"tenant": "' + "k" * (MIB - 20) + '"}', "partition key is longer than 1024 bytes"),
    ('{"tenant": ' + "9" * 4000 + "}", "partition key is (longer|neither)"),
    (
        '{"tenant": "t", "specversion": "1.0", "type": "x", "source": "s", "id": "' + "i" * 9000 + '"}',
        "event id is longer than 8192",
    ),
]
NO_NOTIFICATION = [
    ('{"Records": 5}', "no S3 notification, though it has Records: they are no list"),
    ('{"Records": {}}', "no S3 notification"),
    ('{"Records": []}', "list of Records is empty"),
    (records('{"a": 1}'), "number 1 of 1 is none: .*`s3`"),
    (records("5"), "number 1 of 1 is none: Expected `object`"),
    (records(GOOD, '{"s3":{"bucket":{}}}', GOOD), "number 2 of 3 is none"),
    (records(GOOD, '{"dynamodb": {}}'), "number 2 of 2 is none"),
    (records(record(entity='"key":5')), r"Expected `str`, got `int` - at `\$.s3.object.key`"),
    (records(record(more=',"eventName":5')), "number 1 of 1 is none"),
    (records(record(bucket='"name":""')), "no partition key found"),
    (records(record(bucket=f'"name":"{"b" * 2000}"')), "partition key is longer"),
    (records(record(entity=f'"key":"{"k" * 9000}","sequencer":"0A"')), "event id is longer"),
    (f'{{"Records":[{GOOD}', "not JSON"),
    ('{"detail-type": "Object Created", "source": "aws.s3", "detail": {"bucket": {}}}', "names no object"),
    ('{"detail-type": "Object Created", "source": "aws.s3", "detail": 5}', "names no object"),
    ('{"detail-type": "x", "detail": {"tenant": 1.5}}', "partition key is neither"),
    ('{"detail-type": "x", "detail": {}, "id": {}, "account": "a"}', "event id is neither"),
]
NO_SNS = [
    (sns("hello"), "the Message of the SNS notification is not JSON"),
    (sns(""), "the Message of the SNS notification is empty"),
    (sns("[1]"), "the Message of the SNS notification is JSON but not an object"),
    (sns("5"), "the Message of the SNS notification is JSON but not an object"),
    (sns(5), "the Message of the SNS notification is no text"),
    (sns({"tenant": "t"}), "the Message of the SNS notification is no text"),
    (sns(sns('{"tenant": "t"}')), "is itself an SNS notification"),
    (sns(sns("x")), "is itself an SNS notification"),
    (sns(POINTER), "an S3 pointer, inside an SNS notification: turn raw message delivery on"),
    (sns("[" * 3000), "the Message of the SNS notification is nested too deeply"),
    (sns('{"tenant":"t","tenant":"u"}'), "the Message of the SNS notification is ambiguous"),
]


@pytest.mark.parametrize(
    ("body", "reason"), [*NO_TEXT, *NO_EVENT, *NO_NOTIFICATION, *NO_SNS], ids=lambda text: text[:40]
)
def test_nonsense_has_a_reason(body: str, reason: str) -> None:
    """Nonsense raises MalformedMessageError with a sentence for people, short enough to be read."""
    with pytest.raises(MalformedMessageError, match=reason) as caught:
        PARSER.parse(message(body))
    assert len(str(caught.value)) < 400


TWICE = [
    '{"tenant":"a","tenant":"b"}',
    '{"tenant":"a","x":{"y":1,"z":2,"y":1}}',
    '{"tenant":"a","t\\u0065nant":"b"}',
    '{"tenant":"a","x":[{"y":1,"y":2}]}',
    '{"detail-type":"x","detail":{"tenant":"a"},"detail":{"tenant":"b"}}',
    '{"Event":"s3:TestEvent","tenant":"t","Event":"x"}',
    sns('{"tenant":"a"}')[:-1] + ',"Message":"{}"}',
    sns('{"tenant":"a"}')[:-1] + ',"M\\u0065ssage":"{}"}',
    sns("{}", MessageAttributes={})[:-1] + ',"MessageAttributes":{"partition_key":{"Value":"b"}}}',
    '{"TopicArn":"x","Message":"{}","MessageAttributes":{"partition_key":{"Value":"a","Value":"b"}}}',
    '{"Records":[],"Records":[' + GOOD + "]}",
    '{"Records":0,"Records":[' + GOOD + "]}",
    '{"Records":[' + GOOD + '],"Records":[' + GOOD + "," + GOOD + "]}",
    '{"Record\\u0073":[],"Records":[' + GOOD + "]}",
    records(GOOD, GOOD[:-1] + ',"s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}'),
    records('{"s3":{"bucket":{"name":"a"},"bucket":{"name":"b"},"object":{"key":"k"}}}'),
    records('{"s3":{"bucket":{"name":"a"},"object":{"key":"k"},"object":{"key":"l"}}}'),
    records(record(bucket='"name":"a","name":"b"')),
    records(record(bucket='"name":"a", "name" :"a"')),
    records(record(entity='"key":"a","key":"b"')),
    records(record(entity='"key":"a","k\\u0065y":"b"')),
    records(record(entity='"key":"a","versionId":"1","versionId":"2"')),
    records(record(entity='"key":"a","sequencer":"1","sequencer":null')),
    records(GOOD, record(entity='"key":"a","eTag":"1","eTag":"2"')),
]


@pytest.mark.parametrize("body", TWICE)
def test_a_member_that_is_there_twice_is_ambiguous(body: str) -> None:
    """Of two members one parser takes the first, another the last, so router and handler could see different values."""
    for parser in PARSERS:
        with pytest.raises(MalformedMessageError, match=r"ambiguous: an object has the member '.*' twice"):
            parser.parse(message(body))


@pytest.mark.parametrize(
    "body",
    [
        '{"Records":[],"Records":5}',
        '{"Records":[' + GOOD + '],"R\\u0065cords":[]}',
        '{"Records":[{"s3":{"bucket":{"name":"a"},"object":5,"object":{"key":"l"}}}]}',
        '{"Records":[{"s3":null,"s3":{"bucket":{"name":"a"},"object":{"key":"l"}}}]}',
        '{"Records":[{"s3":{"object":{},"object":{"key":"l"},"bucket":{"name":"a"}}}]}',
        '{"TopicArn":"t","Message":5,"Message":"{}"}',
    ],
)
def test_two_of_which_one_is_wrong_are_wrong(body: str) -> None:
    """A message with two faults is refused for the one that is found first."""
    with pytest.raises(MalformedMessageError):
        PARSER.parse(message(body))


def test_the_same_name_in_different_objects_is_not_ambiguous() -> None:
    """A value that looks like a name is not ambiguous either; such bodies are decoded, and pass."""
    odd = record(bucket='"name":"key"', entity='"key":"name","eTag":"\\"key\\"","x":{"key":"k"}', more=',"name":"x"')
    (event,) = PARSER.parse(message(records(odd)))
    assert (event.partition_key, event.body) == ("key", odd.encode())


OURS = {ATTEMPT: "1", "event_id": "e", "partition_key": "p"}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({ATTEMPT: "1"}, f"attribute {ATTEMPT} but none named event_id"),
        ({ATTEMPT: "1", "event_id": "e"}, f"attribute {ATTEMPT} but none named partition_key"),
        *(
            (OURS | {ATTEMPT: wrong}, f"attribute {ATTEMPT}")
            for wrong in ("x", "", "0", "-1", "+1", " 1", "1_0", "\u0661", "1.0", "1,2", "9" * 19, "9" * 5000, "01")
        ),
        *(
            (OURS | {UNANSWERED: wrong}, f"attribute {UNANSWERED}")
            for wrong in ("x", "", "3,", ",3", "3, 4", "0", "-3", "9" * 19, ",".join(["7"] * 101), "3;4")
        ),
        (OURS | {"event_id": ""}, "event id is empty"),
        (OURS | {"event_id": "%41" * 9000}, "event id is longer"),
        (OURS | {"partition_key": ""}, "no partition key"),
        (OURS | {"partition_key": "\ud800"}, "partition key is no text"),
        ({"event_id": "\ud800", "partition_key": "p"}, "event id is no text"),
        ({"partition_key": "p" * 1025}, "partition key is longer"),
    ],
)
def test_wrong_attributes_have_a_reason(attributes: dict[str, str], reason: str) -> None:
    """Wrong attributes may be a producer's, or come from someone who wrote into the hold queue."""
    with pytest.raises(MalformedMessageError, match=reason):
        PARSER.parse(Message("m", "r", "{}", 0, 1, attributes))


@pytest.mark.parametrize(
    "body", ["", "x", "[]", "5", '{"a":', '{"a":NaN}', "[" * 2000, '{"a":' * 600 + "1" + "}" * 600]
)
def test_a_held_body_is_checked_too(body: str) -> None:
    """Any sender may put the hold queue's attributes on a message of the source queue."""
    with pytest.raises(MalformedMessageError):
        PARSER.parse(Message("m", "r", body, 0, 1, OURS))


def nested(depth: int) -> str:
    """A body that is nested to this depth."""
    return '{"tenant":"[[{{","x":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def test_a_body_may_be_nested_as_deeply_as_the_limit_says() -> None:
    """A worker can still decode such a body, even from deep in its own stack."""
    (event,) = PARSER.parse(message(nested(MAX_DEPTH)))
    batched(event)
    with pytest.raises(MalformedMessageError, match="too deeply"):
        PARSER.parse(message(nested(MAX_DEPTH + 1)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(json_values, st.integers(0, 5))
@example(json.loads(nested(9)), 9)
@example('["{', 1)
@example({"\\": '"['}, 1)
def test_the_depth_is_the_depth(value: Any, limit: int) -> None:
    """Brackets inside texts don't count as nesting."""

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert depth_exceeds(json.dumps(value).encode(), limit) == (depth(value) > limit)
    assert depth_exceeds(json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace"), limit) == (
        depth(value) > limit
    )


NAMES = st.sampled_from(
    [
        *(
            "Records",
            "s3",
            "bucket",
            "name",
            "object",
            "key",
            "versionId",
            "sequencer",
            "eTag",
            "tenant",
            "id",
            "Event",
        ),
        *("TopicArn", "Message", "MessageAttributes", "partition_key", "Value", "detail", "detail-type", "source"),
    ]
)


class Pairs(dict[str, Any]):
    """An object with members that may be there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__({"": pairs} if pairs else {})  # so that json.dumps sees an object that isn't empty
        self._pairs = pairs

    def items(self) -> Any:
        return self._pairs


loose = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["aws.s3", "Object Created"]),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(NAMES | st.text(), children, max_size=5)
        | st.lists(st.tuples(NAMES, children), max_size=5).map(Pairs)
    ),
    max_leaves=25,
)


s3_like = st.fixed_dictionaries(
    {
        "bucket": st.fixed_dictionaries({"name": st.text(max_size=5)}),
        "object": st.fixed_dictionaries({"key": st.text()}),
    }
)
shaped = (
    st.lists(st.fixed_dictionaries({"s3": s3_like}, optional={"x": loose}), max_size=3).map(lambda r: {"Records": r})
    | st.fixed_dictionaries({"tenant": st.text() | st.integers()}, optional={"x": loose, "id": loose})
    | s3_like.map(lambda detail: {"detail-type": "Object Created", "source": "aws.s3", "detail": detail})
    | st.fixed_dictionaries({"detail-type": st.text(), "detail": loose, "account": st.text()})
)
dumped = st.builds(json.dumps, loose | shaped, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 1]))
bodies = dumped | dumped.map(sns) | st.text(st.characters(exclude_categories=[])) | st.just(nested(MAX_DEPTH))
attribute_texts = st.text(st.characters(exclude_categories=[])) | st.integers().map(str)
attribute_names = st.sampled_from([ATTEMPT, UNANSWERED, "event_id", "partition_key"]) | st.text(max_size=3)
attributes_of_any_kind: st.SearchStrategy[dict[str, str]] = (
    st.just({}) | st.dictionaries(attribute_names, attribute_texts, max_size=5) | st.just(OURS)
)


def batched(*events: Event) -> protocol.EventBatch:
    """What a worker reads of the batch that a router sends."""
    wire = [protocol.WireEvent(e.event_id, e.partition_key, e.attempt, msgspec.Raw(e.body)) for e in events]
    sent = msgspec.json.encode(protocol.EventBatch("cell-0000", 1, 1, 60.0, wire))
    return msgspec.json.decode(sent, type=protocol.EventBatch)


@given(bodies, attributes_of_any_kind, st.sampled_from(PARSERS), st.sampled_from([None, "g"]), st.none() | st.just("d"))
@example(GOOD, {}, PARSER, None, None)
@example(records(GOOD), OURS | {UNANSWERED: "3,4"}, PARSER, None, None)
def test_every_body_is_events_for_a_worker_or_a_reason(
    body: str, attributes: dict[str, str], parser: Parser, group_id: str | None, dedup_id: str | None
) -> None:
    """No body raises another exception, and an accepted body leaves its neighbours in a batch whole."""
    try:
        events = parser.parse(Message("m", "r", body, 0, 1, attributes, group_id, dedup_id))
    except MalformedMessageError:
        return
    neighbour = Event("n", "k", b'{"a": 1}')
    batch = batched(neighbour, *events, neighbour)
    assert [bytes(wire.body) for wire in batch.events] == [b'{"a": 1}', *(e.body.strip() for e in events), b'{"a": 1}']
    assert all(isinstance(json.loads(event.body), dict) for event in events)
    assert all(event.partition_key and event.event_id for event in events)
