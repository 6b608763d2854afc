"""The envelope keeps everything and always fits; and what is decided about an entry."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from hashlib import sha256, shake_256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.messages.dead_letter import (
    DEDUP_MS,
    MAX_BODY_BYTES,
    DeadLetter,
    Entry,
    Filter,
    destination,
    entries,
    from_body,
    incomplete,
    of_event,
    of_message,
    parse_duration,
    read,
    redrive_draft,
    to_drafts,
)
from router.core.messages.parser import ATTEMPT, Extraction, Parser
from router.core.messages.parts import Parts
from router.core.messages.sqs_text import group_of
from router.core.models import MAX_MESSAGE_BYTES, DeadLetterReason, Event, Message
from tests.support.attribute_keys import KEYS

MESSAGE = Message("m", "r", '{"a": "b"}', 5, 1, {"trace": "t"})
POINTER = '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]'
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
BODY = st.dictionaries(NAME, st.integers() | TEXT).map(json.dumps)


def entry(body: str = "{}", **more: Any) -> Entry:
    """An entry that died at 10 000 ms."""
    fields: dict[str, Any] = {
        "reason": "rejected",
        "error": "no such rule",
        "source": "q",
        "message_id": "m",
        "sent_at_ms": 5,
        "dead_at_ms": 10_000,
        "body": body,
    } | more
    return Entry(Message("entry", "r", "", 10_000, 1), DeadLetter(**fields))


def event_entry(**more: Any) -> Entry:
    """An entry of one event."""
    return entry(**({"event_id": "e", "partition_key": "k", "cell_id": "cell-0001"} | more))


def test_an_envelope_keeps_everything() -> None:
    """The envelope of an event has reason, error, cell, generation, attempts, times, body, attributes and group."""
    letter = of_event(
        Event("e", "k", b'{"x":1}', 4),
        Message("m", "r", '{"a": "b"}', 5, 1, {"trace": "t"}, group_id="g"),
        reason="max_attempts",
        error="ValueError: no",
        source="q",
        dead_at_ms=9,
        cell_id="cell-0001",
        generation=2,
    )
    assert from_body(to_drafts(letter)[0].body) == letter
    assert (letter.attempts, letter.body, letter.attributes) == (4, '{"x":1}', {"trace": "t"})
    assert letter.group_id == "g"


def test_a_body_of_a_mebibyte_still_fits() -> None:
    """JSON inside JSON grows; a body that no longer fits is compressed."""
    body = json.dumps({"text": '"\\' * 260_000})
    letter = of_message(
        Message("m", "r", body, 5, 1), reason="malformed", error="x" * 100_000, source="q", dead_at_ms=9
    )
    (draft,) = to_drafts(letter)
    assert draft.size <= MAX_MESSAGE_BYTES
    assert json.loads(draft.body)["body_encoding"] == "gzip+base64"
    assert from_body(draft.body).body == body


@pytest.mark.parametrize("max_bytes", [1024 * 1024, 256 * 1024, 1024])
def test_what_hardly_compresses_is_cut_into_parts(max_bytes: int) -> None:
    """They come in any order, and one of them twice; of all of them the entry is deleted."""
    letter = of_message(
        Message("m", "r", b64encode(shake_256().digest(786_000)).decode(), 5, 1, {"quotes": '"' * 50_000}),
        reason="malformed",
        error="\ud800\uffff",
        source="q",
        dead_at_ms=9,
    )
    drafts = to_drafts(letter, max_bytes)
    assert len(drafts) > 1
    assert max(draft.size for draft in drafts) <= max_bytes
    assert all(draft.attributes == {"reason": "malformed"} for draft in drafts)
    messages = [Message(f"d{number}", "r", draft.body, 9, 1) for number, draft in enumerate(drafts)]
    parts = Parts()
    assert entries([messages[-1], *messages[-1:0:-1]], parts) == []
    (found,) = entries(messages[:1], parts)
    assert found.letter == letter
    assert sorted(m.message_id for m in found.messages) == sorted(m.message_id for m in [*messages, messages[-1]])
    assert incomplete(parts) == []


def test_parts_whose_others_are_missing_are_shown_as_such() -> None:
    """Each is an entry by itself, which an operator can drop, and none is taken for something foreign."""
    long = of_message(
        Message("m", "r", b64encode(shake_256().digest(3000)).decode(), 5, 1),
        reason="malformed",
        error="x",
        source="q",
        dead_at_ms=9,
    )
    drafts = to_drafts(long, 1024)
    parts = Parts()
    assert entries([Message("d", "r", draft.body, 7, 1) for draft in drafts[1:]], parts) == []
    found = incomplete(parts)
    assert {each.letter.reason for each in found} == {DeadLetterReason.INCOMPLETE}
    assert f"part 2 of {len(drafts)}" in found[0].letter.error


def test_a_forged_part_is_no_part() -> None:
    """Numbers that can't be make a foreign entry, and parts that make no envelope do so together."""
    part = {"part": 2, "parts": 1, "letter": "0" * 32, "data": "x"}
    for changed in ({}, {"part": 0}, {"parts": 10**9}, {"letter": ""}, {"data": None}):
        text = json.dumps(part | changed, separators=(",", ":"))
        (found,) = entries([Message("d", "r", text, 7, 1)], Parts())
        assert found.letter.reason == DeadLetterReason.FOREIGN
    text = json.dumps(part | {"part": 1}, separators=(",", ":"))
    (found,) = entries([Message("d", "r", text, 7, 1)], Parts())
    assert found.letter.reason == DeadLetterReason.FOREIGN


