"""What each vantage point finds of a cell, and the paths that are slow though the cell is not.

A path is from one router, or from the leader, to one cell. What it alone shows is never the cell's fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median_low
from typing import NamedTuple

from router.core.detection.canaries import CanaryWindow, InstanceCanaries
from router.core.detection.estimates import CellEstimate, PeerEstimates
from router.core.detection.thresholds import (
    CONFIRM_S,
    HANG_S,
    LONG_GLANCE_S,
    MAX_FAILURES,
    MAX_RATIO,
    MIN_CANARY_EXCESS_S,
    MIN_LATENCY_S,
    MIN_POINTS,
    RECOVERED_SIGMA,
)
from router.core.detection.window import SampleWindow


class PathView(NamedTuple):
    """One vantage point's view of a cell, by its canaries."""

    vantage: str
    canary_s: float  # the median; of the last CONFIRM_S where that is less, if it is slow
    reference_s: float  # what it should take
    ratio: float  # how many times as long it takes

    @property
    def slow(self) -> bool:
        """Whether this vantage point finds the canary slow."""
        return self.finds_slow(self.canary_s)

    def finds_slow(self, canary_s: float) -> bool:
        """Tell whether a canary that takes so long is slow, by what it should take here."""
        return canary_s > MAX_RATIO * self.reference_s and canary_s - self.reference_s >= MIN_CANARY_EXCESS_S


@dataclass(frozen=True, slots=True)
class TenantsView:
    """One router's view of a cell, by its tenants."""

    router: str
    deviation: float
    slow: bool  # it can't be excluded that the cell is slow


def views_of(canaries: InstanceCanaries, own: CellEstimate, others: PeerEstimates, now: float) -> list[PathView]:
    """Return the views of all vantage points that know what the cell's canary should take."""
    found, standing = [], others.standing(own)
    for vantage, canary_s in own.canaries.items():
        reference_s = others.reference_s(own, vantage, standing)
        if reference_s is None:
            continue
        reference_s = max(reference_s, MIN_LATENCY_S)
        seen_s = canary_s
        if canary_s > MAX_RATIO * reference_s:
            seen_s = min(canary_s, canaries.of(vantage).median_s(now, now - CONFIRM_S) or canary_s)
        found.append(PathView(vantage, seen_s, reference_s, seen_s / reference_s))
    return found


def glance_at(canaries: InstanceCanaries, views: Sequence[PathView], now: float) -> tuple[int, int]:
    """Return how many vantage points had a canary answered in the last seconds, and how many of them found it slow."""
    since = now - LONG_GLANCE_S
    last = [(view, canaries.of(view.vantage).last_s(now, since)) for view in views]
    seen = [(view, last_s) for view, last_s in last if last_s is not None]
    return len(seen), sum(view.finds_slow(last_s) for view, last_s in seen)


def are_enough(slow: int, points: int) -> bool:
    """Tell whether so many of the vantage points convict the cell, and not their paths to it."""
    return slow >= MIN_POINTS and 2 * slow > points


def are_most(slow: int, points: int) -> bool:
    """Tell whether most of the vantage points find the cell slow, or the only one of them that can tell."""
    return are_enough(slow, points) or slow == points == 1


def routers_of(
    window: SampleWindow, views: Sequence[PathView], peers_deviation: float, spread: float
) -> list[TenantsView]:
    """Return the views of the routers that see enough tenants to tell about the cell.

    A router whose path is slow by its canaries, and by those of few others, has nothing against the cell.
    """
    slow = {view.vantage for view in views if view.slow}
    paths = slow if not are_enough(len(slow), len(views)) and len(views) >= MIN_POINTS else frozenset()
    estimates = {router: CellEstimate.of(each, {}, None) for router, each in window.by_router().items()}
    found = []
    for router, own in estimates.items():
        if own.known and own.deviation is not None:
            surely = own.deviation + RECOVERED_SIGMA * spread * own.relative_error - peers_deviation
            found.append(TenantsView(router, own.deviation, slow=surely >= log(MAX_RATIO) and router not in paths))
    return found


def slow_paths(
    cell_id: str,
    canaries: InstanceCanaries,
    views: Sequence[PathView],
    routers: Sequence[TenantsView],
    now: float,
    *,
    well: bool,
) -> tuple[str, ...]:
    """Describe the paths that few vantage points find slow, or dead, while the others find nothing.

    `well` tells whether most vantage points have the cell's canaries answered well.
    """
    dead = _dead(cell_id, canaries, now) if well else ()
    return (*_by_canary(cell_id, canaries, views, now), *_by_tenants(cell_id, routers), *dead)


def _by_canary(cell_id: str, canaries: InstanceCanaries, views: Sequence[PathView], now: float) -> Iterator[str]:
    slow = [view for view in views if view.slow]
    rest = [view for view in views if not view.slow]
    if not slow or not rest:
        return
    # Where a cell gets slow or recovers, vantage points find it one after the other: that is no path.
    turning = sum(_turns(canaries.of(view.vantage), view, now) for view in rest)
    if are_enough(len(slow) + turning, len(views)):
        return
    others_s = median_low(view.canary_s for view in rest)
    for view in slow:
        yield (
            f"{view.vantage} → {cell_id}: {view.canary_s * 1000:.0f} ms, others {others_s * 1000:.0f} ms: "
            "a path, not the cell"
        )


def _turns(window: CanaryWindow, view: PathView, now: float) -> bool:
    """Tell whether a vantage point that finds nothing will soon, or just did: its last canaries or most are slow."""
    medians_s = (window.median_s(now, now - CONFIRM_S), window.median_s(now))
    return any(view.finds_slow(median_s) for median_s in medians_s if median_s is not None)


def _by_tenants(cell_id: str, routers: Sequence[TenantsView]) -> Iterator[str]:
    slow = [view for view in routers if view.slow]
    rest = [view.deviation for view in routers if not view.slow]
    if not rest or are_enough(len(slow), len(routers)):
        return
    for view in slow:
        yield (
            f"{view.router} → {cell_id}: its tenants take {exp(view.deviation):.1f} times as long as usual, by others "
            f"{exp(median_low(rest)):.1f} times: a path, not the cell"
        )


def _dead(cell_id: str, canaries: InstanceCanaries, now: float) -> Iterator[str]:
    for vantage, window in canaries.points.items():
        if (waiting_s := window.waiting_s(now)) >= HANG_S:
            yield f"{vantage} → {cell_id}: no answer for {waiting_s:.0f} s, others have theirs: a path, not the cell"
        elif window.failures >= MAX_FAILURES:
            yield (
                f"{vantage} → {cell_id}: {window.failures} canaries in a row have failed, others' have not: a path, "
                "not the cell"
            )
