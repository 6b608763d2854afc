"""What goes into an object of the archive comes out of it, and each event has one place."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from router.adapters.archive_files import records_of
from router.core.archive.objects import RANGES, ArchivePart, OpenObject, by_part, object_key, part_of
from router.core.archive.records import ArchivedEvent, EndedEvent, body_of, lines_of, record_of
from router.core.models import DeadLetterReason, Death, Event, Origin, Outcome, Result
from router.core.slot_map.slots import SLOTS, slot_of
from tests.support.archives import labels_of, read_lines

OK = Result(0, Outcome.OK)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
origins = st.builds(
    Origin,
    message_id=texts,
    sent_at_ms=st.integers(0, 2**53),
    attributes=st.dictionaries(texts, texts, max_size=3),
    types=st.dictionaries(texts, texts, max_size=3),
    binaries=st.dictionaries(texts, st.binary(max_size=20), max_size=3),
    trace_header=texts,
    group_id=texts,
    dedup_id=texts,
    whole=st.booleans(),
)
bodies = st.builds(
    lambda text, indent, around: (
        around + json.dumps({"text": text, "n": [1.50, {}]}, indent=indent) + around
    ).encode(),
    texts,
    st.sampled_from([None, 2]),
    st.sampled_from(["", " ", "\r\n"]),
)
events = st.builds(
    Event,
    event_id=texts,
    partition_key=texts,
    body=bodies,
    attempt=st.integers(1, 100),
    pointer=st.just("") | texts,
    origin=st.none() | origins,
)
deaths = st.builds(
    Death,
    reason=st.sampled_from([DeadLetterReason.REJECTED, DeadLetterReason.MAX_ATTEMPTS, DeadLetterReason.KILLED_CELL]),
    error=st.text(max_size=40),  # it may be no text: half of a surrogate pair
    cell_id=st.just("cell-0001"),
    generation=st.integers(0, 9),
    dead_at_ms=st.just(0),
)
ends = st.tuples(events, st.none() | deaths, st.integers(1_700_000_000_000, 1_700_000_300_000))


def ended(event: Event, death: Death | None, now_ms: int) -> EndedEvent:
    """Return an event that ends at that time, 1.5 s after it was sent to its cell and 2 s after it was received."""
    return EndedEvent(event, "cell-0001", 3, now_ms / 1000 - 2, now_ms / 1000 - 1.5, now_ms / 1000, OK, death)


@given(st.lists(ends, max_size=20), st.integers(1, 5))
def test_what_goes_in_comes_out(given_ends: Sequence[tuple[Event, Death | None, int]], chunk: int) -> None:
    """Line by line, whatever the texts are and however the records come, by zstd and JSON alone."""
    entry, number = OpenObject("key"), 0
    for start in range(0, len(given_ends), chunk):
        records = [record_of(ended(*each), 0.0001) for each in given_ends[start : start + chunk]]
        entry.add(lines_of(records), len(records))
        number += len(records)
    stored = entry.end()
    found = read_lines(stored) if number else []
    again = [each for each in records_of(stored) if isinstance(each, ArchivedEvent)]
    assert [body_of(each) for each in again] == [b"" if each.pointer else each.body for each, *_ in given_ends]
    assert len(found) == entry.events == number
    for (event, death, now_ms), line in zip(given_ends, found, strict=True):
        origin = event.origin or Origin()
        assert (line["event_id"], line["partition_key"]) == (event.event_id, event.partition_key)
        held = line.get("body") or json.loads(line.get("body_text", "null"))
        assert (held, line.get("pointer", "")) == ((None if event.pointer else json.loads(event.body)), event.pointer)
        assert line["ended_at_ms"] == now_ms
        assert line["received_at_ms"] == now_ms - 2000
        assert line["dispatched_at_ms"] == now_ms - 1500
        assert abs(line.get("latency_s", 0.0) - (1.5 if death is None else 0.0)) < 1e-5
        assert line.get("attempt", 1) == event.attempt
        dead = "rejected" if death and death.reason is DeadLetterReason.REJECTED else "failed"
        assert line["outcome"] == (dead if death else "ok")
        assert line.get("dead_letter", "") == (death.reason.value if death else "")
        binaries = {name: base64.b64decode(value) for name, value in line.get("binaries", {}).items()}
        kept = {**line, "binaries": binaries}
        for name in ("message_id", "sent_at_ms", "attributes", "types", "binaries", "group_id", "dedup_id", "whole"):
            assert kept.get(name, getattr(Origin(), name)) == getattr(origin, name), name


def test_every_slot_has_one_range_and_every_minute_one_folder() -> None:
    """The names of the ranges cover all slots without a gap, and names sort by time and slot."""
    covered: list[int] = []
    for range_ in range(RANGES):
        first, last = map(int, ArchivePart(0, range_).slots.split("-"))
        covered += range(first, last + 1)
    assert covered == list(range(SLOTS))
    keys = [object_key("live", ArchivePart(minute, range_), "r", 1) for minute in range(130) for range_ in (0, 9, 15)]
    assert keys == sorted(keys)


@given(st.lists(ends, max_size=30))
def test_a_record_lies_where_its_name_says(given_ends: Sequence[tuple[Event, Death | None, int]]) -> None:
    """Its slot is in the range, its end in the minute; none is in two parts, and each part keeps the order."""
    records = [record_of(ended(*each), 0.0001) for each in given_ends]
    parts = by_part(records)
    assert sorted(map(id, (each for found in parts.values() for each in found))) == sorted(map(id, records))
    for part, found in parts.items():
        labels = labels_of(object_key("live", part, "host/1/ab c", 7))
        first, last = map(int, labels["slots"].split("-"))
        for each in found:
            at = datetime.fromtimestamp(each.ended_at_ms / 1000, UTC)
            assert (labels["date"], labels["hour"], labels["minute"]) == (f"{at:%Y-%m-%d}", f"{at:%H}", f"{at:%M}")
            assert first <= slot_of(each.partition_key) <= last
        assert found == [each for each in records if part_of(each) == part]


def test_the_schema_is_what_the_page_says() -> None:
    """A field that is added or renamed belongs in docs/reference/archive.md; a renamed one in a new version."""
    from tests.support.paths import REPOSITORY  # noqa: PLC0415 - of this test alone

    page = (REPOSITORY / "docs" / "reference" / "archive.md").read_text()
    fields = [each.encode_name for each in msgspec.structs.fields(ArchivedEvent)]
    listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert listed == fields
