"""What routers told of one instance's events within the last seconds, put together from all routers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import copysign, exp, inf, isfinite, log, sqrt
from typing import Any, Final, TypeVar, cast

import msgspec

from router.core.detection.baseline import Baseline
from router.core.detection.samples import INTERVAL_S, CellSample, TenantSample
from router.core.detection.thresholds import (
    GLANCE_S,
    LONG_GLANCE_S,
    MAX_COUNTED_EVENTS,
    MAX_DEVIATION,
    MIN_BUSY_PLACES,
    MIN_COST_EVENTS,
    MIN_COST_INCREASE,
    NEW_TENANT_RATIO,
    SAMPLE_FRESH_S,
    SUCCESS_FRESH_S,
    WINDOW_S,
    WORK_SIGMA,
    WORK_VARIATION,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """Which tenants take a cell's time. Shares are 0 to 1."""

    heaviest: str = ""  # the tenant that takes most of the time that used to be the others'; empty: none does
    share: float = 0.0  # of the cell's time, that the heaviest tenant takes now
    baseline_share: float = 0.0  # of the cell's time, that it normally takes
    taken_share: float = 0.0  # of the time that used to be the others', that it takes now
    new_share: float = 0.0  # of the cell's time, that all new tenants take together


NO_LOAD: Final = TenantLoad()


@dataclass(frozen=True, slots=True)
class Glance:
    """What the last second or two show of a cell: too little for a verdict, and enough to send it less at once."""

    deviation: float = 0.0  # mean log latency of its events, minus their tenants' baselines
    events: int = 0  # that it is of
    rate: float = 0.0  # of those, a second
    latency_s: float = 0.0  # their geometric mean
    points: int = 0  # vantage points that know what its canary should take, and had an answer in this time
    slow_points: int = 0  # of these, how many find it slow


NO_GLANCE: Final = Glance()


@dataclass(frozen=True, slots=True)
class AnsweredSums:
    """What an instance has answered within some time: sums, so that those of an earlier moment can be taken off."""

    ok: int = 0  # events answered well
    bad: int = 0  # events answered, and not well
    log_s: float = 0.0  # sum of the natural logarithms of the latencies, in seconds, of those answered well

    @classmethod
    def of(cls, answered: int, bad: int, latency_s: float) -> AnsweredSums:
        """Return the sums of so many events, whose geometric mean latency is `latency_s`."""
        ok = answered - bad
        return cls(ok, bad, ok * log(latency_s) if ok and latency_s > 0 else 0.0)

    @property
    def count(self) -> int:
        """How many events were answered, well or not."""
        return self.ok + self.bad

    @property
    def bad_share(self) -> float:
        """The share of the events that were not answered well, 0 to 1; 0 when none was answered."""
        return self.bad / self.count if self.count else 0.0

    @property
    def latency_s(self) -> float:
        """The geometric mean latency, in seconds, of the events answered well; 0 when there are none."""
        return exp(self.log_s / self.ok) if self.ok else 0.0

    def __add__(self, other: AnsweredSums) -> AnsweredSums:
        """Return both together."""
        return AnsweredSums(self.ok + other.ok, self.bad + other.bad, self.log_s + other.log_s)

    def since(self, earlier: AnsweredSums) -> AnsweredSums:
        """Return what was answered after the moment of which `earlier` are the sums."""
        return AnsweredSums(self.ok - earlier.ok, self.bad - earlier.bad, self.log_s - earlier.log_s)


NOTHING_ANSWERED: Final = AnsweredSums()


class _TenantSums(msgspec.Struct, gc=False):
    """One tenant's samples of all routers within the window: sums, so that old samples can be subtracted again."""

    samples: int = 0
    busy_s: float = 0.0
    baseline_share: float = 0.0  # times the busy seconds
    events: int = 0  # whose deviation is known
    deviation: float = 0.0  # times those events

    def shares(self, busy_s: float) -> tuple[float, float]:
        """Return this tenant's share of `busy_s` seconds, and its baseline share."""
        if not self.busy_s:
            return 0.0, 0.0
        return self.busy_s / busy_s, min(self.baseline_share / self.busy_s, 1.0)

    def cost_increase(self, deviation: float) -> float:
        """Return by how much its events cost more than their baseline, where the cell deviates by `deviation`.

        A natural logarithm; 0 where they don't cost more, or where it may be chance.
        """
        own = self.deviation / self.events if self.events >= MIN_COST_EVENTS else 0.0
        return own - deviation if own > deviation + MIN_COST_INCREASE else 0.0

    def count(self, sample: TenantSample, sign: int) -> None:
        """Add the sample when `sign` is 1, subtract it when -1. Its deviation is clipped (winsorized)."""
        self.samples += sign
        self.busy_s += sign * sample.busy_s
        self.baseline_share += sign * sample.busy_s * sample.baseline_share
        if sample.deviation is not None:
            events, deviation = sign * sample.events, sample.deviation
            self.events += events
            if abs(deviation) > MAX_DEVIATION:
                deviation = copysign(MAX_DEVIATION, deviation)
            self.deviation += events * deviation


