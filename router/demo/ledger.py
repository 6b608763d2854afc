"""The demo's ledger: what became of every file, by what lies in the cells' buckets and in the dead-letter queue.

It trusts no counter of the software under test. Each processed event left a receipt in its cell's bucket, and each dead
letter names its object. A file that was sent and has neither is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from router.core.models import Reason


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of all the files that were sent: the keys of `demo --json`."""

    sent: int
    processed: int  # objects with a receipt
    duplicates: int  # objects whose effects were committed a second time
    dead_lettered: int
    lost: int
    keys_moved: int  # partition keys that more than one cell has processed
    replaced_in_s: float | None  # from the kill to the replacement serving; None: nothing was killed
    slow_replaced_in_s: float | None  # from the fault to the replacement serving; None: no cell was slowed down
    never_replaced: Sequence[str]  # cells that were made to fail, and for which nothing came in time
    first_event_s: float | None  # from the demo's start to the first processed event; None: no event was processed
    findings: Mapping[str, int]  # by rule id

    def to_json(self) -> dict[str, Any]:
        """Return the ledger as a dictionary that JSON can hold."""
        return asdict(self)


@dataclass(slots=True)
class Evidence:
    """Gathers lines of the sinks and dead letters, as they come; counts a line once that a sink delivers twice."""

    sent: dict[str, str] = field(default_factory=dict)  # object → partition key
    files: dict[str, Path] = field(default_factory=dict)  # object → the user's own file that it is a copy of
    titles: dict[str, str] = field(default_factory=dict)  # rule id → title
    _receipts: dict[str, dict[str, str]] = field(default_factory=dict)  # object → processing id → cell
    _findings: dict[str, str] = field(default_factory=dict)  # finding id → rule id
    _dead: dict[str, Reason] = field(default_factory=dict)  # by object

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Note a line of a sink, unless it is about an object that this run did not send."""
        location = line.get("object")
        if location not in self.sent:
            return
        if line["type"] == "receipt":
            self._receipts.setdefault(location, {})[line["processing_id"]] = line["cell_id"]
        elif line["type"] == "finding":
            self._findings[line["id"]] = line["rule_id"]
            self.titles[line["rule_id"]] = line["rule"]

    def add_dead_letter(self, location: str, reason: Reason) -> None:
        """Note a dead letter, unless it is about an object that this run did not send."""
        if location in self.sent:
            self._dead[location] = reason

    def settled(self) -> int:
        """Count the objects that have a receipt or a dead letter."""
        return len(self._receipts.keys() | self._dead.keys())

    def processed(self) -> int:
        """Count the objects that have a receipt."""
        return len(self._receipts)

    def missing(self) -> list[str]:
        """List the objects that have neither a receipt nor a dead letter, in order of their locations."""
        return sorted(self.sent.keys() - self._receipts.keys() - self._dead.keys())

    def dead_letters(self) -> Mapping[str, Reason]:
        """Return the reason of each object's dead letter by the object's location."""
        return self._dead

    def told_dead_letters(self) -> list[str]:
        """Say of each dead letter why it is one; of copies of a user's own file once, by the file's name."""
        copies: dict[str, list[str]] = {}
        for location in self._dead:
            copies.setdefault(str(self.files.get(location, location)), []).append(location)
        return [
            f"dead-lettered {name}{f' ({len(same)} copies)' if len(same) > 1 else ''}: {self._dead[same[0]]}"
            for name, same in sorted(copies.items())
        ]

    def told_missing(self, most: int) -> list[str]:
        """Name so many of the objects that are missing, each with the user's own file that it is a copy of."""
        return [
            f"LOST {location}" + (f", a copy of {file}" if (file := self.files.get(location)) else "")
            for location in self.missing()[:most]
        ]

    def ledger(
        self,
        *,
        replaced_in_s: float | None = None,
        slow_replaced_in_s: float | None = None,
        never_replaced: Sequence[str] = (),
        first_event_s: float | None = None,
    ) -> Ledger:
        """Add up what is known so far. The times are the caller's, in seconds."""
        return Ledger(
            sent=len(self.sent),
            processed=self.processed(),
            duplicates=sum(len(runs) - 1 for runs in self._receipts.values()),
            dead_lettered=len(self._dead),
            lost=len(self.missing()),
            keys_moved=sum(len(cells) > 1 for cells in self._cells_by_key().values()),
            replaced_in_s=replaced_in_s,
            slow_replaced_in_s=slow_replaced_in_s,
            never_replaced=never_replaced,
            first_event_s=first_event_s,
            findings=dict(sorted(Counter(self._findings.values()).items())),
        )

    def _cells_by_key(self) -> Mapping[str, set[str]]:
        cells: dict[str, set[str]] = {}
        for location, runs in self._receipts.items():
            cells.setdefault(self.sent[location], set()).update(runs.values())
        return cells


def differences(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Name each rule that has not as many findings as expected, with both numbers, in order of the rules' ids."""
    return [
        f"{rule}: {found.get(rule, 0)} findings, {expected.get(rule, 0)} expected"
        for rule in sorted(expected.keys() | found.keys())
        if expected.get(rule, 0) != found.get(rule, 0)
    ]


def total(counters: Iterable[Mapping[str, int] | None]) -> Counter[str] | None:
    """Add up the findings of several files by rule; None when those of one file are not known."""
    result: Counter[str] = Counter()
    for counter in counters:
        if counter is None:
            return None
        result.update(counter)
    return result
