"""Finds which cells are sick, from what routers report and canaries measure.

    S = interquartile mean, over a cell's tenants, of: mean log latency - that tenant's baseline
    D = S - leave-one-out median of the cells' S

With every tenant of a cell at twice its latency and the others as ever, D = ln 2. A tenant that is heavy, or becomes
heavy, moves no S. A dependency that all cells share moves every S and no D. A canary, an event of fixed cost, covers
what tenants can't tell: little traffic, new tenants, a creep too slow to notice.

A mean of deviations, not a quantile of latencies: in simulation, p95 against peers evicts cells for their tenants
(docs/detector.md has the table). The detector is fed with figures and owns no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from math import ceil, inf
from statistics import median_low
from typing import Final

from router.core.detection.announcements import Announcements, Occasion
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.baseline import NO_BASELINE, Baseline
from router.core.detection.canaries import LEADER
from router.core.detection.estimates import CellEstimate, PeerEstimates
from router.core.detection.evidence import evidence_of, with_workload
from router.core.detection.history import PATIENCE_S, InstanceHistory
from router.core.detection.paths import are_enough
from router.core.detection.rules import confirmed, judge, why_looks_slow
from router.core.detection.samples import CanarySample, RouterSample
from router.core.detection.thresholds import MAX_PAUSE_S, MIN_PEERS, SETTLED_S, WINDOW_S
from router.core.detection.window import NOTHING_ANSWERED, AnsweredSums
from router.core.models import Vitals

AT_ONCE: Final = 100  # cells that are assessed before others may run: about 5 ms
EACH_TIME: Final = 200  # cells in each assessment; of more, those that nothing speaks against take turns
MAX_TURNS: Final = 5  # assessments until a cell is looked at again


class Detector:
    """Takes in samples and canaries, and assesses all cells about once a second.

    It knows one generation of each cell: the admitted one, which has the traffic.
    """

    def __init__(self) -> None:
        self._cells: dict[str, InstanceHistory] = {}
        self._baselines: dict[str, Baseline] = {}  # of cells without an instance
        self._assessed_at: float | None = None
        self._changed, self._changed_at = False, -inf  # whether other cells serve now, and since when
        self._turn = 0  # counts the assessments
        self._count = 0  # of cells, also of those without an instance
        self._announcements = Announcements()
        self._numbers: dict[str, int] = {}  # router → the number of its last interval

    def admitted(self, generations: Mapping[str, int], cells: int = 0) -> None:
        """Set which cells serve and which generation of each has the traffic; forget all other generations.

        `cells` is how many there are, if some of them serve nothing now.
        """
        self._count = max(cells, len(generations))
        if generations.keys() != self._cells.keys():
            self._changed = True
        for cell_id, history in list(self._cells.items()):
            if generations.get(cell_id) != history.generation:
                self._baselines[cell_id] = self._cells.pop(cell_id).baseline
        for cell_id in generations.keys() - self._cells.keys():
            baseline = self._baselines.pop(cell_id, NO_BASELINE)
            self._cells[cell_id] = InstanceHistory(generations[cell_id], baseline, assessed_at=self._assessed_at)

    def recall(self, baselines: Mapping[str, Baseline]) -> None:
        """Take over what another leader learned, for cells that this detector does not know yet."""
        new = {cell_id: baseline for cell_id, baseline in baselines.items() if cell_id not in self._cells}
        self._baselines = new | self._baselines

    def sampled(self, router_id: str, sample: RouterSample, now: float) -> None:
        """Take in the sample of one router's interval, unless it was taken in already or is of another generation."""
        if self._numbers.get(router_id) == sample.number:
            return
        self._numbers[router_id] = sample.number
        for cell_id, cell in sample.cells.items():
            history = self._cells.get(cell_id)
            if history is not None and history.generation == cell.generation:
                history.add(router_id, cell, now)
        for cell_id, canaries in sample.canaries.items():
            for canary in canaries:
                if (history := self._history(cell_id, canary.generation)) is not None:
                    history.told_of_canary(router_id, canary, now)

    def forget_routers(self, alive: Collection[str]) -> None:
        """Forget the intervals' numbers of all routers but these: one that comes again counts from its beginning."""
        self._numbers = {router: number for router, number in self._numbers.items() if router in alive}

    def announce(self, cell_ids: Collection[str], occasion: Occasion, at: float, until: float) -> None:
        """Note what was done to these cells at `at`, by who knows it; it is evidence until `until`."""
        self._announcements.note(cell_ids, occasion, at, until)

    def told(
        self, cell_id: str, generation: int, vitals: Vitals | None, beat: int, now: float, *, rehearses: bool = False
    ) -> None:
        """Take in what an instance says of itself in the heartbeat of this number."""
        if (history := self._history(cell_id, generation)) is not None:
            history.told(vitals, beat, now)
            history.rehearses = rehearses

    def canary_sent(self, cell_id: str, generation: int, now: float) -> None:
        """Note that a canary was sent, and is waited for from now on."""
        if (history := self._history(cell_id, generation)) is not None:
            history.canaries.of(LEADER).waiting_since = now

    def canary_answered(self, cell_id: str, generation: int, latency_s: float, now: float) -> None:
        """Note that a canary was answered well after `latency_s` seconds."""
        if (history := self._history(cell_id, generation)) is not None:
            history.told_of_canary(LEADER, CanarySample(generation, latency_s), now)

    def canary_failed(self, cell_id: str, generation: int, now: float) -> None:
        """Note that a canary was refused, cut off, or answered with a failure or garbage."""
        if (history := self._history(cell_id, generation)) is not None:
            history.told_of_canary(LEADER, CanarySample(generation), now)

    def canary_lost(self, cell_id: str, generation: int) -> None:
        """Note that a canary could not be measured, by the controller's own fault: it counts for nothing."""
        if (history := self._history(cell_id, generation)) is not None:
            history.canaries.of(LEADER).waiting_since = None

    def answers(self, cell_id: str) -> AnsweredSums:
        """Return all that the cell's admitted instance was seen to answer."""
        history = self._cells.get(cell_id)
        return history.answers if history is not None else NOTHING_ANSWERED

    def assess(self, now: float, on_trial: Collection[str] = ()) -> dict[str, Assessment]:
        """Return every cell's verdict and evidence, by cell id, and learn what is normal.

        Of the cells that are `on_trial` nothing is learned: they are measured by what was normal before.
        """
        found: dict[str, Assessment] = {}
        for some in self.assessing(now, on_trial):
            found |= some
        return found

    def assessing(self, now: float, on_trial: Collection[str] = ()) -> Iterator[Mapping[str, Assessment]]:
        """Assess all cells, as `assess` does, a part at a time; yields what is ready. Others may run in between."""
        due = self._due(now)
        for count, history in enumerate(due.values(), 1):
            history.forget_before(now - WINDOW_S)
            canaries, usual_s = history.canaries.medians_s(now), history.baseline.usual_canary_s
            history.estimate = CellEstimate.of(history.window, canaries, usual_s)
            if count % AT_ONCE == 0:
                yield {}
        estimates = {cell_id: each.estimate for cell_id, each in self._cells.items() if each.estimate is not None}
        others = PeerEstimates(estimates.values())
        self._assessed_at = now
        self._announcements.forget_before(now)
        announced = self._announcements.of(now)
        few = self._are_few(others.peers, now)
        growth = median_low(each.minutes.growth for each in self._cells.values()) if self._cells else 0.0
        for begin in range(0, len(due), AT_ONCE):
            found = {}
            for cell_id, history in islice(due.items(), begin, begin + AT_ONCE):
                if few:
                    history.alone_at = now
                said = announced.get(cell_id, ())
                evidence = evidence_of(cell_id, history, estimates[cell_id], others, said, now)
                found[cell_id] = _assess(
                    evidence, history, estimates[cell_id], growth, now, on_trial=cell_id in on_trial
                )
            yield found
        yield {
            cell_id: history.assessment
            for cell_id, history in self._cells.items()
            if history.assessment is not None and cell_id not in due
        }

    def _due(self, now: float) -> Mapping[str, InstanceHistory]:
        """Return the cells to look at now: all, or, of very many, those that something speaks against and some more."""
        turns = max(1, min(MAX_TURNS, ceil(len(self._cells) / EACH_TIME)))
        self._turn += 1
        return {
            cell_id: history
            for place, (cell_id, history) in enumerate(self._cells.items())
            if (place + self._turn) % turns == 0
            or history.assessment is None
            or history.stirred
            or history.canaries.waited_s(LEADER, now) > PATIENCE_S
            or history.verdict is not Verdict.HEALTHY
            or history.assessment.looks_slow is not None
        }

    def _are_few(self, peers: int, now: float) -> bool:
        """Tell whether too few cells serve to judge one: none beside it, or one while others have just come or gone.

        What starts the others again may make this one slow.
        """
        if self._changed:
            self._changed, self._changed_at = False, now
        if not peers:
            return self._count > 1
        return peers < min(MIN_PEERS, self._count - 1) and now - self._changed_at < SETTLED_S

    def _history(self, cell_id: str, generation: int) -> InstanceHistory | None:
        history = self._cells.get(cell_id)
        return history if history is not None and history.generation == generation else None


