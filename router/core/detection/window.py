"""What routers and canaries told of one instance within the last seconds, put together. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import exp, inf, log, sqrt
from statistics import median
from typing import Final

from router.core.detection.baseline import Baseline
from router.core.detection.samples import INTERVAL_S, CellSample, TenantSample

FRESH_S: Final = 2.5  # a router's latest sample is the present state for so long
JUST_NOW_S: Final = 1.5  # an interval, and its way to the leader
MOST_OFF: Final = log(8.0)  # no second of a tenant counts for more: a short stall is no slow cell
WORK_SPREAD: Final = 1.3  # of the cost of an event, to the mean one
WORK_SIGMA: Final = 2.5  # standard errors less than it seems: so much more work is certain
ENOUGH_EVENTS: Final = 10  # of a tenant; with more, what varies is its ways
DEAR: Final = log(2.0)  # more than the others of the cell: then it is the tenant, not the cell
DEAR_EVENTS: Final = 10  # fewer may be by chance
LEAST_PLACES: Final = 0.7  # of its cell, that work must keep busy to be in the way of other work
NEW_TIMES: Final = 5.0  # its usual share: a tenant that has so much more has been there for two minutes at most


@dataclass(frozen=True, slots=True)
class Load:
    """Who takes a cell's time."""

    heaviest: str = ""  # the tenant that takes most of the time that used to be the others'
    share: float = 0.0  # of the cell's time, now
    usual: float = 0.0  # likewise, as a rule
    taken: float = 0.0  # of the time that used to be the others', by it
    new_share: float = 0.0  # of the cell's time, by all tenants that hardly were there


NO_LOAD: Final = Load()


@dataclass(slots=True)
class Canaries:
    """Of one instance."""

    recent: deque[tuple[float, float]] = field(default_factory=deque)  # when it was answered, latency
    failures: int = 0  # in a row
    waiting_since: float | None = None

    def waited_s(self, now: float) -> float:
        """How long the one that is under way has been waiting for its answer."""
        return now - self.waiting_since if self.waiting_since is not None else 0.0

    def median_s(self, now: float, since: float = -inf) -> float | None:
        """Of those answered since; the one under way among them, when it has waited for longer than any other took."""
        latencies = [latency for at, latency in self.recent if at > since]
        if (waited_s := self.waited_s(now)) > max(latencies, default=0.0):
            latencies.append(waited_s)
        return median(latencies) if latencies else None


@dataclass(slots=True)
class _TenantSums:
    """Over all routers and the window: sums, so that what is too old can be taken away again."""

    samples: int = 0
    busy_s: float = 0.0
    usual: float = 0.0  # share, times the busy seconds
    events: int = 0  # whose deviation is known
    off: float = 0.0  # the sum of theirs

    def shares(self, busy_s: float) -> tuple[float, float]:
        """Of so many seconds: its own, and what it usually has."""
        if not self.busy_s:
            return 0.0, 0.0
        return self.busy_s / busy_s, min(self.usual / self.busy_s, 1.0)

    def dear(self, off: float) -> float:
        """How much dearer than usual its events are, slowness aside; 0 when they are not, or it may be chance."""
        own = self.off / self.events if self.events >= DEAR_EVENTS else 0.0
        return own - off if own > off + DEAR else 0.0

    def count(self, sample: TenantSample, sign: int) -> None:
        """One more, or one less."""
        self.samples += sign
        self.busy_s += sign * sample.busy_s
        self.usual += sign * sample.busy_s * sample.usual_share
        if sample.off is not None:
            self.events += sign * sample.events
            self.off += sign * sample.events * max(-MOST_OFF, min(sample.off, MOST_OFF))