def test_of_an_event_with_a_pointer_the_pointer_is_kept() -> None:
    """An envelope holds the pointer and not the body, which may be larger than any queue takes."""
    event = Event("e", "k", b'{"large":1}', pointer=POINTER)
    letter = of_event(event, MESSAGE, reason="rejected", error="x", source="q", dead_at_ms=9)
    assert (letter.body, letter.pointer) == ("", POINTER)
    draft = redrive_draft(read(Message("entry", "r", to_drafts(letter)[0].body, 9, 1)), "q", KEYS, 10)
    assert draft.body == POINTER


def test_of_a_message_with_a_pointer_the_pointer_is_kept() -> None:
    """A message that holds no event keeps its pointer too."""
    message = Message("m", "r", "fetched", 5, 1, {"ExtendedPayloadSize": "7"}, pointer=POINTER)
    letter = of_message(message, reason="malformed", error="x", source="q", dead_at_ms=9)
    assert (letter.body, letter.pointer) == ("", POINTER)
    draft = redrive_draft(read(Message("entry", "r", to_drafts(letter)[0].body, 9, 1)), "q", KEYS, 10)
    assert (draft.body, draft.attributes) == (POINTER, {"ExtendedPayloadSize": "7"})


@given(body=BODY, event_id=NAME, key=NAME)
def test_a_redriven_event_is_the_same_event_again(body: str, event_id: str, key: str) -> None:
    """After a redrive the parser finds the same id, key and body, before the first attempt."""
    died = Event(event_id, key, body.encode(), attempt=5, unanswered=(3, 4))
    letter = of_event(died, MESSAGE, reason="max_attempts", error="x", source="q", dead_at_ms=9)
    draft = redrive_draft(read(Message("entry", "r", to_drafts(letter)[0].body, 9, 1)), "q", KEYS, 10)
    assert draft.attributes[ATTEMPT] == "1"
    again = Parser(Extraction()).parse(Message("new", "r", draft.body, 10, 1, draft.attributes))
    assert again == [Event(event_id, key, body.encode())]
    assert (draft.delay_s, draft.group_id, draft.dedup_id) == (0, group_of(key), None)


