"""Which cell is sick, from what routers report and canaries measure. Pure: it is fed with numbers and owns no clock.

    S_c = median, over the cell's tenants, of the mean log latency less that tenant's own usual one
    D_c = S_c - median of the other cells' S

With every tenant of a cell at twice its latency and the others as ever, D = ln 2. A tenant that is heavy, or gets
heavier, moves neither median; a dependency that all cells share moves both. A canary, an event of fixed cost, covers
what tenants can't tell: little traffic, new tenants, a creep too slow to notice. What is seen counts only when it
holds: a verdict needs evidence in every window of `window_s` that ended in the last `confirm_s`.

Median of deviations, not a quantile of latencies: in simulation p95 against peers evicts cells for their tenants
(docs/detector.md has the table).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import exp, log
from typing import Final

from router.core.evidence import Assessment, DetectorConfig, Seen, Verdict, Window, beside
from router.core.observations import RouterSample

AT_ONCE: Final = frozenset({Verdict.WORKLOAD, Verdict.FAILING, Verdict.HUNG})
"""Their rules count in a row, or time, themselves."""


class Detector:
    """Fed with samples and canaries; asked about once a second. Knows one generation of each cell: the admitted."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self._cells: dict[str, Seen] = {}
        self._numbers: dict[str, int] = {}  # router → its last interval

    def admitted(self, generations: Mapping[str, int]) -> None:
        """Which cells there are, and which generation of each has the traffic. What was seen of others is forgotten."""
        for gone in self._cells.keys() - generations.keys():
            del self._cells[gone]
        for cell_id, generation in generations.items():
            seen = self._cells.get(cell_id)
            if seen is None or seen.generation != generation:
                usual = seen.usual_canary_s if seen is not None else None
                self._cells[cell_id] = Seen(generation, usual_canary_s=usual)

    def sampled(self, router_id: str, sample: RouterSample, now: float) -> None:
        """One router's interval; what has been seen already, and what is of another generation, doesn't count."""
        if self._numbers.get(router_id) == sample.number:
            return
        self._numbers[router_id] = sample.number
        for cell_id, cell in sample.cells.items():
            seen = self._cells.get(cell_id)
            if seen is not None and seen.generation == cell.generation:
                seen.samples.append((now, router_id, cell))

    def forget_routers(self, alive: frozenset[str]) -> None:
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
        windows = {cell_id: Window(seen, now) for cell_id, seen in self._cells.items()}
        return {cell_id: self._assess(cell_id, window, windows, now) for cell_id, window in windows.items()}

    def _assess(self, cell_id: str, window: Window, windows: Mapping[str, Window], now: float) -> Assessment:
        peers = [peer for peer_id, peer in windows.items() if peer_id != cell_id]
        evidence, seen = beside(cell_id, window, peers, self.config), window.seen
        verdict, rule = next(rules(evidence, window, self.config), (Verdict.HEALTHY, ""))
        if verdict is not seen.verdict:
            seen.verdict, seen.since = verdict, now
        if verdict is Verdict.HEALTHY:
            self._learn_canary(seen, evidence.canary_s)
            return evidence
        held_s = now - seen.since
        if verdict not in AT_ONCE and held_s < self.config.confirm_s:
            verdict = Verdict.WATCHED
        return replace(evidence, verdict=verdict, rule=rule, held_s=held_s)

    def _learn_canary(self, seen: Seen, canary_s: float | None) -> None:
        """What is usual, once a second, slowly, and not while something is wrong."""
        if canary_s is not None:
            usual = seen.usual_canary_s
            step = 0.0 if usual is None else (canary_s - usual) / self.config.canary_memory_s
            seen.usual_canary_s = canary_s if usual is None else usual + step

    def _seen(self, cell_id: str, generation: int) -> Seen | None:
        seen = self._cells.get(cell_id)
        return seen if seen is not None and seen.generation == generation else None


def rules(evidence: Assessment, window: Window, config: DetectorConfig) -> Iterator[tuple[Verdict, str]]:
    """The verdicts that the evidence of one window gives, the gravest first, each with its reason."""
    if why := _hung(evidence, window, config):
        yield Verdict.HUNG, why
    if why := _failing(window, config):
        yield Verdict.FAILING, why
    if why := _slow_for_tenants(evidence, config) or _slow_for_canaries(evidence, config):
        if window.heaviest_growth >= config.workload_share:
            share = f"{evidence.heaviest_share:.0%} of the cell's time, {window.heaviest_growth:.0%} more than usual"
            yield Verdict.WORKLOAD, f"tenant {evidence.heaviest!r} takes {share}"
        yield Verdict.SLOW, why


def _hung(evidence: Assessment, window: Window, config: DetectorConfig) -> str:
    waited_s, silent_s = window.waited_s(), window.silent_s()
    if waited_s >= config.hang_s and not window.succeeds():
        return f"the canary has had no answer for {waited_s:.0f} s, and no event either"
    limit_s = max(config.max_age_s, 3 * window.slowest_s())
    if silent_s > limit_s and window.waiting_tenants() >= config.min_failing_tenants:
        return (
            f"the oldest event has waited for {evidence.oldest_s:.0f} s, and nothing was answered for {silent_s:.0f} s"
        )
    return ""


def _failing(window: Window, config: DetectorConfig) -> str:
    if window.succeeds():
        return ""
    if window.seen.canaries.failures >= config.consecutive_failures:
        return f"{window.seen.canaries.failures} canaries in a row have failed"
    failing, tenants = window.failing()
    if failing >= config.consecutive_failures and (
        tenants >= config.min_failing_tenants or window.seen.canaries.failures
    ):
        return f"{failing} failures in a row, of {tenants} tenants"
    return ""


def _slow_for_tenants(evidence: Assessment, config: DetectorConfig) -> str:
    shift = evidence.shift
    if shift is None or shift <= log(config.max_ratio) or evidence.excess_s < config.min_excess_s:
        return ""
    if evidence.error is None or shift < config.min_sigma * evidence.error:
        return ""
    against = "the other cells'" if evidence.peers >= config.min_peers else "their usual ones"
    return (
        f"its tenants' latencies are {exp(shift):.1f} times {against} "
        f"({evidence.excess_s * 1000:.0f} ms more, median of {evidence.tenants} tenants)"
    )


def _slow_for_canaries(evidence: Assessment, config: DetectorConfig) -> str:
    canary_s, usual_s, peers_s = evidence.canary_s, evidence.usual_canary_s, evidence.peers_canary_s
    if canary_s is None:
        return ""
    compared = [value for value in (usual_s, peers_s) if value is not None]
    if not compared or (peers_s is None and evidence.peers):
        return ""
    base_s = max(compared)
    if canary_s <= config.max_ratio * base_s or canary_s - base_s < config.min_excess_s:
        return ""
    return f"its canary takes {canary_s * 1000:.0f} ms, the others' and its usual one at most {base_s * 1000:.0f} ms"
