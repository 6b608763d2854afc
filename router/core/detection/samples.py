"""What a router sees of its cells, second by second: the figures that the detector is fed with.

Under consistent hashing, tenant and cell are confounded: a cell with heavy tenants has a high latency, and nothing is
wrong with it. So each tenant is compared with itself. The router knows every tenant's baseline, the mean of its log
latencies, and reports by how much the tenant deviates from it now. Only that, and what the tenant takes of its cell's
time, leaves the router.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nlargest
from math import ceil, exp, log
from typing import Annotated, Final

import msgspec

from router.core.detection.thresholds import MAX_PAUSE_S, MEMORY_S, MIN_LATENCY_S, MIN_TENANTS
from router.core.models import Reason, Whole

INTERVAL_S: Final = 1.0  # between a router's samples
MAX_TENANTS: Final = 50_000  # whose baseline a router knows: 15 MiB. It forgets those that it has not seen for longest
REPORTED_TENANTS: Final = 32  # of one cell at a time: enough for a sure mean, however many there are
MAX_REPORTED: Final = 2000  # tenants in one report, of all cells together: 1000 cells are 100 kB
LONGEST_TURN: Final = 5  # intervals after which a cell's tenants are told again: a third of the window
MAX_KEY_CHARS: Final = 64  # of a tenant in a report
MATURE_EVENTS: Final = 5  # events of one tenant; fewer make no baseline
MATURE_S: Final = 10.0  # seconds since a tenant was first seen; before that it has no baseline
YOUNG_EVENTS: Final = 50  # a baseline is a plain mean of so many events; from there on it forgets with time
MAX_LOG: Final = 50.0  # no latency's natural logarithm is further from 0
LONGEST_STEP_S: Final = 10.0  # a tenant that comes back after a day doesn't get a new baseline from its first event

# Decoders check these ranges, so that no router's sample can bring the detector's sums to overflow or divide by 0.
Positive = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=-1e-3, le=1e9)]  # a difference of sums may be a little less than 0
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
MAX_CANARIES: Final = 64  # of one cell in one interval: a router sends one or two a second
Logarithm = Annotated[float, msgspec.Meta(ge=-MAX_LOG, le=MAX_LOG)]


class TenantSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One tenant's events that one cell answered well since the router last told of it, as that router saw them."""

    events: Whole
    busy_s: Positive  # the sum of their latencies, in seconds
    baseline_share: Share  # of its cell's time, 0 to 1; 0 for a new tenant
    deviation: Logarithm | None = None  # mean log latency minus the tenant's baseline; None while it has none


class CellSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one router saw of one cell within one interval. Latencies don't include the wait for a place there."""

    generation: Whole
    events: Whole = 0  # answered, well or not
    ok: Whole = 0  # answered well
    log_s: float = 0.0  # sum of the natural logarithms of the latencies, in seconds, of those answered well
    work_s: Seconds = 0.0  # sum of the baseline latencies of those events whose tenants have one
    new_s: Seconds = 0.0  # sum of the latencies of all others
    busy_s: Seconds = 0.0  # sum of the latencies of all that were answered well
    deviation: Logarithm | None = None  # their mean log latency minus their tenants' baselines; None: most have none
    tenants: Mapping[str, TenantSample] = msgspec.field(default_factory=dict)  # not in every interval, nor all of them
    slowest_s: Seconds = 0.0  # the longest latency of late
    oldest_s: Seconds = 0.0  # age of the oldest event in flight
    waiting_tenants: Whole = 0  # different keys in flight
    silent_s: Seconds = 0.0  # seconds since the last answer, while something is in flight
    failures: Whole = 0  # in a row, up to now
    failing_tenants: Whole = 0  # different keys in that row
    failing_s: Seconds = 0.0  # seconds since that row began

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell: nothing was answered, nothing is in flight and nothing fails."""
        return not (self.events or self.tenants or self.waiting_tenants or self.oldest_s or self.failures)


class CanarySample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of one canary: answered well (with its latency), failed (with neither time), or still waiting."""

    generation: Whole  # of the instance that it was sent through
    latency_s: Positive | None = None
    waiting_s: Positive = 0.0  # for how long it has had no answer; 0 once it has ended
    pair: Whole = 0  # the same number as of the other instance's canary that was sent at the same moment; 0: none was