@given(body=TEXT, attributes=st.dictionaries(NAME, NAME))
def test_a_redriven_message_is_what_it_was(body: str, attributes: dict[str, str]) -> None:
    """A whole message is redriven with its body, attributes and group unchanged."""
    message = Message("m", "r", body, 5, 1, attributes, group_id="tenant-1")
    letter = of_message(message, reason="malformed", error="x", source="q", dead_at_ms=9)
    draft = redrive_draft(read(Message("entry", "r", to_drafts(letter)[0].body, 9, 1)), "q", KEYS, 10)
    assert (draft.body, draft.attributes, draft.group_id, draft.dedup_id) == (body, attributes, "tenant-1", None)


@given(key=NAME, group=st.text(max_size=200), event_id=st.text(max_size=200))
def test_a_fifo_queue_gets_a_group_and_a_deduplication_id(key: str, group: str, event_id: str) -> None:
    """A FIFO queue takes groups of at most 128 visible ASCII characters, so others are hashed."""
    for each in (entry(event_id=event_id, partition_key=key, group_id=group), entry(group_id=group)):
        draft = redrive_draft(each, "q.fifo", KEYS, 10)
        for name in (draft.group_id, draft.dedup_id):
            assert name
            assert len(name) <= 128
            assert all("!" <= char <= "~" for char in name)


def test_the_group_is_the_original_one_or_else_the_key() -> None:
    """Events that one group kept in order stay in one group."""
    assert redrive_draft(event_entry(group_id="g"), "q.fifo", KEYS, 10).group_id == "g"
    assert redrive_draft(event_entry(), "q.fifo", KEYS, 10).group_id == "k"


def test_each_death_has_its_own_deduplication_id() -> None:
    """A repeated redrive of one death has the same id; a later death of the same event has another."""
    first, again, later, other = [
        redrive_draft(event_entry(event_id=event_id, dead_at_ms=dead_at_ms), "q.fifo", KEYS, 10).dedup_id
        for event_id, dead_at_ms in [("e", 1), ("e", 1), ("e", 2), ("f", 1)]
    ]
    assert first == again
    assert len({first, later, other}) == 3


def test_an_original_deduplication_id_comes_back_when_sqs_has_forgotten_it() -> None:
    """Sooner, SQS would take the message and deliver nothing; so it would to events that were one message."""
    letter = {"dedup_id": "d", "group_id": "g", "dead_at_ms": 10_000}
    whole, part = event_entry(**letter, whole=True), event_entry(**letter)
    assert redrive_draft(whole, "q.fifo", KEYS, 10_000 + DEDUP_MS).dedup_id == "d"
    assert redrive_draft(whole, "q.fifo", KEYS, 9_999 + DEDUP_MS).dedup_id != "d"
    assert redrive_draft(part, "q.fifo", KEYS, 10_000 + DEDUP_MS).dedup_id != "d"
    hashed = entry("body", whole=True, dedup_id=sha256(b"body").hexdigest())
    assert redrive_draft(hashed, "q.fifo", KEYS, 10_000 + DEDUP_MS).dedup_id != hashed.letter.dedup_id


def is_ours(queue: str, cell_id: str) -> bool:
    """The environment's own queues are the source and the hold queue of the cell."""
    return queue in ("home", f"{cell_id}-hold")


@pytest.mark.parametrize(
    ("source", "cell_id", "expected"),
    [
        ("home", "", "home"),
        ("cell-0001-hold", "cell-0001", "home"),
        ("cell-0001-hold", "cell-0002", "cell-0001-hold"),
        ("another", "cell-0001", "another"),
        ("", "", "home"),
    ],
)
def test_an_entry_goes_back_to_its_source(source: str, cell_id: str, expected: str) -> None:
    """An entry goes to the queue that it names; from a hold queue or no queue, to the source queue."""
    assert destination(entry(source=source, cell_id=cell_id).letter, "home", is_ours) == expected


