"""Which cell is sick, from what routers report and canaries measure. Pure: it is fed with numbers and owns no clock.

    S_c = mean of the middle half of the cell's tenants of: mean log latency less that tenant's own usual one
    D_c = S_c - median of the other cells' S

With every tenant of a cell at twice its latency and the others as ever, D = ln 2. A tenant that is heavy, or gets
heavier, moves neither S; a dependency that all cells share moves all. A canary, an event of fixed cost, covers
what tenants can't tell: little traffic, new tenants, a creep too slow to notice. What is seen counts only when it
lasts: about half of the window must be slow before its middle is, and it must stay so for `confirm_s`.

The middle of deviations, not a quantile of latencies: in simulation p95 against peers evicts cells for their tenants
(docs/detector.md has the table).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from math import exp, log
from typing import Final

from router.core.detection.assessment import (
    Assessment,
    DetectorConfig,
    Seen,
    Standing,
    Standings,
    Verdict,
    beside,
    has_recovered,
)
from router.core.detection.baseline import LEAST_LEARNED_S, NO_BASELINE, Baseline
from router.core.detection.samples import LEAST_S, PATIENCE_S, RouterSample

AT_ONCE: Final = frozenset({Verdict.WORKLOAD, Verdict.FAILING, Verdict.HUNG})
"""Their rules count in a row, or time, themselves."""


class Detector:
    """Fed with samples and canaries; asked about once a second. Knows one generation of each cell: the admitted."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self._cells: dict[str, Seen] = {}
        self._usual: dict[str, Baseline] = {}  # of cells without an instance
        self._assessed_at: float | None = None
        self._numbers: dict[str, int] = {}  # router → its last interval

    def admitted(self, generations: Mapping[str, int]) -> None:
        """Which cells there are, and which generation of each has the traffic. What was seen of others is forgotten."""
        for cell_id, seen in list(self._cells.items()):
            if generations.get(cell_id) != seen.generation:
                self._usual[cell_id] = self._cells.pop(cell_id).usual
        for cell_id in generations.keys() - self._cells.keys():
            self._cells[cell_id] = Seen(generations[cell_id], self._usual.pop(cell_id, NO_BASELINE))

    def recall(self, usual: Mapping[str, Baseline]) -> None:
        """What another leader knew of cells that are not known yet."""
        self._usual = {cell_id: known for cell_id, known in usual.items() if cell_id not in self._cells} | self._usual

    def sampled(self, router_id: str, sample: RouterSample, now: float) -> None:
        """One router's interval; what has been seen already, and what is of another generation, doesn't count."""
        if self._numbers.get(router_id) == sample.number:
            return
        self._numbers[router_id] = sample.number
        for cell_id, cell in sample.cells.items():
            if (seen := self._seen(cell_id, cell.generation)) is not None:
                seen.add(router_id, cell, now)

    def forget_routers(self, alive: Collection[str]) -> None:
        """Those that are gone say nothing more."""
        self._numbers = {router: number for router, number in self._numbers.items() if router in alive}

    def canary_sent(self, cell_id: str, generation: int, now: float) -> None:
        """From now on its answer is waited for."""
        if (seen := self._seen(cell_id, generation)) is not None:
            seen.canaries.waiting_since = now

    def canary_answered(self, cell_id: str, generation: int, latency_s: float, now: float) -> None:
        """Well."""
        if (seen := self._seen(cell_id, generation)) is not None:
            seen.canaries.recent.append((now, latency_s))
            seen.canaries.failures, seen.canaries.waiting_since = 0, None

    def canary_failed(self, cell_id: str, generation: int) -> None:
        """Refused, cut off, or answered with a failure or garbage."""
        if (seen := self._seen(cell_id, generation)) is not None:
            seen.canaries.failures, seen.canaries.waiting_since = seen.canaries.failures + 1, None

    def canary_lost(self, cell_id: str, generation: int) -> None:
        """Nobody could measure it: the fault was ours."""
        if (seen := self._seen(cell_id, generation)) is not None:
            seen.canaries.waiting_since = None

    def assess(self, now: float) -> dict[str, Assessment]:
        """Every cell's verdict."""
        for seen in self._cells.values():
            seen.forget_before(now - self.config.window_s)
        by_cell = {
            cell_id: Standing.of(seen.window, seen.canaries.median_s(now), self.config)
            for cell_id, seen in self._cells.items()
        }
        standings = Standings(by_cell.values(), self.config)
        step_s = now - self._assessed_at if self._assessed_at is not None else 0.0
        self._assessed_at = now
        return {cell_id: self._assess(cell_id, own, standings, now, step_s) for cell_id, own in by_cell.items()}

    def _assess(self, cell_id: str, own: Standing, standings: Standings, now: float, step_s: float) -> Assessment:
        seen = self._cells[cell_id]
        evidence = beside(cell_id, seen, own, standings, now, self.config)
        verdict, rule = next(rules(evidence, seen, now, self.config), (Verdict.HEALTHY, ""))
        was, over, seen.verdict = seen.verdict, seen.over, verdict
        if verdict is not was and not (over and seen.over):
            seen.since = now
        held_s = now - seen.since
        seen.looked_at(evidence.off or 0.0, evidence.peers_off or 0.0, step_s, now)
        self._learn(seen, evidence, now, step_s, usual=verdict is Verdict.HEALTHY or held_s > PATIENCE_S)
        if verdict is Verdict.HEALTHY:
            if held_s >= LEAST_LEARNED_S:
                seen.usual_shares.clear()
            return evidence
        if evidence.load.heaviest:  # routers will learn what it takes now
            seen.usual_shares.setdefault(evidence.load.heaviest, evidence.load.usual)
        if verdict not in AT_ONCE and held_s < self.config.confirm_s:
            verdict = Verdict.WATCHED
        return replace(evidence, verdict=verdict, rule=rule, held_s=held_s)

    def _learn(self, seen: Seen, evidence: Assessment, now: float, step_s: float, *, usual: bool) -> None:
        """What is usual, slowly. Work counts only when it leaves the window: what makes a cell slow shows by then.

        A canary's time is usual at first when it is like the others', or when it has been so for long.
        """
        config = self.config
        while seen.done and seen.done[0].at <= now - config.window_s:
            done = seen.done.popleft()
            if usual:
                seen.usual = seen.usual.with_done(done, config.memory_s)
        canary_s, peers_s = evidence.canary_s, evidence.peers_canary_s
        if canary_s is None or not usual:
            return
        like_others = canary_s <= config.max_ratio * (peers_s or 0.0)
        if seen.usual.canary_s is not None or like_others or now - seen.first_at >= config.warm_up_s:
            seen.usual = seen.usual.with_canary(canary_s, step_s, config.memory_s)

    def _seen(self, cell_id: str, generation: int) -> Seen | None:
        seen = self._cells.get(cell_id)
        return seen if seen is not None and seen.generation == generation else None


