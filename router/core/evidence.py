"""What is known of one cell within one window, put together from all routers, and beside the other cells. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import exp, inf, isfinite, sqrt
from statistics import median
from typing import Final

from router.core.observations import CellSample

_MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN: Final = 1.2533  # how much more a median varies than a mean
FRESH_S: Final = 2.5  # a router's latest sample is the present state for so long


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

    window_s: float = 5.0  # samples of so long are looked at together
    confirm_s: float = 10.0  # over the limit all the while: three windows that share nothing
    max_ratio: float = 2.0  # to the usual latency (tenants) or the peers' (canary)
    min_excess_s: float = 0.05  # whatever the ratio, less is not worth a replacement
    min_tenants: int = 5  # fewer say nothing about their cell
    min_peers: int = 2  # cells to compare with; with fewer, a cell is compared with itself
    min_sigma: float = 3.0  # the difference must be so many standard errors
    workload_share: float = 0.3  # of the cell's time, that a tenant takes more than usual: then it is the tenant
    consecutive_failures: int = 5
    min_failing_tenants: int = 3  # whose events fail, or hang: fewer tenants' troubles are their own (quarantine)
    hang_s: float = 5.0  # neither canary nor event was answered for so long
    max_age_s: float = 8.0  # of the oldest event in flight, while nothing is answered; or 3 times the longest of late
    canary_memory_s: float = 600.0  # over which a cell's usual canary forgets


@dataclass(frozen=True, slots=True)
class Assessment:
    """A verdict with its evidence. Latencies in seconds, `shift` and `off` in natural logarithms."""

    cell_id: str
    verdict: Verdict = Verdict.HEALTHY
    rule: str = ""  # the one that says so, in words
    held_s: float = 0.0  # for how long it has said so
    shift: float | None = None  # D: how far the cell is off beside its peers
    error: float | None = None  # standard error of it
    off: float | None = None  # S: how far from what is usual for its tenants
    tenants: int = 0  # that S is the median of
    peers_off: float | None = None  # the median of the other cells' S
    peers: int = 0
    latency_s: float = 0.0  # geometric mean of the window
    canary_s: float | None = None  # the window's median
    usual_canary_s: float | None = None
    peers_canary_s: float | None = None
    failing: int = 0  # in a row
    oldest_s: float = 0.0  # in flight
    heaviest: str = ""  # the tenant that takes more of the cell's time than it used to
    heaviest_share: float = 0.0

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


@dataclass(slots=True)
class Seen:
    """Of one cell. All but the usual canary is of one generation."""

    generation: int = 0
    samples: deque[tuple[float, str, CellSample]] = field(default_factory=deque)  # when, from which router
    canaries: Canaries = field(default_factory=Canaries)
    usual_canary_s: float | None = None
    verdict: Verdict = Verdict.HEALTHY  # that the rules give now
    since: float = 0.0  # it has been the same

    def forget_before(self, then: float) -> None:
        """What is older is in no window any more."""
        while self.samples and self.samples[0][0] <= then:
            self.samples.popleft()
        while self.canaries.recent and self.canaries.recent[0][0] <= then:
            self.canaries.recent.popleft()


@dataclass(slots=True)
class _Tenant:
    """Over all routers."""

    busy_s: float = 0.0
    usual_share: float = 0.0
    events: int = 0  # whose deviation is known
    off: float = 0.0  # the sum of theirs

    def add(self, busy_s: float, usual_share: float, events: int, off: float | None) -> None:
        self.busy_s += busy_s
        self.usual_share = max(self.usual_share, usual_share)
        if off is not None:
            self.events += events
            self.off += events * off


class Window:
    """What `seen` says of its cell at one moment."""

    def __init__(self, seen: Seen, now: float) -> None:
        self.seen = seen
        self._samples = [sample for _, _, sample in seen.samples]
        self._latest = {router: (at, sample) for at, router, sample in seen.samples}
        self._fresh = [sample for at, sample in self._latest.values() if now - at <= FRESH_S]
        self._now = now
        tenants = self._tenants()
        offs = [tenant.off / tenant.events for tenant in tenants.values() if tenant.events]
        self.tenants = len(offs)
        self.off = median(offs) if offs else None
        self.error = _error_of_median(offs)
        self.heaviest, self.heaviest_growth, self.heaviest_share = _heaviest(tenants)

    def latency_s(self) -> float:
        """Geometric mean of what was answered well."""
        count = sum(sample.ok for sample in self._samples)
        return exp(sum(sample.log_s for sample in self._samples) / count) if count else 0.0

    def canary_s(self) -> float | None:
        """The median canary, one that has waited for longer than any other among them."""
        latencies = [latency for _, latency in self.seen.canaries.recent]
        waited_s = self.waited_s()
        if waited_s > max(latencies, default=0.0):
            latencies.append(waited_s)
        return median(latencies) if latencies else None

    def waited_s(self) -> float:
        """How long a canary has been waiting for its answer."""
        since = self.seen.canaries.waiting_since
        return self._now - since if since is not None else 0.0

    def failing(self) -> tuple[int, int]:
        """Failures in a row and the tenants among them, as the router says that has seen most."""
        return max(((s.failing, s.failing_tenants) for s in self._fresh), default=(0, 0))

    def succeeds(self) -> bool:
        """Whether any router got something done just now."""
        return any(sample.ok for sample in self._fresh)

    def silent_s(self) -> float:
        """For how long nothing was answered, though something is in flight; 0 when there is nothing to answer."""
        waiting = [sample.silent_s for sample in self._fresh if sample.oldest_s]
        return min(waiting, default=0.0) if not any(s.events for s in self._fresh) else 0.0

    def waiting_tenants(self) -> int:
        """How many tenants have something in flight."""
        return max((sample.waiting_tenants for sample in self._fresh), default=0)

    def oldest_s(self) -> float:
        """The oldest event in flight."""
        return max((sample.oldest_s for sample in self._fresh), default=0.0)

    def slowest_s(self) -> float:
        """The longest that an event took lately."""
        return max((sample.slowest_s for sample in self._samples), default=0.0)

    def has_traffic(self) -> bool:
        """Whether routers have something to do with it."""
        return any(sample.events or sample.oldest_s for sample in self._fresh)

    def _tenants(self) -> dict[str, _Tenant]:
        found: dict[str, _Tenant] = {}
        for sample in self._samples:
            for key, tenant in sample.tenants.items():
                found.setdefault(key, _Tenant()).add(tenant.busy_s, tenant.usual_share, tenant.events, tenant.off)
        return found


def beside(cell_id: str, window: Window, peers: Sequence[Window], config: DetectorConfig) -> Assessment:
    """The evidence, without a verdict. With too few peers a cell is compared with itself."""
    off = window.off if window.tenants >= config.min_tenants else None
    offs = [peer.off for peer in peers if peer.off is not None and peer.tenants >= config.min_tenants]
    canaries = [latency for peer in peers if (latency := peer.canary_s()) is not None]
    peers_off = median(offs) if len(offs) >= config.min_peers else 0.0 if len(peers) < config.min_peers else None
    failing, _ = window.failing()
    return Assessment(
        cell_id=cell_id,
        shift=off - peers_off if off is not None and peers_off is not None else None,
        error=window.error if isfinite(window.error) else None,
        off=off,
        tenants=window.tenants,
        peers_off=peers_off,
        peers=len(peers),
        latency_s=window.latency_s(),
        canary_s=window.canary_s(),
        usual_canary_s=window.seen.usual_canary_s,
        peers_canary_s=median(canaries) if canaries else None,
        failing=max(failing, window.seen.canaries.failures),
        oldest_s=window.oldest_s(),
        heaviest=window.heaviest,
        heaviest_share=window.heaviest_share,
    )


def _heaviest(tenants: dict[str, _Tenant]) -> tuple[str, float, float]:
    """The tenant whose share of the cell's time has grown most: by how much, to what."""
    busy_s = sum(tenant.busy_s for tenant in tenants.values())
    if not busy_s:
        return "", 0.0, 0.0
    grown = {key: tenant.busy_s / busy_s - tenant.usual_share for key, tenant in tenants.items()}
    key = max(grown, key=lambda key: grown[key])
    return key, grown[key], tenants[key].busy_s / busy_s


def _error_of_median(values: Sequence[float]) -> float:
    """Its standard error, from the spread of the values."""
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        return inf
    middle = median(values)
    spread = _MAD_TO_SIGMA * median(abs(value - middle) for value in values)
    return _MEDIAN_TO_MEAN * spread / sqrt(len(values))