class SampleWindow:
    """The samples of one instance within the window, and their sums: each is added once and subtracted once."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, str, CellSample]] = deque()  # when it arrived, the router, and the sample
        self._tenants: dict[str, _TenantSums] = {}
        self._latest: dict[str, tuple[float, CellSample]] = {}  # by router
        self._ok = self._events = 0
        self._ok_at = -inf
        self._log_s = self._work_s = self._new_s = self._busy_s = 0.0
        self._derived: Any = None  # what was made of the deviations; None: nothing since tenants were told last

    def add(self, router_id: str, sample: CellSample, now: float) -> None:
        """Add the sample of one router's interval, which arrived at `now`."""
        self._samples.append((now, router_id, sample))
        self._latest[router_id] = now, sample
        if sample.ok:
            self._ok_at = now
        self._count(sample, 1)

    def forget_before(self, then: float) -> None:
        """Drop the samples that arrived at `then` or earlier."""
        while self._samples and self._samples[0][0] <= then:
            self._count(self._samples.popleft()[2], -1)
        if any(at <= then for at, _ in self._latest.values()):
            self._latest = {router: last for router, last in self._latest.items() if last[0] > then}

    def since(self, then: float) -> SampleWindow:
        """Return a window of only the samples that arrived after `then`."""
        window = SampleWindow()
        for at, router_id, sample in takewhile(lambda each: each[0] > then, reversed(self._samples)):
            window.add(router_id, sample, at)
        return window

    def by_router(self) -> Mapping[str, SampleWindow]:
        """Return a window of each router's samples alone. It goes through them anew, so only few cells need it."""
        windows: dict[str, SampleWindow] = {}
        for at, router_id, sample in self._samples:
            windows.setdefault(router_id, SampleWindow()).add(router_id, sample, at)
        return windows

    def once(self, make: Callable[[Sequence[tuple[float, float]]], T]) -> T:
        """Return what `make`, always the same, makes of the deviations; it is made again when tenants are told."""
        if self._derived is None:
            self._derived = make(self.deviations())
        return cast("T", self._derived)

    def deviations(self) -> list[tuple[float, float]]:
        """Return the mean deviation of each tenant that has a baseline, and how many events count for it; sorted."""
        known = [tenant for tenant in self._tenants.values() if tenant.events]
        return sorted((tenant.deviation / tenant.events, min(tenant.events, MAX_COUNTED_EVENTS)) for tenant in known)

    def glance(self, now: float, points: int = 0, slow_points: int = 0) -> Glance:
        """Return what the last reports say of the events: those of one second or those of two, whichever is surer."""
        events, deviation, log_s, seconds = 0, 0.0, 0.0, 1
        short = events, deviation, log_s, seconds
        for at, _, sample in reversed(self._samples):
            if seconds == 1 and now - at >= GLANCE_S:
                short, seconds = (events, deviation, log_s, seconds), 2
            if now - at >= LONG_GLANCE_S:
                break
            if sample.deviation is not None:
                events += sample.ok
                deviation += sample.ok * sample.deviation
                log_s += sample.log_s
        if short[0] and short[1] / sqrt(short[0]) > deviation / sqrt(events):
            events, deviation, log_s, seconds = short
        if not events:
            return Glance(points=points, slow_points=slow_points)
        return Glance(deviation / events, events, events / seconds, exp(log_s / events), points, slow_points)

    def latency_s(self) -> float:
        """Return the geometric mean latency, in seconds, of the events answered well; 0 when there are none."""
        return exp(self._log_s / self._ok) if self._ok else 0.0

    def load(self, deviation: float, baseline_shares: Mapping[str, float]) -> TenantLoad:
        """Return which tenants take the time of the cell, which deviates by `deviation`.

        `baseline_shares` overrules what routers say where it is less: they learn while the cell is unwell. Only work
        counts that would be in the way of other work even if the cell were not slow. Tenants of whom routers don't tell
        are as new as the others.
        """
        min_s = MIN_BUSY_PLACES * WINDOW_S * exp(max(0.0, deviation))
        told_s = sum(tenant.busy_s for tenant in self._tenants.values())
        if (busy_s := max(told_s, self._busy_s)) <= min_s:
            return NO_LOAD
        new_s, found = 0.0, NO_LOAD
        for key, tenant in self._tenants.items():
            share, normal = tenant.shares(busy_s)
            normal = min(normal, baseline_shares.get(key, normal)) * exp(-tenant.cost_increase(max(0.0, deviation)))
            if share > NEW_TENANT_RATIO * normal:
                new_s += tenant.busy_s
            if share > normal and tenant.busy_s > min_s:
                taken = (share - normal) / (1 - normal)
                found = max(found, TenantLoad(key, share, normal, taken), key=lambda each: each.taken_share)
        new_share = new_s / told_s if told_s else 0.0
        return replace(found, new_share=new_share if new_share * busy_s > min_s else 0.0)

    def work_ratio(self, baseline: Baseline, deviation: float, peers_deviation: float) -> float:
        """Return how many times its baseline work the cell has, at least; 0 while the baseline is not known.

        Slowness of the cell is taken out. A lower confidence bound: WORK_SIGMA standard errors are taken off, of a mean
        of events whose cost has the coefficient of variation WORK_VARIATION.
        """
        work_s = work_without_slowness_s(self._work_s, self._new_s, deviation, peers_deviation)
        work_s += self._cost_increase_s(max(0.0, deviation))
        if not baseline.known or not baseline.work or not self._ok or work_s <= MIN_BUSY_PLACES * WINDOW_S:
            return 0.0
        return work_s / (baseline.work * WINDOW_S) * (1 - WORK_SIGMA * WORK_VARIATION / sqrt(self._ok))

    def _cost_increase_s(self, deviation: float) -> float:
        """Return the seconds that tenants' cost increases add to their baseline, without the slowness of the cell."""
        return sum(
            each.busy_s * exp(-deviation) * (1 - exp(-each.cost_increase(deviation))) for each in self._tenants.values()
        )

    def rate_ratio(self, baseline: Baseline) -> float:
        """Return how many times its baseline event rate the cell has; 0 while the baseline is not known."""
        return self._ok / (baseline.rate * WINDOW_S) if baseline.known and baseline.rate else 0.0

    def answered(self) -> tuple[int, int]:
        """Return how many events were answered, and how many of them not well."""
        return self._events, self._events - self._ok

    def failures(self, now: float) -> tuple[int, int]:
        """Return the longest row of failures that a router sees, and its tenants; (0, 0) after any router's success."""
        if self._succeeded(now - SUCCESS_FRESH_S):
            return 0, 0
        rows = [(at, row) for at, row in self._latest.values() if now - at <= SAMPLE_FRESH_S]
        alone = [row for at, row in rows if not self._succeeded(at - row.failing_s + INTERVAL_S)]
        return max(((row.failures, row.failing_tenants) for row in alone), default=(0, 0))

    def since_success_s(self, now: float) -> float | None:
        """Return the seconds since a router last reported a success; None when none ever has."""
        return now - self._ok_at if isfinite(self._ok_at) else None

    def silent_s(self, now: float) -> float:
        """Return for how many seconds no event in flight was answered; 0 when none is in flight, or one was."""
        fresh = self._fresh(now)
        waiting = [sample.silent_s for sample in fresh if sample.oldest_s]
        return min(waiting, default=0.0) if not any(sample.events for sample in fresh) else 0.0

    def waiting_tenants(self, now: float) -> int:
        """Return how many tenants have events in flight, at the router where that is most."""
        return max((sample.waiting_tenants for sample in self._fresh(now)), default=0)

    def oldest_s(self, now: float) -> float:
        """Return the age, in seconds, of the oldest event in flight; 0 when there is none."""
        return max((sample.oldest_s for sample in self._fresh(now)), default=0.0)

    def slowest_s(self) -> float:
        """Return the longest latency of late, in seconds; 0 when no event was ever answered."""
        return max((sample.slowest_s for _, sample in self._latest.values()), default=0.0)

    def _succeeded(self, since: float) -> bool:
        return self._ok_at > since

    def _fresh(self, now: float) -> list[CellSample]:
        return [sample for at, sample in self._latest.values() if now - at <= SAMPLE_FRESH_S]

    def _count(self, sample: CellSample, sign: int) -> None:
        self._events += sign * sample.events
        self._ok += sign * sample.ok
        if not self._ok:
            self._log_s = self._work_s = self._new_s = self._busy_s = 0.0
        elif sample.ok:
            self._log_s += sign * sample.log_s
            self._work_s += sign * sample.work_s
            self._new_s += sign * sample.new_s
            self._busy_s += sign * sample.busy_s
        if sample.tenants:
            self._derived = None
        for key, seen in sample.tenants.items():
            tenant = self._tenants.get(key)
            if tenant is None:
                tenant = self._tenants[key] = _TenantSums()
            tenant.count(seen, sign)
            if not tenant.samples:
                del self._tenants[key]


def work_without_slowness_s(known_s: float, new_s: float, deviation: float, peers_deviation: float) -> float:
    """Return how many seconds some events would take in a cell that is not slow, where this one deviates so.

    `known_s` is the sum of their baseline latencies. Where all cells are faster than their baselines, these were
    learned while something that the cells share was slow, and the events take less. `new_s` is what events took whose
    tenants have no baseline.
    """
    learned = min(0.0, peers_deviation)
    return known_s * exp(learned) + new_s / exp(max(0.0, deviation - learned))