def rules(evidence: Assessment, seen: Seen, now: float, config: DetectorConfig) -> Iterator[tuple[Verdict, str]]:
    """The verdicts that the evidence of one window gives, the gravest first, each with its reason."""
    if why := _hung(evidence, seen, now, config):
        yield Verdict.HUNG, why
    if why := _failing(seen, now, config):
        yield Verdict.FAILING, why
    if canaries := _slow_for_canaries(evidence, config):
        yield _slow(evidence, canaries, config)
    tenants = _slow_for_tenants(evidence, seen, config)
    if tenants and not has_recovered(seen, evidence, now, config):
        yield _slow(evidence, tenants, config) if _sure(evidence, config) else (Verdict.WATCHED, tenants)


def _slow(evidence: Assessment, why: str, config: DetectorConfig) -> tuple[Verdict, str]:
    workload = _workload(evidence, config)
    return (Verdict.WORKLOAD, f"{why}: {workload}") if workload else (Verdict.SLOW, why)


def _hung(evidence: Assessment, seen: Seen, now: float, config: DetectorConfig) -> str:
    waited_s, silent_s = seen.canaries.waited_s(now), seen.window.silent_s(now)
    if waited_s >= config.hang_s and not seen.window.succeeded(now - config.hang_s):
        return f"the canary has had no answer for {waited_s:.0f} s, and no event either"
    slowest_s = seen.window.slowest_s()  # 0: nothing has been answered yet, and nobody knows how long it takes
    if (
        slowest_s
        and silent_s > max(config.max_age_s, 3 * slowest_s)
        and seen.window.waiting_tenants(now) >= config.min_failing_tenants
    ):
        return (
            f"the oldest event has waited for {evidence.oldest_s:.0f} s, and nothing was answered for {silent_s:.0f} s"
        )
    return ""


