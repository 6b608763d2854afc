"""No message is lost or changed on any way out: held, dead-lettered and redriven (benchmarks/ways_out.py: 100 000)."""

from __future__ import annotations

import json
from random import Random  # noqa: TID251 - seeded

import pytest
from msgspec.structs import replace

from router.core.errors import MalformedMessageError
from router.core.messages.origin import BODY, ORIGIN, body_of, origin_of
from router.core.messages.parser import Extraction, Parser, can_be_held, held_draft
from router.core.messages.proofs import believed
from router.core.models import Event, Message, Origin
from tests.support.attribute_keys import KEYS
from tests.support.fuzz_messages import WaysOut, read_again, received
from tests.support.strict_sqs import RefusedError, check_entry, entry_of

FULL = Origin(
    "first", 7, {"t": "x" * 9}, {"n": "Number", "b": "Binary"}, {"b": b"\xff\x00"}, "Root=1", "group", "dedup", True
)


@pytest.mark.parametrize("seed", range(8))
def test_every_message_that_sqs_takes_comes_back_as_it_was(seed: int) -> None:
    """Of every code point class, of 1 byte to 1 MiB, under limits of 256 KiB and 1 MiB, with attributes of all types.

    SQS would take whatever the router sends.
    """
    ways = WaysOut(Random(seed))
    for _ in range(40):
        ways.try_one()
    assert ways.counts["redriven"] == ways.counts["dead letters"] == ways.counts["messages"] + ways.counts["events"]
    assert ways.counts["held"]


def test_what_came_beside_an_event_is_held_with_it() -> None:
    """Again and again, in two attributes of the ten."""
    event = Event("e", "k", b'{"tenant": "k", "x": "' + "\uffff".encode() + b'"}', 2, (1,), (1,), (1, 2), origin=FULL)
    for _ in range(3):
        entry = entry_of(held_draft(event, 0, KEYS))
        check_entry(entry)
        assert read_again(entry) == event
        event = read_again(entry)
    assert len(entry["MessageAttributes"]) == 9
    assert "BinaryValue" in entry["MessageAttributes"][BODY]


def test_what_came_beside_an_event_is_kept_when_its_secret_is_replaced() -> None:
    """As its id and key are. In a message that was never held, such attributes are nobody's."""
    came = received(entry_of(held_draft(Event("e", "k", b'{"tenant": "k"}', 4, origin=FULL), 0, KEYS)))
    old = believed(replace(came, attributes={**came.attributes, "cellrouter.proof": "0" * 32}), KEYS)
    (event,) = Parser(Extraction()).parse(old)
    assert (event.attempt, origin_of(old)) == (1, FULL)
    other = replace(came, attributes={"x": "y"})
    assert believed(other, KEYS).binaries == {}


@pytest.mark.parametrize("changed", [b"", b"no zlib", b"\x78\x9c"])
def test_a_held_message_that_was_damaged_is_malformed(changed: bytes) -> None:
    """The reason names the attribute."""
    came = received(entry_of(held_draft(Event("e", "k", b"{}", origin=FULL), 0, KEYS)))
    with pytest.raises(MalformedMessageError, match=ORIGIN):
        origin_of(replace(came, binaries={ORIGIN: changed}))
    with pytest.raises(MalformedMessageError, match=BODY):
        body_of(replace(came, binaries={BODY: changed}))


def test_a_size_counts_names_types_and_values() -> None:
    """As SQS counts: an event that fits exactly is taken, and one that has a byte more is not."""
    event = Event("e", "k", b"x" * 1000, origin=FULL)
    draft = held_draft(event, 0, KEYS)
    assert check_entry(entry_of(draft)) == draft.size
    assert can_be_held(event, draft.size)
    with pytest.raises(RefusedError):
        check_entry(entry_of(draft), max_bytes=draft.size - 1)


def test_a_message_without_anything_beside_it_says_when_it_was_sent() -> None:
    """A time that can't be is left out: a cell would refuse it."""
    message = Message("m", "r", '{"tenant": "t"}', 5, 1)
    events = Parser(Extraction()).parse(message)
    assert origin_of(message, events) == Origin("m", 5, whole=True)
    assert origin_of(replace(message, sent_at_ms=-1), events).sent_at_ms == 0


def test_attributes_of_an_sns_notification_are_its_events() -> None:
    """As if SNS had delivered it raw. Those of the SQS message win, and what can't be an attribute is left out."""
    given = {
        "traceparent": {"Type": "String", "Value": "00-1-2-01"},
        "n": {"Type": "Number", "Value": "7"},
        "blob": {"Type": "Binary", "Value": "/wA="},
        "bad": {"Type": "Binary", "Value": "?"},
        "refused": {"Type": "String", "Value": "\ufffe"},
        "mine": {"Type": "String", "Value": "of SNS"},
    }
    body = json.dumps({"TopicArn": "a", "Message": '{"tenant": "t"}', "MessageAttributes": given})
    message = Message("m", "r", body, 5, 1, {"mine": "of SQS"})
    (event,) = Parser(Extraction()).parse(message)
    origin = origin_of(message, [event])
    assert origin.attributes == {"mine": "of SQS", "traceparent": "00-1-2-01", "n": "7"}
    assert (origin.binaries, origin.types["n"], origin.types["blob"]) == ({"blob": b"\xff\x00"}, "Number", "Binary")
    event = replace(event, origin=origin)
    assert read_again(entry_of(held_draft(event, 0, KEYS))) == event
    unwrapped = Message("m", "r", json.dumps({"tenant": "t", "MessageAttributes": given}), 5, 1)
    assert origin_of(unwrapped, Parser(Extraction()).parse(unwrapped)).attributes == {}