class RehearsedPair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A copy of an event that an instance and its twin rehearsed at the same moment, each with a canary beside it.

    Latencies are in seconds; None where no good answer came.
    """

    generation: Whole  # of the instance
    twin: Whole  # of its twin
    own_s: Positive | None
    twin_s: Positive | None
    own_canary_s: Positive | None
    twin_canary_s: Positive | None
    size: Whole = 0  # bytes of the event


Canaries = Annotated[tuple[CanarySample, ...], msgspec.Meta(max_length=MAX_CANARIES)]
RehearsedPairs = Annotated[tuple[RehearsedPair, ...], msgspec.Meta(max_length=MAX_CANARIES)]


@dataclass(frozen=True, slots=True)
class RouterSample:
    """All that one router saw within one interval."""

    number: Whole  # counts up, so that no interval counts twice
    lag_s: Seconds  # the longest that its own event loop was late
    cells: Mapping[str, CellSample]  # by cell id; idle ones are left out
    canaries: Mapping[str, Canaries] = field(default_factory=dict)  # by cell id: that ended, or are under way
    rehearsed: Mapping[str, RehearsedPairs] = field(default_factory=dict)  # by cell id, of cells on trial


def why_impossible(sample: RouterSample) -> Reason | None:
    """Return why no router can have seen what a decoded sample says; None where one can."""
    for cell_id, cell in sample.cells.items():
        if cell.ok > cell.events:
            return f"{cell_id:.100}: more events answered well than answered"
        if not abs(cell.log_s) <= MAX_LOG * cell.ok:
            return f"{cell_id:.100}: no latencies have such logarithms"
    return None


class BusyTimeAverage:
    """The EWMA of seconds of latency a second. By Little's law this is the mean number of events in flight.

    All begin at zero. So a new tenant has no share, and the shares of those that began together are right at once.
    """

    __slots__ = ("_at", "value")

    def __init__(self, now: float) -> None:
        self.value = 0.0
        self._at = now - INTERVAL_S

    def learn(self, busy_s: float, now: float) -> None:
        """Take in that events took `busy_s` seconds together since the last call."""
        if (step_s := now - self._at) > 0:
            self.value += (1 - exp(-step_s / MEMORY_S)) * (busy_s / step_s - self.value)
            self._at = now


class _TenantBaseline:
    """What is normal for one tenant in one cell: its mean log latency, its mean latency and its busy time."""

    __slots__ = ("busy", "events", "log_s", "mean_s", "seen_at", "since")

    def __init__(self, now: float) -> None:
        self.events = 0
        self.log_s = 0.0
        self.mean_s = 0.0
        self.busy = BusyTimeAverage(now)
        self.since = now
        self.seen_at = now

    def known(self, now: float) -> bool:
        return self.events >= MATURE_EVENTS and now - self.since >= MATURE_S

    def learn(self, events: int, log_s: float, busy_s: float, now: float) -> None:
        step_s = min(now - self.seen_at, LONGEST_STEP_S)
        weight = 1 - exp(-step_s / MEMORY_S)
        if self.events < YOUNG_EVENTS:
            weight = max(weight, events / (self.events + events))
        self.log_s += weight * (log_s - self.log_s)
        self.mean_s += weight * (busy_s / events - self.mean_s)
        self.busy.learn(busy_s, now)
        self.events += events
        self.seen_at = now


class CellSampler:
    """Samples one cell at one router. `answered` is on the hot path: all other work is done once an interval."""

    def __init__(self) -> None:
        self._baselines: dict[str, _TenantBaseline] = {}  # by tenant; the one seen last comes last
        self._busy: BusyTimeAverage | None = None  # of all tenants together
        self._paused_at: float | None = None  # since when nothing is learned
        self._now: dict[str, list[float]] = {}  # tenant → events, sum of log latencies, sum of latencies
        self._untold: dict[str, list[float]] = {}  # the same, of intervals in which no tenant was told
        self._generation = 0  # of the instance that those events are of
        self._refused = 0
        self._failures = 0
        self._failing_since: float | None = None
        self._failing_tenants: set[str] = set()
        self._slowest_s = 0.0
        self._answered_at = 0.0

    def answered(self, key: str, latency_s: float, now: float) -> None:
        """Count one event that the cell answered well; `latency_s` is without its wait for a place in the cell."""
        self._failures = 0
        self._answered_at = now
        if latency_s < MIN_LATENCY_S:
            latency_s = MIN_LATENCY_S
        elif latency_s > self._slowest_s:
            self._slowest_s = latency_s
        sums = self._now.get(key)
        if sums is None:
            self._now[key] = [1, log(latency_s), latency_s]
        else:
            sums[0] += 1
            sums[1] += log(latency_s)
            sums[2] += latency_s

    def failed(self, key: str, now: float) -> None:
        """Count one event that the cell answered with `retry` or `failed`."""
        self._refused += 1
        self._answered_at = now
        self._count_failure(key)

    def denied(self, now: float) -> None:
        """Count one event that was denied what it needs: another instance would be denied it too."""
        self._refused += 1
        self._answered_at = now

    def broke(self, keys: Collection[str]) -> None:
        """Count a batch that was answered not at all or not to its end: one failure, of all these keys."""
        self._count_failure(*keys)

    def sample(
        self,
        generation: int,
        now: float,
        *,
        oldest_s: float = 0.0,
        waiting_tenants: int = 0,
        learning: bool = True,
        tenants: int = MAX_TENANTS,
        told: int = REPORTED_TENANTS,
    ) -> CellSample:
        """Return what was seen since the last call, with so many tenants `told`, and learn at most `tenants` baselines.

        While none is told, tenants' figures add up until some are. `learning` is False while the cell is sick: then
        learning is paused, but for no longer than MAX_PAUSE_S.
        """
        seen, self._now = self._now, {}
        refused, self._refused = self._refused, 0
        ok, log_s, busy_s = (sum(sums) for sums in zip(*seen.values(), strict=True)) if seen else (0, 0.0, 0.0)
        known = {key: found for key in seen if (found := self._baselines.get(key)) is not None and found.known(now)}
        if not self._failures or self._failing_since is None:
            self._failing_since = now if self._failures else None
        untold = self._untold = _added(self._untold if generation == self._generation else {}, seen)
        self._generation = generation
        sample = CellSample(
            generation=generation,
            events=int(ok) + refused,
            ok=int(ok),
            log_s=log_s,
            work_s=sum(seen[key][0] * baseline.mean_s for key, baseline in known.items()),
            new_s=busy_s - sum(seen[key][2] for key in known),
            busy_s=busy_s,
            deviation=_deviation(seen, known, ok),
            tenants={told_key(key): self._tenant(key, untold[key], now) for key in _reported(untold, told)},
            failures=self._failures,
            failing_tenants=len(self._failing_tenants) if self._failures else 0,
            failing_s=now - self._failing_since if self._failing_since is not None else 0.0,
            oldest_s=oldest_s,
            waiting_tenants=waiting_tenants,
            silent_s=min(oldest_s, max(0.0, now - self._answered_at)),
            slowest_s=self._slowest_s,
        )
        if self._learns(now, learning=learning):
            self._slowest_s *= 1 - 1 / MEMORY_S
            if told:
                self._learn(untold, now, tenants)
        if told:
            self._untold = {}
        return sample

    def replaced(self) -> None:
        """Forget the row of failures, since another instance has the cell now. The baselines stay."""
        self._failures = 0
        self._failing_since = None
        self._failing_tenants.clear()

    def _count_failure(self, *keys: str) -> None:
        if not self._failures:
            self._failing_tenants.clear()
        self._failures += 1
        if len(self._failing_tenants) < REPORTED_TENANTS:
            self._failing_tenants.update(keys)

    def _tenant(self, key: str, sums: Sequence[float], now: float) -> TenantSample:
        events, log_s, busy_s = sums
        baseline = self._baselines.get(key)
        if baseline is None:
            return TenantSample(round(events), busy_s, 0.0)
        deviation = log_s / events - baseline.log_s if baseline.known(now) else None
        whole = self._busy.value if self._busy is not None else 0.0
        share = baseline.busy.value / whole if whole else 0.0
        return TenantSample(round(events), busy_s, min(1.0, share), deviation)

    def _learns(self, now: float, *, learning: bool) -> bool:
        if learning:
            self._paused_at = None
            return True
        self._paused_at = now if self._paused_at is None else self._paused_at
        return now - self._paused_at > MAX_PAUSE_S

    def _learn(self, seen: Mapping[str, list[float]], now: float, most: int) -> None:
        self._busy = self._busy or BusyTimeAverage(now)
        self._busy.learn(sum(busy_s for _, _, busy_s in seen.values()), now)
        for key, (events, log_s, own_s) in seen.items():
            baseline = self._baselines.pop(key, None) or _TenantBaseline(now)
            baseline.learn(round(events), log_s / events, own_s, now)
            self._baselines[key] = baseline
        while len(self._baselines) > most:
            del self._baselines[next(iter(self._baselines))]


def tenants_told(place: int, cells: int, number: int) -> int:
    """Return how many tenants to tell of the cell in this place of so many, in the router's interval of this number.

    All REPORTED_TENANTS in each interval, as long as a report has room. With more cells the cells take turns: 0 where
    it is another's. With so many that the longest turn is not enough, each has fewer, but still enough for the rules.
    """
    turns = max(1, min(LONGEST_TURN, ceil(REPORTED_TENANTS * cells / MAX_REPORTED)))
    if (place + number) % turns:
        return 0
    return max(MIN_TENANTS, min(REPORTED_TENANTS, MAX_REPORTED * turns // max(1, cells)))


def told_key(key: str) -> str:
    """Return the name under which a tenant is told: its key, cut where that is long, so that a report stays short."""
    if len(key) <= MAX_KEY_CHARS:
        return key
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{key[: MAX_KEY_CHARS - len(digest) - 1]}…{digest}"


def _added(untold: dict[str, list[float]], seen: dict[str, list[float]]) -> dict[str, list[float]]:
    """Add to what no tenant was told of yet what was seen now, and return it."""
    if not untold:
        return seen
    for key, sums in seen.items():
        if (sums_before := untold.get(key)) is None:
            untold[key] = sums
        else:
            untold[key] = [one + other for one, other in zip(sums_before, sums, strict=True)]
    return untold


def _deviation(seen: Mapping[str, Sequence[float]], known: Mapping[str, _TenantBaseline], ok: float) -> float | None:
    """Return the mean deviation of the events whose tenants have a baseline; None where most events' have none."""
    events = sum(seen[key][0] for key in known)
    if not events or 2 * events < ok:
        return None
    return sum(seen[key][1] - seen[key][0] * baseline.log_s for key, baseline in known.items()) / events


def _reported(seen: Mapping[str, list[float]], most: int) -> set[str]:
    """Choose by the number of events. To choose the slowest tenants would make every cell look slow."""
    if not most:
        return set()
    if len(seen) <= most:
        return set(seen)
    chosen = nlargest(most, seen, key=lambda key: seen[key][0])
    return {*chosen, max(seen, key=lambda key: seen[key][2])}
