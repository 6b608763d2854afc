"""An event's id is of the event: two events of one thing have two, and two deliveries of one event have one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from router.core.messages.parser import Extraction, Parser
from router.core.models import Message

PARSER = Parser(Extraction())


def sent(body: Any, message_id: str = "m-1", **attributes: str) -> Message:
    """A message with this body; the queue gives each its own id, and the same again to a second delivery."""
    return Message(message_id, "r-1", json.dumps(body), 0, 1, attributes)


def ids(*messages: Message, parser: Parser = PARSER) -> list[str]:
    """The ids of the messages' events."""
    return [event.event_id for message in messages for event in parser.parse(message)]


def each_sent(*bodies: Any) -> list[Message]:
    """A message for each body."""
    return [sent(body, f"m-{number}") for number, body in enumerate(bodies)]


def s3_record(name: str = "ObjectCreated:Put", request: str | None = None, **entity: Any) -> dict[str, Any]:
    """A record of an S3 notification about one and the same object."""
    when = {"eventTime": "2026-01-01T00:00:00.000Z"}
    said = {"responseElements": {"x-amz-request-id": request, "x-amz-id-2": "x"}} if request else {}
    return {"eventName": name, **when, **said, "s3": {"bucket": {"name": "b"}, "object": {"key": "k", **entity}}}


def bridged(kind: str, envelope_id: str, **entity: Any) -> dict[str, Any]:
    """An event of S3 through EventBridge about one and the same object, in one and the same second."""
    detail = {"bucket": {"name": "b"}, "object": {"key": "k", **entity}}
    envelope = {"id": envelope_id, "source": "aws.s3", "detail-type": kind, "time": "2026-01-01T00:00:00Z"}
    return {**envelope, "account": "999999999999", "detail": detail}


@pytest.mark.parametrize("member", ["id", "event_id", "order_id"])
def test_five_updates_of_an_order_are_five_events(member: str) -> None:
    """What a body calls the thing that it is about is no event's id, whatever the member's name."""
    updates = [{"tenant": "t", member: "order-7", "state": state} for state in range(5)]
    assert ids(*each_sent(*updates)) == [f"m-{number}" for number in range(5)]


def test_a_deduplication_id_that_is_used_again_later_is_another_event() -> None:
    """SQS takes it for a name for five minutes. Whatever it has delivered as another message is another event."""
    updates = [replace(each, group_id="g", dedup_id="order-7") for each in each_sent(*[{"state": 1}] * 3)]
    assert ids(*updates) == ["m-0", "m-1", "m-2"]


def test_who_names_events_in_the_body_says_where() -> None:
    """A configured path finds the id, and what has none there is known by its message."""
    parser = Parser(Extraction(event_id="meta.event"))
    bodies = ({"tenant": "t", "meta": {"event": "e-1"}}, {"tenant": "t", "id": "e-2"})
    assert ids(*each_sent(*bodies), parser=parser) == ["e-1", "m-1"]


def test_a_cloud_event_is_known_by_its_source_and_its_id() -> None:
    """An id of CloudEvents counts within its source only, and no two pairs make the same id."""
    pairs = [("a", "b#c"), ("a#b", "c"), ("a%23b", "c"), ("a", "b"), ("b", "b")]
    made = ids(
        *each_sent(*({"specversion": "1.0", "type": "x", "source": s, "id": i, "tenant": "t"} for s, i in pairs))
    )
    assert len(set(made)) == len(pairs)
    assert made[3] == "a#b"
    again = sent({"specversion": "1.0", "type": "x", "source": "a", "id": "b", "tenant": "t", "data": 1}, "m-9")
    assert ids(again) == ["a#b"]
    for wrong in ({"source": "a"}, {"id": "b"}, {"source": "", "id": "b"}, {"source": 5, "id": "b"}):
        assert ids(sent({"specversion": "1.0", "type": "x", "tenant": "t", **wrong})) == ["m-1"]


@pytest.mark.parametrize("entity", [{}, {"eTag": "e"}, {"versionId": "null"}, {"sequencer": None, "eTag": None}])
def test_an_object_that_no_version_names_is_known_by_its_message(entity: dict[str, Any]) -> None:
    """A backfill of the same objects a second time is processed a second time; a second delivery is not."""
    first, second = each_sent(*[{"Records": [s3_record(**entity), s3_record(**entity)]}] * 2)
    assert ids(first) == ids(replace(first, receipt="r-2")) == ["m-0#0", "m-0#1"]
    assert ids(second) == ["m-1#0", "m-1#1"]
    assert ids(sent({"Records": [s3_record(**entity)]})) == ["m-1"]
    named = {"versionId": "version-id", "eTag": "etag", "sequencer": "sequencer"}
    created = bridged("Object Created", "bridge-1", **{named[name]: value for name, value in entity.items()})
    assert ids(sent(created)) == ["bridge-1"]


def test_two_tag_changes_of_an_object_in_one_second_are_two_events() -> None:
    """Through EventBridge the envelope's id tells them apart, in a notification the request's."""
    tagged = [bridged("Object Tags Added", f"bridge-{number}", **{"version-id": "v"}) for number in (1, 2, 2)]
    assert ids(*each_sent(*tagged)) == ["bridge-1", "bridge-2", "bridge-2"]
    made = ids(*each_sent(*({"Records": [s3_record("ObjectTagging:Put", r, versionId="v")]} for r in ("r1", "r2"))))
    assert len(set(made)) == 2
    again = ids(sent({"Records": [s3_record("ObjectTagging:Put", "r2", versionId="v")]}, "m-9"))
    assert again == made[1:]


def test_what_happened_at_no_time_is_known_by_its_message() -> None:
    """Without a time and a request two tag changes can't be told apart otherwise."""
    record = s3_record("ObjectTagging:Put", versionId="v")
    del record["eventTime"]
    assert ids(*each_sent({"Records": [record]}, {"Records": [record]})) == ["m-0", "m-1"]


def test_an_object_that_is_put_again_is_another_event() -> None:
    """S3 names each put by its sequencer or its version, also when the content is the same."""
    puts = [s3_record(sequencer=number, eTag="e") for number in ("0A", "0B", "0A")]
    first, second, again = ids(*each_sent(*({"Records": [put]} for put in puts)))
    assert first == again == "b/k#0A.e"
    assert second == "b/k#0B.e"
