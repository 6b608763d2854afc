"""The demo's ledger, made of what lies at the far end: the cells' own buckets and the dead-letter queue.

It trusts no counter of the software under test. Each processed event left a receipt in its cell's bucket, each dead
letter names its object; what was sent and is in neither is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ledger:
    """What came of everything sent. The keys of `--json`."""

    sent: int
    processed: int  # objects with a receipt
    duplicates: int  # objects whose effects were committed a second time
    dead_lettered: int
    lost: int
    keys_moved: int  # partition keys that more than one cell has processed
    replaced_in_s: float | None  # from the kill to the replacement serving; None: nothing was killed
    slow_replaced_in_s: float | None  # from a cell's getting slow to its replacement serving; None: none got slow
    first_event_s: float | None  # from the start to the first event processed
    findings: Mapping[str, int]  # by rule id

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(slots=True)
class Evidence:
    """Lines of the sinks and dead letters, as they come. A line may come twice: lines have ids, as sinks need them."""

    sent: dict[str, str] = field(default_factory=dict)  # object → partition key
    titles: dict[str, str] = field(default_factory=dict)  # rule id → title
    _receipts: dict[str, dict[str, str]] = field(default_factory=dict)  # object → processing id → cell
    _findings: dict[str, str] = field(default_factory=dict)  # finding id → rule id
    _dead: dict[str, str] = field(default_factory=dict)  # object → reason

    def add_line(self, line: Mapping[str, Any]) -> None:
        """One line of a sink. Lines of other runs are passed over."""
        location = line.get("object")
        if location not in self.sent:
            return
        if line["type"] == "receipt":
            self._receipts.setdefault(location, {})[line["processing_id"]] = line["cell_id"]
        elif line["type"] == "finding":
            self._findings[line["id"]] = line["rule_id"]
            self.titles[line["rule_id"]] = line["rule"]

    def add_dead_letter(self, location: str, reason: str) -> None:
        """One dead letter, by the object it is about."""
        if location in self.sent:
            self._dead[location] = reason

    def settled(self) -> int:
        """Objects that have a receipt or a dead letter."""
        return len(self._receipts.keys() | self._dead.keys())

    def processed(self) -> int:
        """Objects that have a receipt."""
        return len(self._receipts)

    def missing(self) -> list[str]:
        """Objects of which nothing is known."""
        return sorted(self.sent.keys() - self._receipts.keys() - self._dead.keys())

    def dead_letters(self) -> Mapping[str, str]:
        """Object → reason."""
        return self._dead

    def ledger(
        self,
        *,
        replaced_in_s: float | None = None,
        slow_replaced_in_s: float | None = None,
        first_event_s: float | None = None,
    ) -> Ledger:
        """The sums."""
        return Ledger(
            sent=len(self.sent),
            processed=self.processed(),
            duplicates=sum(len(runs) - 1 for runs in self._receipts.values()),
            dead_lettered=len(self._dead),
            lost=len(self.missing()),
            keys_moved=sum(len(cells) > 1 for cells in self._cells_by_key().values()),
            replaced_in_s=replaced_in_s,
            slow_replaced_in_s=slow_replaced_in_s,
            first_event_s=first_event_s,
            findings=dict(sorted(Counter(self._findings.values()).items())),
        )

    def _cells_by_key(self) -> Mapping[str, set[str]]:
        cells: dict[str, set[str]] = {}
        for location, runs in self._receipts.items():
            cells.setdefault(self.sent[location], set()).update(runs.values())
        return cells


def differences(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Rules whose findings aren't as many as expected, a sentence each."""
    return [
        f"{rule}: {found.get(rule, 0)} findings, {expected.get(rule, 0)} expected"
        for rule in sorted(expected.keys() | found.keys())
        if expected.get(rule, 0) != found.get(rule, 0)
    ]


def total(counters: Iterable[Mapping[str, int] | None]) -> Counter[str] | None:
    """The sum, or None when one of them isn't known."""
    result: Counter[str] = Counter()
    for counter in counters:
        if counter is None:
            return None
        result.update(counter)
    return result
