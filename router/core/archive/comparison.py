"""What became of the same events in two environments, and in what that differs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from router.core.archive.records import ArchivedEvent
from router.core.models import Outcome

SLOWER: Final = 2.0
"""An event is slower when it takes so many times as long"""
SLOWER_S: Final = 0.05
"""and so many seconds more."""


class Name(NamedTuple):
    """By what an event is known."""

    partition_key: str
    event_id: str


class Ending(NamedTuple):
    """How an event ended in one environment."""

    outcome: Outcome
    why: str  # it is dead-lettered; empty: it is not
    emitted: int  # lines
    digest: str  # of these
    latency_s: float
    at_ms: int
    duplicate: bool


class Difference(StrEnum):
    """In what an event's two endings differ."""

    OUTCOME = "outcome"
    LINES = "lines"
    NOT_ENDED = "not ended"  # there is no ending yet in the environment that it was replayed into
    NOT_RUN = "not run again"  # its cell had done it in an earlier replay
    NONE = "same"


class Row(msgspec.Struct, frozen=True):
    """One event with its two endings."""

    partition_key: str
    event_id: str
    difference: Difference
    live: Ending
    replayed: Ending | None


@dataclass(slots=True)
class Endings:
    """How events ended in one environment, each with its last ending that counts."""

    of: dict[Name, Ending] = field(default_factory=dict)

    def add(self, record: ArchivedEvent) -> None:
        """Take one more line of the archive. That it was done before counts only where there is no other."""
        name, ending = Name(record.partition_key, record.event_id), ending_of(record)
        known = self.of.get(name)
        if known is None or (known.duplicate, -known.at_ms) >= (ending.duplicate, -ending.at_ms):
            self.of[name] = ending


def ending_of(record: ArchivedEvent) -> Ending:
    """Return how an event ended, by its line in the archive."""
    why = f"{record.dead_letter}: {record.error}" if record.dead_letter else ""
    return Ending(
        record.outcome,
        why,
        record.emitted,
        record.emitted_digest,
        record.latency_s,
        record.ended_at_ms,
        record.duplicate,
    )


def difference(live: Ending, replayed: Ending | None) -> Difference:
    """Say in what two endings of one event differ; why it failed is no difference of its own."""
    if replayed is None:
        return Difference.NOT_ENDED
    if replayed.duplicate:
        return Difference.NOT_RUN
    if live.outcome is not replayed.outcome:
        return Difference.OUTCOME
    same = (live.emitted, live.digest) == (replayed.emitted, replayed.digest)
    return Difference.NONE if same else Difference.LINES


class Comparison(msgspec.Struct, frozen=True):
    """What a replay has shown, as people and programs read it."""

    environment: str
    events: int
    counts: Mapping[Difference, int]
    outcomes: Mapping[str, int]  # of those that differ in it, such as `failed → ok`
    slower: int
    latency_s: Mapping[str, tuple[float, float]]  # p50 and p99, live and replayed, of events done in both
    rows: Sequence[Row]  # each event that differs

    @property
    def differs(self) -> bool:
        """Whether any event ended otherwise, or did not."""
        return bool(self.rows)

    def lines(self, most: int) -> list[str]:
        """Tell it to a person, with so many of the events that differ."""
        told = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count)
        lines = [f"{self.events} events in {self.environment}: {told or 'none'}"]
        lines += [f"  {count:>8}  {change}" for change, count in self.outcomes.items()]
        if self.latency_s:
            quantiles = (f"{name} {1000 * a:.1f} → {1000 * b:.1f} ms" for name, (a, b) in self.latency_s.items())
            lines.append(f"latency, live → {self.environment}: {', '.join(quantiles)}; slower: {self.slower}")
        lines += [_told(row) for row in self.rows[:most]]
        if (left := len(self.rows) - most) > 0:
            lines.append(f"… and {left} more: --report FILE has all of them")
        return lines


def compare(environment: str, live: Mapping[Name, Ending], replayed: Mapping[Name, Ending]) -> Comparison:
    """Hold how events ended live against how they ended where they were replayed."""
    counts: Counter[Difference] = Counter()
    outcomes: Counter[str] = Counter()
    rows, pairs = [], []
    for name, before in live.items():
        after = replayed.get(name)
        found = difference(before, after)
        counts[found] += 1
        if found is not Difference.NONE:
            rows.append(Row(*name, found, before, after))
        if after is not None and found is Difference.OUTCOME:
            outcomes[f"{before.outcome} → {after.outcome}"] += 1
        if after is not None and not after.duplicate and before.outcome is after.outcome is Outcome.OK:
            pairs.append((before.latency_s, after.latency_s))
    slower = sum(after > before * SLOWER and after > before + SLOWER_S for before, after in pairs)
    order = list(Difference)
    rows.sort(key=lambda row: (order.index(row.difference), row.partition_key, row.live.at_ms))
    counted = {kind: counts[kind] for kind in reversed(order)}
    return Comparison(environment, len(live), counted, dict(outcomes.most_common()), slower, _quantiles(pairs), rows)


def _quantiles(pairs: Sequence[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    if not pairs:
        return {}
    before, after = (sorted(side) for side in zip(*pairs, strict=True))
    at = {"p50": len(pairs) // 2, "p99": min(len(pairs) - 1, len(pairs) * 99 // 100)}
    return {name: (before[place], after[place]) for name, place in at.items()}


def _told(row: Row) -> str:
    named = f"{row.difference}: {row.partition_key} {row.event_id}"
    live, replayed = row.live, row.replayed
    if replayed is None or row.difference is Difference.NOT_RUN:
        return f"{named}: {live.outcome}"
    if row.difference is Difference.LINES:
        return f"{named}: {live.emitted} → {replayed.emitted} lines"
    why = live.why or replayed.why
    return f"{named}: {live.outcome} → {replayed.outcome}{f' ({why:.120})' if why else ''}"


def endings(records: Iterable[ArchivedEvent]) -> dict[Name, Ending]:
    """Return how events ended, by their names."""
    found = Endings()
    for record in records:
        found.add(record)
    return found.of
