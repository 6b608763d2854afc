"""What is known of one cell within one window, put together from all routers, and beside the other cells. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from math import exp, hypot, inf, isfinite, log, sqrt
from statistics import median
from typing import Final

from router.core.observations import INTERVAL_S, CellSample, TenantSample
from router.core.robust import evened, middle_mean
from router.core.usual import NOTHING_USUAL, Done, Usual

_MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN: Final = 1.2533  # how much more a median varies than a mean
_MIDDLE_TO_MEAN: Final = 1.1  # how much more the mean of the middle half does
FRESH_S: Final = 2.5  # a router's latest sample is the present state for so long
JUST_NOW_S: Final = 1.5  # an interval, and its way to the leader
MOST_OFF: Final = log(8.0)  # no second of a tenant counts for more: a short stall is no slow cell
EVENT_SPREAD: Final = 0.6  # of one tenant's log latencies, at least: few events that agree by chance are no proof
WORK_SPREAD: Final = 1.3  # of the cost of an event, to the mean one
WORK_SIGMA: Final = 2.5  # standard errors less than it seems: so much more work is certain
SURE_SIGMA: Final = 2.0  # standard errors below the limit: then it is
ENOUGH_EVENTS: Final = 10  # of a tenant; with more, what varies is its ways
LEAST_PLACES: Final = 0.7  # of its cell, that work must keep busy to be in the way of other work
NEW_TIMES: Final = 5.0  # its usual share: a tenant that has so much more has been there for two minutes at most


class Verdict(StrEnum):
    """What is known of a cell."""

    HEALTHY = "healthy"
    WATCHED = "watched"  # over a limit, and not yet for long enough
    WORKLOAD = "workload"  # a tenant takes the cell's time: not the cell's fault
    SLOW = "slow"  # answers, later than it should
    FAILING = "failing"  # answers what is no success, or garbage
    HUNG = "hung"  # answers nothing


SICK: Final = frozenset({Verdict.SLOW, Verdict.FAILING, Verdict.HUNG})


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """All parameters. The defaults are meant for everybody: docs/detector.md says how they were found."""

    window_s: float = 15.0  # samples and canaries of so long are looked at together
    confirm_s: float = 5.0  # over the limit all the while
    max_ratio: float = 2.0  # to the usual latency and the peers' (tenants, canary)
    min_excess_s: float = 0.05  # of an event, whatever the ratio: less is not worth a replacement
    min_canary_excess_s: float = 0.025  # of a canary, likewise: less is noise
    min_tenants: int = 5  # fewer say nothing about their cell
    min_peers: int = 2  # cells to compare with; with fewer, a cell is compared with itself too
    min_sigma: float = 6.0  # the difference must be so many standard errors, unless the canary says the same
    workload_share: float = 0.25  # of the time that used to be others', that a tenant, or all new ones, take now
    max_surge: float = 2.0  # times the usual number of events
    max_growth: float = 1.15  # times the usual work, by what it would take if the cell weren't slow
    consecutive_failures: int = 5
    min_failing_tenants: int = 3  # whose events fail, or hang: fewer tenants' troubles are their own (quarantine)
    hang_s: float = 5.0  # neither canary nor event was answered for so long
    max_age_s: float = 8.0  # of the oldest event in flight, while nothing is answered; or 3 times the longest of late
    warm_up_s: float = 60.0  # so long a new cell's canary may be unlike the others' before that is its usual one
    memory_s: float = 600.0  # over which what is usual for a cell, canary, events and work, forgets


@dataclass(frozen=True, slots=True)
class Assessment:
    """A verdict with its evidence. Latencies in seconds, `shift` and `off` in natural logarithms."""

    cell_id: str
    verdict: Verdict = Verdict.HEALTHY
    rule: str = ""  # the one that says so, in words
    held_s: float = 0.0  # for how long it has said so
    shift: float | None = None  # D: how far the cell is off beside its peers
    error: float | None = None  # standard error of it
    spread: float = EVENT_SPREAD  # of one tenant's events, in all cells
    off: float | None = None  # S: how far from what is usual for its tenants
    tenants: int = 0  # that S is of
    peers_off: float | None = None  # the median of the other cells' S
    peers: int = 0
    latency_s: float = 0.0  # geometric mean of the window
    canary_s: float | None = None  # the window's median
    recent_canary_s: float | None = None  # of its end
    usual: Usual = NOTHING_USUAL
    peers_canary_s: float | None = None
    failing: int = 0  # in a row
    oldest_s: float = 0.0  # in flight
    heaviest: str = ""  # the tenant that takes most of the time that used to be the others'
    heaviest_share: float = 0.0  # of the cell's time, now
    taken: float = 0.0  # of the time that used to be the others', by it
    new_share: float = 0.0  # of the cell's time, by all tenants that hardly were there
    surge: float = 0.0  # events, to the usual number
    growth: float = 0.0  # of the work, likewise: as much as is certain

    @property
    def excess_s(self) -> float:
        """What an event takes longer than it should."""
        return self.latency_s * (1 - exp(-self.shift)) if self.shift is not None else 0.0


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
class _Tenant:
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

    def count(self, sample: TenantSample, sign: int) -> None:
        """One more, or one less."""
        self.samples += sign
        self.busy_s += sign * sample.busy_s
        self.usual += sign * sample.busy_s * sample.usual_share
        if sample.off is not None:
            self.events += sign * sample.events
            self.off += sign * sample.events * max(-MOST_OFF, min(sample.off, MOST_OFF))


class Window:
    """The samples of one instance within the window, and their sums: each is added once and taken away once."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, CellSample]] = deque()
        self._tenants: dict[str, _Tenant] = {}
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

    def since(self, then: float) -> Window:
        """Only what is newer."""
        window = Window()
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

    def load(self, window_s: float, off: float) -> tuple[str, float, float, float]:
        """Who takes most of the time that used to be others', with its share and what it takes; the new ones' share.

        Only of work that would be in others' way if the cell weren't slow: it is `off` by so much.
        """
        least_s = LEAST_PLACES * window_s * exp(max(0.0, off))
        busy_s = sum(tenant.busy_s for tenant in self._tenants.values())
        new_s, found = 0.0, ("", 0.0, 0.0)
        for key, tenant in self._tenants.items():
            share, usual = tenant.shares(busy_s)
            if share > NEW_TIMES * usual:
                new_s += tenant.busy_s
            if share > usual and tenant.busy_s > least_s:
                found = max(found, (key, share, (share - usual) / (1 - usual)), key=lambda each: each[2])
        return *found, new_s / busy_s if new_s > least_s else 0.0

    def growth(self, usual: Usual, window_s: float, off: float) -> float:
        """How many times the usual work there is, as much as is certain; what is due to being slow taken out."""
        work_s = self._work_s + self._new_s / exp(max(0.0, off))
        if not usual.known or not usual.work or work_s <= LEAST_PLACES * window_s:
            return 0.0
        return work_s / (usual.work * window_s) * (1 - WORK_SIGMA * WORK_SPREAD / sqrt(self._ok))

    def surge(self, usual: Usual, window_s: float) -> float:
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
                tenant = self._tenants[key] = _Tenant()
            tenant.count(seen, sign)
            if not tenant.samples:
                del self._tenants[key]