class SampleWindow:
    """The samples of one instance within the window, and their sums: each is added once and taken away once."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, CellSample]] = deque()
        self._tenants: dict[str, _TenantSums] = {}
        self._latest: dict[str, tuple[float, CellSample]] = {}  # by router
        self._ok = 0
        self._ok_at = -inf
        self._log_s = self._work_s = self._new_s = 0.0

    def add(self, router_id: str, sample: CellSample, now: float) -> None:
        """One router's interval."""
        self._samples.append((now, sample))
        self._latest[router_id] = now, sample
        if sample.ok:
            self._ok_at = now
        self._count(sample, 1)

    def forget_before(self, then: float) -> None:
        """What is older is in no window any more."""
        while self._samples and self._samples[0][0] <= then:
            self._count(self._samples.popleft()[1], -1)
        if any(at <= then for at, _ in self._latest.values()):
            self._latest = {router: last for router, last in self._latest.items() if last[0] > then}

    def since(self, then: float) -> SampleWindow:
        """Only what is newer."""
        window = SampleWindow()
        for at, sample in takewhile(lambda each: each[0] > then, reversed(self._samples)):
            window.add("", sample, at)
        return window

    def offs(self) -> list[tuple[float, float]]:
        """How far each tenant is off whose usual latency is known, and how many events say so."""
        known = [tenant for tenant in self._tenants.values() if tenant.events]
        return sorted((tenant.off / tenant.events, min(tenant.events, ENOUGH_EVENTS)) for tenant in known)

    def latency_s(self) -> float:
        """Geometric mean of what was answered well."""
        return exp(self._log_s / self._ok) if self._ok else 0.0

    def load(self, window_s: float, off: float, usual_shares: Mapping[str, float]) -> Load:
        """Who takes the cell's time. `usual_shares`: better known than what routers say now.

        Only of work that would be in others' way if the cell weren't slow: it is `off` by so much.
        """
        least_s = LEAST_PLACES * window_s * exp(max(0.0, off))
        busy_s = sum(tenant.busy_s for tenant in self._tenants.values())
        new_s, found = 0.0, NO_LOAD
        for key, tenant in self._tenants.items():
            share, usual = tenant.shares(busy_s)
            usual = min(usual, usual_shares.get(key, usual)) * exp(-tenant.dear(max(0.0, off)))
            if share > NEW_TIMES * usual:
                new_s += tenant.busy_s
            if share > usual and tenant.busy_s > least_s:
                taken = (share - usual) / (1 - usual)
                found = max(found, Load(key, share, usual, taken), key=lambda each: each.taken)
        return replace(found, new_share=new_s / busy_s if new_s > least_s else 0.0)

    def growth(self, usual: Baseline, window_s: float, off: float, peers_off: float) -> float:
        """How many times the usual work there is, as much as is certain; what is due to being slow taken out."""
        work_s = deflated_s(self._work_s, self._new_s, off, peers_off) + self._dearer_s(max(0.0, off))
        if not usual.known or not usual.work or work_s <= LEAST_PLACES * window_s:
            return 0.0
        return work_s / (usual.work * window_s) * (1 - WORK_SIGMA * WORK_SPREAD / sqrt(self._ok))

    def _dearer_s(self, off: float) -> float:
        """What tenants whose events have become dear take more than they usually would, if the cell weren't slow."""
        return sum(each.busy_s * exp(-off) * (1 - exp(-each.dear(off))) for each in self._tenants.values())

    def surge(self, usual: Baseline, window_s: float) -> float:
        """How many times the usual number of events there are."""
        return self._ok / (usual.rate * window_s) if usual.known and usual.rate else 0.0

    def failing(self, now: float) -> tuple[int, int]:
        """Failures in a row and the tenants among them, of the router that has seen most, while none got a success."""
        if self.succeeded(now - JUST_NOW_S):
            return 0, 0
        rows = [(at, row) for at, row in self._latest.values() if now - at <= FRESH_S]
        alone = [row for at, row in rows if not self.succeeded(at - row.failing_s + INTERVAL_S)]
        return max(((row.failing, row.failing_tenants) for row in alone), default=(0, 0))

    def succeeded(self, since: float) -> bool:
        """Whether any router has got something done since then."""
        return self._ok_at > since

    def silent_s(self, now: float) -> float:
        """For how long nothing was answered, though something is in flight; 0 when there is nothing to answer."""
        fresh = self._fresh(now)
        waiting = [sample.silent_s for sample in fresh if sample.oldest_s]
        return min(waiting, default=0.0) if not any(sample.events for sample in fresh) else 0.0

    def waiting_tenants(self, now: float) -> int:
        """How many tenants have something in flight."""
        return max((sample.waiting_tenants for sample in self._fresh(now)), default=0)

    def oldest_s(self, now: float) -> float:
        """The oldest event in flight."""
        return max((sample.oldest_s for sample in self._fresh(now)), default=0.0)

    def slowest_s(self) -> float:
        """The longest that an event took lately."""
        return max((sample.slowest_s for _, sample in self._latest.values()), default=0.0)

    def _fresh(self, now: float) -> list[CellSample]:
        return [sample for at, sample in self._latest.values() if now - at <= FRESH_S]

    def _count(self, sample: CellSample, sign: int) -> None:
        self._ok += sign * sample.ok
        self._log_s = self._log_s + sign * sample.log_s if self._ok else 0.0
        self._work_s = self._work_s + sign * sample.work_s if self._ok else 0.0
        self._new_s = self._new_s + sign * sample.new_s if self._ok else 0.0
        for key, seen in sample.tenants.items():
            tenant = self._tenants.get(key)
            if tenant is None:
                tenant = self._tenants[key] = _TenantSums()
            tenant.count(seen, sign)
            if not tenant.samples:
                del self._tenants[key]


def deflated_s(known_s: float, new_s: float, off: float, peers_off: float) -> float:
    """How long all would take in a cell that is not slow.

    `known_s`: what it usually takes. Where all cells are faster than usual, something that they share was slow for long
    enough to be learned, and it takes less. `new_s`: what tenants' events took of which nothing is known.
    """
    learned = min(0.0, peers_off)
    return known_s * exp(learned) + new_s / exp(max(0.0, off - learned))
