"""What is replayed, in which order, and as which message; and what two endings of an event differ in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from msgspec.structs import replace

from router.core.archive.comparison import Difference, Ending, Name, compare, difference, endings
from router.core.archive.objects import MINUTE_MS
from router.core.archive.records import ArchivedEvent
from router.core.archive.replay import Checkpoint, Selection, due_s, in_order, replay_draft
from router.core.messages.origin import origin_of
from router.core.messages.parser import Extraction, Parser
from router.core.messages.proofs import believed
from router.core.models import MAX_MESSAGE_BYTES, Message, Outcome
from tests.support.attribute_keys import KEYS

RECORD = ArchivedEvent("e1", "acme", 7, Outcome.OK, "cell-0001", 3, 1000, 900, body=Raw(b'{"a": 1}'))
times = st.integers(0, 5000)


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), times), max_size=8), max_size=4))
def test_events_come_in_the_order_in_which_they_ended(objects: Sequence[Sequence[tuple[str, int]]]) -> None:
    """Over all objects, and so for each key; none is left out."""
    streams = [
        [replace(RECORD, partition_key=key, ended_at_ms=at) for key, at in sorted(each, key=lambda pair: pair[1])]
        for each in objects
    ]
    found = [(each.partition_key, each.ended_at_ms) for each in in_order(streams)]
    assert [at for _, at in found] == sorted(at for each in objects for _, at in each)
    assert sorted(found) == sorted(pair for each in objects for pair in each)


@pytest.mark.parametrize("body", ['{"n": 1, "text": "é\\u2028"}', '{\n "n": 1\n}'])
@pytest.mark.parametrize("fifo", [False, True])
def test_an_event_comes_as_it_once_came(body: str, *, fifo: bool) -> None:
    """Id, key, body and all beside it, byte for byte, with its first attempt before it."""
    one_line = "\n" not in body
    record = replace(
        RECORD,
        body=Raw(body.encode()) if one_line else UNSET,
        body_text="" if one_line else body,
        attempt=5,
        attributes={"a": "1"},
        types={"a": "Number"},
        binaries={"b": b"\xff"},
        trace_header="Root=1",
        message_id="m",
        sent_at_ms=5,
    )
    draft = replay_draft(record, "run", KEYS, MAX_MESSAGE_BYTES, fifo=fifo)
    message = Message("new", "r", draft.body, 9, 1, draft.attributes, types=draft.types, binaries=draft.binaries)
    message = believed(message, KEYS)
    (event,) = Parser(Extraction()).parse(message)
    origin = origin_of(message, [event])
    assert (event.event_id, event.partition_key, event.body, event.attempt) == ("e1", "acme", body.encode(), 1)
    assert (origin.attributes, origin.types, origin.binaries) == ({"a": "1"}, {"a": "Number"}, {"b": b"\xff"})
    assert (origin.message_id, origin.sent_at_ms, draft.trace_header) == ("m", 5, "Root=1")
    again = replay_draft(record, "run", KEYS, MAX_MESSAGE_BYTES, fifo=fifo)
    other = replay_draft(record, "other run", KEYS, MAX_MESSAGE_BYTES, fifo=fifo)
    assert draft.group_id == again.group_id is not None
    assert (draft.dedup_id == again.dedup_id, draft.dedup_id == other.dedup_id) == (True, not fifo)


def test_a_selection_takes_what_all_its_conditions_fit() -> None:
    """What a cell knew already is no ending; the end of the time is not included."""
    where = Selection(1000, 2000)
    assert where.takes(RECORD)
    assert not where.takes(replace(RECORD, ended_at_ms=2000))
    assert not where.takes(replace(RECORD, duplicate=True))
    fit = Selection(1000, 2000, frozenset(["acme"]), frozenset(["cell-0001"]), frozenset([Outcome.OK]))
    assert fit.takes(RECORD)
    for other in ({"partition_key": "other"}, {"cell": "cell-0002"}, {"outcome": Outcome.FAILED}):
        assert not fit.takes(replace(RECORD, **other))
    assert where.name not in (fit.name, Selection(1000, 2001).name)
    assert where.name == Selection(1000, 2000).name
    assert list(Selection(MINUTE_MS - 1, MINUTE_MS + 1).minutes()) == [0, 1]
    assert list(Selection(0, MINUTE_MS).minutes()) == [0]
    assert due_s(replace(RECORD, ended_at_ms=21_000), where, 10.0) == 2.0
    assert due_s(RECORD, where, None) == 0.0


def test_a_checkpoint_counts_within_its_minute() -> None:
    """The next minute begins at its first event; the count of all goes on."""
    at = Checkpoint("s", "replay", 0, 5).after(10).after(3)
    assert (at.minute, at.sent_of_minute, at.sent) == (5, 13, 13)
    assert (at.at_minute(6).sent_of_minute, at.at_minute(6).sent) == (0, 13)


def ending(
    outcome: Outcome = Outcome.OK, digest: str = "d", latency_s: float = 0.1, *, duplicate: bool = False
) -> Ending:
    """Return how an event ended."""
    why = "" if outcome is Outcome.OK else "max_attempts: KeyError"
    return Ending(outcome, why, 1 if digest else 0, digest, latency_s, 1000, duplicate)


def test_what_differs_is_told_event_by_event_and_nothing_else_is() -> None:
    """Outcome before lines; how long it took is counted, and no difference by itself."""
    assert difference(ending(), ending(latency_s=9)) is Difference.NONE
    assert difference(ending(), ending(digest="other")) is Difference.LINES
    assert difference(ending(Outcome.FAILED, ""), ending()) is Difference.OUTCOME
    assert difference(ending(), None) is Difference.NOT_ENDED
    assert difference(ending(), ending(digest="", duplicate=True)) is Difference.NOT_RUN
    live = {Name("acme", f"e{number}"): ending() for number in range(98)}
    live |= {Name("acme", "bad"): ending(Outcome.FAILED, ""), Name("acme", "lost"): ending()}
    replayed = {**live, Name("acme", "bad"): ending(), Name("acme", "e5"): ending(latency_s=0.9)}
    del replayed[Name("acme", "lost")]
    found = compare("replay", live, replayed)
    assert [(row.event_id, row.difference) for row in found.rows] == [
        ("bad", Difference.OUTCOME),
        ("lost", Difference.NOT_ENDED),
    ]
    assert {kind: count for kind, count in found.counts.items() if count} == {
        Difference.NONE: 98,
        Difference.OUTCOME: 1,
        Difference.NOT_ENDED: 1,
    }
    assert found.outcomes == {"failed → ok": 1}
    assert found.slower == 1
    assert found.latency_s == {"p50": (0.1, 0.1), "p99": (0.1, 0.9)}
    assert found.differs
    assert not compare("replay", live, live).differs
    text = "\n".join(found.lines(1))
    assert "outcome: acme bad: failed → ok (max_attempts: KeyError)" in text
    assert "… and 1 more" in text


def test_the_last_ending_counts_and_a_repeat_only_without_another() -> None:
    """A dead letter that was redriven has ended well; that its cell knew an event says nothing of how it ended."""
    dead = replace(RECORD, outcome=Outcome.FAILED, dead_letter="max_attempts", ended_at_ms=1000)
    done, known = replace(RECORD, ended_at_ms=2000), replace(RECORD, duplicate=True, ended_at_ms=3000)
    for order in ([dead, done, known], [known, done, dead]):
        (found,) = endings(order).values()
        assert (found.outcome, found.duplicate) == (Outcome.OK, False)
    (only,) = endings([known]).values()
    assert only.duplicate