@dataclass(slots=True)
class Seen:
    """Of one cell's instance."""

    generation: int = 0
    usual: Usual = NOTHING_USUAL
    window: Window = field(default_factory=Window)
    canaries: Canaries = field(default_factory=Canaries)
    ok: int = 0  # answered well since the last look
    work_s: float = 0.0  # what that usually takes
    new_s: float = 0.0  # what those of tenants took of which that isn't known
    done: deque[Done] = field(default_factory=deque)  # between looks, within the window
    first_at: float | None = None  # looked at for the first time
    verdict: Verdict = Verdict.HEALTHY  # that the rules give now
    since: float = 0.0  # it has been the same; watched and slow are

    @property
    def over(self) -> bool:
        """Whether it was over a limit of slowness, when last looked at."""
        return self.verdict in (Verdict.WATCHED, Verdict.SLOW)

    def add(self, router_id: str, sample: CellSample, now: float) -> None:
        """One router's interval."""
        self.window.add(router_id, sample, now)
        self.ok += sample.ok
        self.work_s += sample.work_s
        self.new_s += sample.new_s

    def looked_at(self, off: float, step_s: float, now: float) -> None:
        """All that came since the last look was done `off` slower than usual."""
        self.first_at = now if self.first_at is None else self.first_at
        if step_s > 0:
            self.done.append(Done(now, step_s, self.ok, self.work_s + self.new_s / exp(max(0.0, off))))
        self.ok, self.work_s, self.new_s = 0, 0.0, 0.0

    def forget_before(self, then: float) -> None:
        """What is older is in no window any more."""
        self.window.forget_before(then)
        while self.canaries.recent and self.canaries.recent[0][0] <= then:
            self.canaries.recent.popleft()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one cell stands to what is usual for it, at one moment."""

    off: float | None  # S
    tenants: int  # that it is of
    spread: float | None  # of its tenants' events
    leverage: float  # the standard error of S, in spreads of an event
    canary_s: float | None

    @classmethod
    def of(cls, window: Window, canary_s: float | None, config: DetectorConfig) -> Standing:
        """From all that was seen in the window. No tenant weighs more than one of `min_tenants` equals."""
        offs = window.offs()
        if not offs:
            return cls(None, 0, None, inf, canary_s)
        weights = evened([events for _, events in offs], 1 / config.min_tenants)
        middle = middle_mean([off for off, _ in offs], weights)
        spread = _MAD_TO_SIGMA * median([abs(off - middle) * sqrt(events) for off, events in offs])
        variance = sum(weight * weight / events for weight, (_, events) in zip(weights, offs, strict=True))
        return cls(middle, len(offs), spread, _MIDDLE_TO_MEAN * sqrt(variance) / sum(weights), canary_s)


def beside(
    cell_id: str,
    seen: Seen,
    own: Standing,
    peers: Sequence[Standing],
    spread: float,
    now: float,
    config: DetectorConfig,
) -> Assessment:
    """The evidence, without a verdict. `spread`: of one tenant's events, all over."""
    peers_off, peers_leverage = _of_peers(peers, config)
    canaries = [peer.canary_s for peer in peers if peer.canary_s is not None]
    error = spread * hypot(own.leverage, peers_leverage)
    heaviest, share, taken, new_share = seen.window.load(config.window_s, own.off or 0.0)
    return Assessment(
        cell_id=cell_id,
        shift=own.off - peers_off if own.off is not None and peers_off is not None else None,
        error=error if isfinite(error) else None,
        spread=spread,
        off=own.off if own.tenants >= config.min_tenants else None,
        tenants=own.tenants,
        peers_off=peers_off,
        peers=len(peers),
        latency_s=seen.window.latency_s(),
        canary_s=own.canary_s,
        recent_canary_s=seen.canaries.median_s(now, now - config.confirm_s),
        usual=seen.usual,
        peers_canary_s=median(canaries) if canaries else None,
        failing=max(seen.window.failing(now)[0], seen.canaries.failures),
        oldest_s=seen.window.oldest_s(now),
        heaviest=heaviest,
        heaviest_share=share,
        taken=taken,
        new_share=new_share,
        surge=seen.window.surge(seen.usual, config.window_s),
        growth=seen.window.growth(seen.usual, config.window_s, own.off or 0.0),
    )


def has_recovered(seen: Seen, evidence: Assessment, now: float, config: DetectorConfig) -> bool:
    """Whether what was seen last says that it isn't slow any more, though the window as a whole is."""
    recent = Standing.of(seen.window.since(now - config.confirm_s), None, config)
    if recent.off is None or evidence.peers_off is None:
        return False
    at_most = recent.off + SURE_SIGMA * evidence.spread * recent.leverage
    return at_most - evidence.peers_off < log(config.max_ratio)


def _of_peers(peers: Sequence[Standing], config: DetectorConfig) -> tuple[float | None, float]:
    """Their S with its leverage. Where too few have one, the cell is compared with itself too."""
    known = [peer for peer in peers if peer.off is not None and peer.tenants >= config.min_tenants]
    if len(known) >= config.min_peers:
        leverage = _MEDIAN_TO_MEAN * median(peer.leverage for peer in known) / sqrt(len(known))
        return median(peer.off for peer in known if peer.off is not None), leverage
    some = [peer.off for peer in peers if peer.off is not None]
    if some:
        return max(0.0, median(some)), 0.0
    return (0.0 if len(peers) < config.min_peers else None), 0.0