def packed(raw: bytes, **more: object) -> str:
    """An envelope with a packed body."""
    letter = of_message(MESSAGE, reason="malformed", error="x", source="q", dead_at_ms=9)
    fields = json.loads(to_drafts(letter)[0].body) | {"body": b64encode(raw).decode(), "body_encoding": "gzip+base64"}
    return json.dumps(fields | more)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        "1",
        "[" * 100_000,
        '{"Records": []}',
        packed(b"no gzip"),
        packed(gzip.compress(b"x" * 100, mtime=0)[:-12]),
        packed(gzip.compress(b"x" * (MAX_BODY_BYTES + 1), mtime=0)),
        packed(gzip.compress(b"\xff", mtime=0)),
        packed(b"", body=7),
        packed(b"", body="ä"),
        packed(b"", body_encoding="rot13"),
        packed(b"", body_encoding=[]),
        packed(gzip.compress(b"x", mtime=0), attempts="many"),
    ],
    ids=lambda body: body[:20] or "empty",
)
def test_what_is_in_no_envelope_is_foreign(body: str) -> None:
    """A message in no envelope is read as a foreign letter, dead since it came, and goes back unchanged."""
    found = read(Message("entry", "r", body, 77, 1, {"a": "b"}, group_id="g"))
    assert (found.letter.reason, found.letter.dead_at_ms, found.name) == (DeadLetterReason.FOREIGN, 77, "entry")
    draft = redrive_draft(found, "q", KEYS, 10)
    assert (draft.body, draft.attributes, draft.group_id) == (body, {"a": "b"}, "g")


@given(TEXT | BODY | st.binary().map(packed))
def test_reading_never_raises(body: str) -> None:
    """Any text in the queue can be read."""
    assert read(Message("entry", "r", body, 77, 1)).message.body == body


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), True),
        (Filter(reason="rejected"), True),
        (Filter(reason="reject"), False),
        (Filter(key="k"), True),
        (Filter(key=""), False),
        (Filter(cell="cell-0001"), True),
        (Filter(cell="cell-0002"), False),
        (Filter(event="e"), True),
        (Filter(event="f"), False),
        (Filter(source="q"), True),
        (Filter(source="p"), False),
        (Filter(error="such"), True),
        (Filter(error="Such"), False),
        (Filter(older_than_s=4), True),
        (Filter(older_than_s=5), False),
        (Filter(newer_than_s=6), True),
        (Filter(newer_than_s=5), False),
        (Filter(any_id="e"), True),
        (Filter(any_id="m"), True),
        (Filter(any_id="entry"), True),
        (Filter(any_id="k"), False),
        (Filter(reason="rejected", key="other"), False),
    ],
)
def test_a_filter_means_what_fulfils_all_of_it(where: Filter, expected: bool) -> None:
    """Every filter is asked five seconds after the death."""
    assert where.matches(event_entry(), 15_000) is expected


def test_times_beyond_all_bounds_are_no_trouble() -> None:
    """In a forged envelope the fields may be anything."""
    assert Filter(newer_than_s=1).matches(entry(dead_at_ms=10**400), 0)
    assert Filter(older_than_s=1).matches(entry(dead_at_ms=-(10**400)), 0)


def test_only_a_filter_without_anything_is_empty() -> None:
    """A filter with a limit alone is not empty; nor is one with an empty text."""
    assert Filter().is_empty
    assert not Filter(limit=1).is_empty
    assert not Filter(key="").is_empty


def test_a_filter_in_words() -> None:
    """The question before a drop names the filter in words."""
    assert str(Filter()) == "everything"
    text = str(Filter(reason="rejected", error="no rule", older_than_s=60, limit=3))
    assert text == "reason 'rejected', 'no rule' in its error, dead for more than 60 s, at most 3 of them"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1w", 604_800), ("1d12h", 129_600), (" 2H ", 7200)],
)
def test_durations(text: str, seconds: int) -> None:
    """Durations are written as people write them."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-2h", "2h1d", "1.5h", "٢h", "9999999999s", "2h\n2h"])
def test_what_is_no_duration_is_said(text: str) -> None:
    """The error shows how to write a duration."""
    with pytest.raises(ValueError, match="write 90s"):
        parse_duration(text)
