"""What is known of one cell within one window, put together from all routers, and beside the other cells. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from math import exp, hypot, inf, isfinite, log, sqrt
from statistics import median
from typing import Final

from router.core.detection.baseline import NO_BASELINE, Baseline, Done
from router.core.detection.samples import CellSample
from router.core.detection.statistics import LeaveOneOutMedians, capped_weights, interquartile_mean
from router.core.detection.window import NO_LOAD, Canaries, Load, SampleWindow, deflated_s

_MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN: Final = 1.2533  # how much more a median varies than a mean
_MIDDLE_TO_MEAN: Final = 1.1  # how much more the mean of the middle half does
EVENT_SPREAD: Final = 0.6  # of one tenant's log latencies, at least: few events that agree by chance are no proof
SURE_SIGMA: Final = 2.0  # standard errors below the limit: then it is


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
    usual: Baseline = NO_BASELINE
    peers_canary_s: float | None = None
    failing: int = 0  # in a row
    oldest_s: float = 0.0  # in flight
    load: Load = NO_LOAD
    surge: float = 0.0  # events, to the usual number
    growth: float = 0.0  # of the work, likewise: as much as is certain

    @property
    def excess_s(self) -> float:
        """What an event takes longer than it should."""
        return self.latency_s * (1 - exp(-self.shift)) if self.shift is not None else 0.0


@dataclass(slots=True)
class Seen:
    """Of one cell's instance."""

    generation: int = 0
    usual: Baseline = NO_BASELINE
    window: SampleWindow = field(default_factory=SampleWindow)
    canaries: Canaries = field(default_factory=Canaries)
    ok: int = 0  # answered well since the last look
    work_s: float = 0.0  # what that usually takes
    new_s: float = 0.0  # what those of tenants took of which that isn't known
    usual_shares: dict[str, float] = field(default_factory=dict)  # of the heaviest tenants, before it was unwell
    done: deque[Done] = field(default_factory=deque)  # between looks, within the window
    first_at: float = inf  # looked at for the first time
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

    def looked_at(self, off: float, peers_off: float, step_s: float, now: float) -> None:
        """All that came since the last look was done `off` slower than usual, here, and that in other cells."""
        self.first_at = min(self.first_at, now)
        if step_s > 0:
            self.done.append(Done(now, step_s, self.ok, deflated_s(self.work_s, self.new_s, off, peers_off)))
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
    def of(cls, window: SampleWindow, canary_s: float | None, config: DetectorConfig) -> Standing:
        """From all that was seen in the window. No tenant weighs more than one of `min_tenants` equals."""
        offs = window.offs()
        if not offs:
            return cls(None, 0, None, inf, canary_s)
        weights = capped_weights([events for _, events in offs], 1 / config.min_tenants)
        middle = interquartile_mean([off for off, _ in offs], weights)
        spread = _MAD_TO_SIGMA * median([abs(off - middle) * sqrt(events) for off, events in offs])
        variance = sum(weight * weight / events for weight, (_, events) in zip(weights, offs, strict=True))
        return cls(middle, len(offs), spread, _MIDDLE_TO_MEAN * sqrt(variance) / sum(weights), canary_s)

    def known(self, config: DetectorConfig) -> bool:
        """Whether there are enough tenants for S to be of the cell."""
        return self.off is not None and self.tenants >= config.min_tenants


class Standings:
    """All cells' standings, put together once: what its peers say is then looked up for each cell."""

    def __init__(self, standings: Collection[Standing], config: DetectorConfig) -> None:
        known = [each for each in standings if each.known(config)]
        self._config = config
        self._cells, self._known = len(standings), len(known)
        self._known_offs = LeaveOneOutMedians(each.off for each in known)
        self._leverages = LeaveOneOutMedians(each.leverage for each in known)
        self._offs = LeaveOneOutMedians(each.off for each in standings)
        self._canaries = LeaveOneOutMedians(each.canary_s for each in standings)
        spreads = [EVENT_SPREAD, *(each.spread for each in standings if each.spread is not None)]
        self.spread = max(median(spreads), EVENT_SPREAD)  # of one tenant's events, all over

    @property
    def peers(self) -> int:
        """How many others each cell has."""
        return self._cells - 1

    def canary_s(self, own: Standing) -> float | None:
        """The others' median."""
        return self._canaries.without(own.canary_s)

    def off(self, own: Standing) -> tuple[float | None, float]:
        """The others' S with its leverage. Where too few have one, the cell is compared with itself too."""
        counts = own.known(self._config)
        known = self._known - counts
        if known >= self._config.min_peers:
            leverage = self._leverages.without(own.leverage if counts else None) or 0.0
            return self._known_offs.without(own.off if counts else None), _MEDIAN_TO_MEAN * leverage / sqrt(known)
        if (some := self._offs.without(own.off)) is not None:
            return max(0.0, some), 0.0
        return (0.0 if self.peers < self._config.min_peers else None), 0.0


def beside(
    cell_id: str, seen: Seen, own: Standing, standings: Standings, now: float, config: DetectorConfig
) -> Assessment:
    """The evidence, without a verdict."""
    peers_off, peers_leverage = standings.off(own)
    error = standings.spread * hypot(own.leverage, peers_leverage)
    return Assessment(
        cell_id=cell_id,
        shift=own.off - peers_off if own.off is not None and peers_off is not None else None,
        error=error if isfinite(error) else None,
        spread=standings.spread,
        off=own.off if own.known(config) else None,
        tenants=own.tenants,
        peers_off=peers_off,
        peers=standings.peers,
        latency_s=seen.window.latency_s(),
        canary_s=own.canary_s,
        recent_canary_s=seen.canaries.median_s(now, now - config.confirm_s),
        usual=seen.usual,
        peers_canary_s=standings.canary_s(own),
        failing=max(seen.window.failing(now)[0], seen.canaries.failures),
        oldest_s=seen.window.oldest_s(now),
        load=seen.window.load(config.window_s, own.off or 0.0, seen.usual_shares),
        surge=seen.window.surge(seen.usual, config.window_s),
        growth=seen.window.growth(seen.usual, config.window_s, own.off or 0.0, peers_off or 0.0),
    )


def has_recovered(seen: Seen, evidence: Assessment, now: float, config: DetectorConfig) -> bool:
    """Whether what was seen last says that it isn't slow any more, though the window as a whole is."""
    recent = Standing.of(seen.window.since(now - config.confirm_s), None, config)
    if recent.off is None or evidence.peers_off is None:
        return False
    at_most = recent.off + SURE_SIGMA * evidence.spread * recent.leverage
    return at_most - evidence.peers_off < log(config.max_ratio)