def _failing(seen: Seen, now: float, config: DetectorConfig) -> str:
    canaries, (failing, tenants) = seen.canaries.failures, seen.window.failing(now)
    if canaries >= config.consecutive_failures and not seen.window.succeeded(now - config.hang_s):
        return f"{canaries} canaries in a row have failed"
    if failing >= config.consecutive_failures and (tenants >= config.min_failing_tenants or canaries):
        return f"{failing} failures in a row, of {tenants} tenants"
    return ""


def _workload(evidence: Assessment, config: DetectorConfig) -> str:
    load = evidence.load
    if load.taken >= config.workload_share:
        share = f"{load.share:.0%} of the cell's time, {load.taken:.0%} of what the others had"
        return f"tenant {load.heaviest!r} takes {share}"
    if load.new_share >= config.workload_share:
        return f"new tenants take {load.new_share:.0%} of the cell's time"
    if evidence.surge >= config.max_surge:
        return f"it gets {evidence.surge:.1f} times as many events as usual"
    if evidence.growth >= config.max_growth:
        return f"it has {evidence.growth:.1f} times as much to do as usual"
    return ""


def _sure(evidence: Assessment, config: DetectorConfig) -> bool:
    """Whether it is no chance: by the number of tenants and events, or because the canary says the same."""
    if evidence.tenants < config.min_tenants or evidence.shift is None or evidence.error is None:
        return False
    return evidence.shift >= config.min_sigma * evidence.error or _canary_ratio(evidence) > config.max_ratio


def _slow_for_tenants(evidence: Assessment, seen: Seen, config: DetectorConfig) -> str:
    """To begin with it takes enough tenants; after that, fewer don't acquit it."""
    shift = evidence.shift
    if shift is None or shift <= log(config.max_ratio) or evidence.excess_s < config.min_excess_s:
        return ""
    if evidence.tenants < config.min_tenants and not seen.over:
        return ""
    against = "the other cells'" if evidence.peers >= config.min_peers else "their usual ones"
    return (
        f"its tenants' latencies are {exp(shift):.1f} times {against} "
        f"({evidence.excess_s * 1000:.0f} ms more, of {evidence.tenants} tenants)"
    )


def _slow_for_canaries(evidence: Assessment, config: DetectorConfig) -> str:
    ratio, canary_s = _canary_ratio(evidence), evidence.canary_s or 0.0
    if ratio <= config.max_ratio or canary_s * (1 - 1 / ratio) < config.min_canary_excess_s:
        return ""
    return f"its canary takes {canary_s * 1000:.0f} ms, {ratio:.1f} times the others' and its usual one"


def _canary_ratio(evidence: Assessment) -> float:
    """To its usual one and to the others', whichever is more; 0 while that isn't known. Now, not only in the window."""
    canary_s, usual_s, peers_s = evidence.canary_s, evidence.usual.canary_s, evidence.peers_canary_s
    if canary_s is None or usual_s is None or (peers_s is None and evidence.peers):
        return 0.0
    if evidence.recent_canary_s is not None:
        canary_s = min(canary_s, evidence.recent_canary_s)
    return canary_s / max(usual_s, peers_s or 0.0, LEAST_S)