def _assess(
    evidence: Assessment,
    history: InstanceHistory,
    own: CellEstimate,
    peers_growth: float,
    now: float,
    *,
    on_trial: bool,
) -> Assessment:
    """Judge by the evidence, and learn: while the cell is well, and from what has lasted for so long that it stays."""
    step_s = now - history.assessed_at if history.assessed_at is not None else 0.0
    history.assessed_at, history.stirred = now, False
    verdict, rule = judge(evidence)
    if verdict is not Verdict.HEALTHY:
        evidence = with_workload(evidence, history, own)
        verdict, rule = judge(evidence)
    lasted_s = history.judged(verdict, now)
    normal = verdict is Verdict.HEALTHY or lasted_s > MAX_PAUSE_S
    history.learn(evidence, now, step_s, normal=normal and not on_trial)
    history.remember_share(evidence, lasted_s)
    seen = why_looks_slow(evidence)
    glimpsed = history.glimpsed(seen if verdict is Verdict.HEALTHY else None, now)
    by_canary = are_enough(evidence.glance.slow_points, evidence.glance.points)
    history.minutes.assessed(slow=seen is not None, by_canary=by_canary, now=now)
    if observations := history.minutes.observed(evidence.cell_id, peers_growth, now):
        evidence = replace(evidence, observations=observations)
    if (looks_slow := rule if history.over_limit else glimpsed) is not None:
        evidence = replace(evidence, looks_slow=looks_slow)
    if verdict is not Verdict.HEALTHY:
        verdict = confirmed(verdict, history.compared_s(lasted_s, now))
        evidence = replace(evidence, verdict=verdict, rule=rule, lasted_s=lasted_s)
    history.assessment = evidence
    return evidence
