"""What a stress run has found: figures of each phase, and the knee. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from router.core.load.latencies import Latencies
from router.core.models import Reason

FACTOR: Final = 3.0
"""The knee is the highest load whose p99 stays below so many times that of the lowest one."""
ROOM_MS: Final = 50.0
"""And below so much more than it, at least: where the lowest load takes 3 ms, 10 ms are no trouble."""
GROWN: Final = 0.05
"""A backlog grows that has so large a share of a phase's events more at its end than at its begin."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)

Rows = tuple[tuple[int, str, tuple[tuple[int, int], ...]], ...]
Counts = tuple[tuple[int, int], ...]


class RouterSaid(msgspec.Struct, frozen=True):
    """What one router has counted of a run, as its GET /stress/RUN says."""

    run: str
    done: Counts
    again: Counts
    failures: Counts
    cells: Rows
    tenants: Rows
    again_of: tuple[tuple[str, int], ...] = ()  # by tenant, of all phases


class PhaseSent(msgspec.Struct, frozen=True):
    """What the sender knows of a phase."""

    name: str
    rate: float  # events a second, as they were meant
    seconds: float
    sent: int
    refused: int  # by the queue, for good
    late_p99_ms: float  # between the intended time and the queue's answer
    open_before: int  # events that were sent and not yet done, when the phase began
    open_after: int


class Figures(msgspec.Struct, frozen=True):
    """How long events took, from their intended time to their cell's answer, in milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float

    @classmethod
    def of(cls, latencies: Latencies) -> Figures:
        """Take the figures of some latencies."""
        return cls(latencies.count, *(round(latencies.quantile(q), 1) for q in QUANTILES))


class PhaseFound(msgspec.Struct, frozen=True):
    """A phase with all that was found of it."""

    sent: PhaseSent
    took: Figures
    again: int  # delivered once more after they were done
    failures: int  # attempts that failed
    cells: dict[str, Figures]
    slowest: dict[str, Figures]  # the tenants that were the slowest by their p99


class Knee(msgspec.Struct, frozen=True):
    """The highest load that the system bears, and what happens beyond it."""

    rate: float  # events a second; 0: it bears not even the lowest
    why: str  # what the next one brings, or that there was none


class LoadReport(msgspec.Struct, frozen=True):
    """All that a run has found; the JSON file of it is compared with later ones."""

    environment: str
    profile: str
    rate: float
    seconds: float
    tenants: int
    zipf: float
    seed: int
    at_ms: int
    run: str
    unfinished: int  # sent, taken by the queue, and not done when the run was over
    phases: tuple[PhaseFound, ...]
    knee: Knee


class Totals:
    """The counts of all routers together."""

    def __init__(self, said: Sequence[RouterSaid]) -> None:
        self.done, self.again, self.failures = (
            _summed([getattr(each, name) for each in said]) for name in ("done", "again", "failures")
        )
        self.again_of: Counter[str] = Counter()
        for each in said:
            for tenant, count in each.again_of:
                self.again_of[tenant] += count
        self.cells = _merged([each.cells for each in said])
        self.tenants = _merged([each.tenants for each in said])


def found(sent: Sequence[PhaseSent], totals: Totals, slowest: int) -> tuple[PhaseFound, ...]:
    """Put together what the sender and the routers know of each phase."""
    return tuple(
        PhaseFound(
            each,
            Figures.of(_all(totals.cells.get(number, {}))),
            totals.again.get(number, 0),
            totals.failures.get(number, 0),
            {name: Figures.of(cell) for name, cell in sorted(totals.cells.get(number, {}).items())},
            _slowest(totals.tenants.get(number, {}), slowest),
        )
        for number, each in enumerate(sent)
    )


def knee_of(phases: Sequence[PhaseFound]) -> Knee:
    """Find the knee among phases of different loads: all up to it are borne, and the next one is not."""
    ordered = sorted(phases, key=lambda phase: phase.sent.rate)
    limit_ms = limit_of(ordered[0].took.p99)
    borne = 0.0
    for phase in ordered:
        if (why := why_not_borne(phase, limit_ms)) is not None:
            return Knee(borne, f"at {phase.sent.rate:g} events a second {why}")
        borne = phase.sent.rate
    return Knee(borne, "it was the highest load of the run: the knee is there or above")


def limit_of(lowest_p99_ms: float) -> float:
    """Return how long the p99 may be, in milliseconds, by that of the lowest load."""
    return max(FACTOR * lowest_p99_ms, lowest_p99_ms + ROOM_MS)


def why_not_borne(phase: PhaseFound, limit_ms: float) -> Reason | None:
    """Say why a phase's load is too high; None when it is borne."""
    sent = phase.sent
    if not phase.took.count:
        return "nothing was done"
    if sent.open_after - sent.open_before > max(10.0, GROWN * sent.sent):
        return f"the backlog grew from {sent.open_before} to {sent.open_after} events"
    if phase.took.p99 > limit_ms:
        cause = ", and the queue took events too late for it" if sent.late_p99_ms > limit_ms else ""
        return f"p99 was {phase.took.p99:.0f} ms, above {limit_ms:.0f} ms{cause}"
    return None


def _summed(each: Sequence[Counts]) -> dict[int, int]:
    total: dict[int, int] = {}
    for counts in each:
        for phase, count in counts:
            total[phase] = total.get(phase, 0) + count
    return total


def _merged(each: Sequence[Rows]) -> dict[int, dict[str, Latencies]]:
    total: dict[int, dict[str, Latencies]] = {}
    for rows in each:
        for phase, name, buckets in rows:
            total.setdefault(phase, {}).setdefault(name, Latencies()).merge(Latencies(buckets))
    return total


def _all(named: Mapping[str, Latencies]) -> Latencies:
    total = Latencies()
    for each in named.values():
        total.merge(each)
    return total


def _slowest(tenants: Mapping[str, Latencies], most: int) -> dict[str, Figures]:
    figures = {name: Figures.of(latencies) for name, latencies in tenants.items()}
    return dict(sorted(figures.items(), key=lambda pair: (-pair[1].p99, pair[0]))[:most])
