"""What the detector remembers of one cell's admitted instance, from one assessment to the next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf, log
from typing import Final

from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.baseline import NO_BASELINE, Baseline, WorkDone
from router.core.detection.canaries import InstanceCanaries
from router.core.detection.estimates import CellEstimate
from router.core.detection.minutes.memory import MinutesMemory
from router.core.detection.samples import CanarySample, CellSample
from router.core.detection.thresholds import MIN_LEARNED_S, MIN_OWN_RATIO, WINDOW_S
from router.core.detection.window import NOTHING_ANSWERED, AnsweredSums, SampleWindow, work_without_slowness_s
from router.core.models import Reason, Vitals

_STIRS: Final = log(MIN_OWN_RATIO)  # deviation of a second's events, from which on a closer look is worth it
PATIENCE_S: Final = 1.0  # without an answer to an event or a canary, after which it is too


@dataclass(slots=True)
class InstanceHistory:
    """The window of one instance, its cell's baseline, and since when the rules have said the same of it."""

    generation: int = 0
    baseline: Baseline = NO_BASELINE
    window: SampleWindow = field(default_factory=SampleWindow)
    canaries: InstanceCanaries = field(default_factory=InstanceCanaries)
    minutes: MinutesMemory = field(default_factory=MinutesMemory)
    baseline_shares: dict[str, float] = field(default_factory=dict)  # of the heaviest tenants, before it was unwell
    assessed_at: float | None = None  # when it, or its cell's last instance, was assessed last
    estimate: CellEstimate | None = None  # as last assessed
    assessment: Assessment | None = None  # the last one
    stirred: bool = False  # whether something was told since then that speaks against it
    alone_at: float = -inf  # when it was last assessed while too few of the other cells served
    vitals: Vitals | None = None  # as its last heartbeat told them
    vitals_at: float = -inf
    beat: int = 0  # the number of that heartbeat
    answers: AnsweredSums = NOTHING_ANSWERED  # of all events that it was seen to answer
    rehearses: bool = False  # its handler does copies of events without any effect, as it says
    verdict: Verdict = Verdict.HEALTHY  # by the rules alone, without the time that it must last
    _since: float = 0.0  # when that verdict began; going from watched to slow and back begins nothing new
    _first_at: float = inf  # when it was assessed for the first time
    _glimpsed_at: float = inf  # since when it has looked slow at a glance, and no rule has found anything
    _counted: AnsweredSums = NOTHING_ANSWERED  # of these, all until the last assessment
    _work_s: float = 0.0  # the sum of the baseline latencies of those since then
    _new_s: float = 0.0  # the sum of the latencies of those since then whose tenants have no baseline
    _done: deque[WorkDone] = field(default_factory=deque)  # between assessments, within the window

    @property
    def over_limit(self) -> bool:
        """Whether the instance was slow, or over a limit of slowness, at the last assessment."""
        return self.verdict in (Verdict.WATCHED, Verdict.SLOW)

    def add(self, router_id: str, sample: CellSample, now: float) -> None:
        """Add the sample of one router's interval, which arrived at `now`."""
        self.window.add(router_id, sample, now)
        if sample.failures or sample.silent_s > PATIENCE_S or (sample.deviation or 0.0) > _STIRS:
            self.stirred = True
        self.answers += AnsweredSums(sample.ok, sample.events - sample.ok, sample.log_s)
        self._work_s += sample.work_s
        self._new_s += sample.new_s

    def told_of_canary(self, vantage: str, sample: CanarySample, now: float) -> None:
        """Note what a vantage point tells of a canary."""
        self.canaries.of(vantage).told(sample, now)
        self.minutes.canary(vantage, sample, self.baseline.usual_canary_s, now)
        if sample.latency_s is None:
            self.stirred = self.stirred or not 0 < sample.waiting_s <= PATIENCE_S
        elif (usual_s := self.baseline.canary_s) is not None and sample.latency_s > MIN_OWN_RATIO * usual_s:
            self.stirred = True

    def told(self, vitals: Vitals | None, beat: int, now: float) -> None:
        """Note what the instance said of itself in a heartbeat, unless that is noted already."""
        if beat != self.beat:
            self.vitals, self.vitals_at, self.beat = vitals, now, beat
            if vitals is not None:
                self.minutes.told(vitals, now)

    def vitals_of_late(self, now: float) -> Vitals | None:
        """Return what the instance says of itself; None while it says nothing."""
        return self.vitals if now - self.vitals_at <= WINDOW_S else None

    def forget_before(self, then: float) -> None:
        """Drop the samples and canaries that arrived at `then` or earlier."""
        self.window.forget_before(then)
        self.canaries.forget_before(then)

    def judged(self, verdict: Verdict, now: float) -> float:
        """Note the verdict of the rules; return for how many seconds it has lasted."""
        self._first_at = min(self._first_at, now)
        before, was_over_limit, self.verdict = self.verdict, self.over_limit, verdict
        if verdict is not before and not (was_over_limit and self.over_limit):
            self._since = now
        return now - self._since

    def glimpsed(self, why: Reason | None, now: float) -> Reason | None:
        """Note why the cell looks slow at a glance, and return it for the time of one window.

        By then the rules have seen as much: what they don't find is no slowness of the cell.
        """
        self._glimpsed_at = min(self._glimpsed_at, now) if why is not None else inf
        return why if now - self._glimpsed_at < WINDOW_S else None

    def compared_s(self, lasted_s: float, now: float) -> float:
        """Return for how long a verdict that has `lasted_s` stands on a full window, and beside enough other cells.

        What starts the others again may make this one slow. A leader that has just begun knows little: it needs as much
        time as one that has led before, whose window must be slow by half before anything is over a limit.
        """
        return min(lasted_s, now - self.alone_at, now - self._first_at - WINDOW_S / 2)

    def learn(self, evidence: Assessment, now: float, step_s: float, *, normal: bool) -> None:
        """Learn the baseline from the `step_s` seconds since the last assessment, if what they show is normal.

        Work counts only once it has left the window: by then, a cell that it makes slow shows that it is slow.
        """
        self._count_work(evidence.deviation or 0.0, evidence.peers_deviation or 0.0, step_s, now)
        while self._done and self._done[0].at <= now - WINDOW_S:
            done = self._done.popleft()
            if normal:
                self.baseline = self.baseline.with_work(done)
        if evidence.canary_s is not None and normal:
            lasting = self.verdict is not Verdict.HEALTHY
            self.baseline = self.baseline.with_canary(evidence.canary_s, step_s, lasting=lasting)

    def remember_share(self, evidence: Assessment, lasted_s: float) -> None:
        """Keep the heaviest tenant's baseline share while the cell is unwell, since routers learn what it takes now.

        All are forgotten once the cell has been healthy for MIN_LEARNED_S.
        """
        if self.verdict is not Verdict.HEALTHY and evidence.load.heaviest:
            self.baseline_shares.setdefault(evidence.load.heaviest, evidence.load.baseline_share)
        if self.verdict is Verdict.HEALTHY and lasted_s >= MIN_LEARNED_S:
            self.baseline_shares.clear()

    def _count_work(self, deviation: float, peers_deviation: float, step_s: float, now: float) -> None:
        """Put aside what was done since the last assessment, with the slowness of the cell taken out."""
        if step_s > 0:
            work_s = work_without_slowness_s(self._work_s, self._new_s, deviation, peers_deviation)
            done = self.answers.since(self._counted)
            self._done.append(WorkDone(now, step_s, done.ok, work_s, done.bad))
        self._counted, self._work_s, self._new_s = self.answers, 0.0, 0.0
