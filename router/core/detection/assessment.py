"""What is known of one cell at one moment: the verdict, and the evidence that it stands on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from router.core.detection.announcements import Announced
from router.core.detection.baseline import NO_BASELINE, Baseline
from router.core.detection.minutes.observation import Observation
from router.core.detection.statistics import excess_s
from router.core.detection.thresholds import MIN_EVENT_SPREAD
from router.core.detection.window import NO_GLANCE, NO_LOAD, AnsweredSums, Glance, TenantLoad
from router.core.models import Reason, Vitals


class Verdict(StrEnum):
    """What the rules say of a cell."""

    HEALTHY = "healthy"
    WATCHED = "watched"  # over a limit, but not yet for long enough
    WORKLOAD = "workload"  # slow because of what it has to do: not the cell's fault
    SLOW = "slow"  # answers, but later than it should
    FAILING = "failing"  # answers with failures or garbage
    HUNG = "hung"  # answers nothing


SICK: Final = frozenset({Verdict.SLOW, Verdict.FAILING, Verdict.HUNG})


@dataclass(frozen=True, slots=True)
class Assessment:
    """One cell's verdict, and every figure that the rules of the verdict use.

    Latencies and times are in seconds, of the last WINDOW_S where nothing else is said. Deviations and the shift are in
    natural logarithms: ln 2 is twice the latency.
    """

    cell_id: str
    verdict: Verdict = Verdict.HEALTHY
    rule: Reason | None = None  # what the rule that gave the verdict found; None: no rule found anything
    lasted_s: float = 0.0  # for how long that rule has found it
    looks_slow: Reason | None = None  # why it may be slow, by a rule or by a glance; None: nothing says so
    glance: Glance = NO_GLANCE  # the last second or two

    # Its tenants
    shift: float | None = None  # D: the cell's deviation minus the other cells'; None: one of them is not known
    standard_error: float | None = None  # of the shift
    spread: float = MIN_EVENT_SPREAD  # standard deviation of one tenant's log latencies, in all cells
    deviation: float | None = None  # S: from its tenants' baselines; None: there are fewer than MIN_TENANTS
    tenants: int = 0  # that have a baseline and were seen in the window
    peers_deviation: float | None = None  # the median of the other cells' S
    peers: int = 0  # other cells
    latency_s: float = 0.0  # geometric mean
    recent_deviation: float | None = None  # S of the last CONFIRM_S; only where the shift is over the limit
    recent_standard_error: float | None = None  # of that S
    slower_tenants: int = 0  # that take MIN_PART_TENANT times as long as usual, beside the others; where it rehearses
    rehearses: bool = False  # its handler does copies of events without any effect, so that a trial can tell more
    was_over_limit: bool = False  # whether it was slow, or over a limit of slowness, one assessment ago

    # Its canaries, as vantage points find them: routers, and the leader. Of latencies, the median over these points
    canary_s: float | None = None  # median
    recent_canary_s: float | None = None  # median of the last CONFIRM_S
    usual_canary_s: float | None = None  # what it should take, by the other cells' canaries and by its own baseline
    canary_ratio: float = 0.0  # times what it should take, by most points at least; 0: not known
    canary_points: int = 0  # vantage points that know what it should take
    slow_points: int = 0  # of these, how many find it slow
    canary_waiting_s: float = 0.0  # for how long the one under way has had no answer, at most points at least
    canary_failures: int = 0  # in a row, at most points at least
    answers_canaries: bool = False  # most points that sent any of late had them answered well
    routers: int = 0  # that see enough tenants to tell about the cell; only where the shift is over the limit
    slow_routers: int = 0  # of these, how many may find it slow
    slow_paths: tuple[str, ...] = ()  # from a router or from the leader, where the cell itself is not slow

    # Failure and silence
    answered: int = 0  # events
    answered_badly: int = 0  # of these, with `retry` or `failed`
    failures: int = 0  # in a row, at the router that sees most, while no router sees a success
    failing_tenants: int = 0  # in that row
    since_success_s: float | None = None  # since an event was last answered well; None: never
    oldest_s: float = 0.0  # age of the oldest event in flight
    silent_s: float = 0.0  # for how long no event in flight was answered
    slowest_s: float = 0.0  # the longest latency of late; 0: nothing was ever answered
    waiting_tenants: int = 0  # that have events in flight

    # Its workload
    baseline: Baseline = NO_BASELINE
    load: TenantLoad = NO_LOAD  # only where a rule has found something
    rate_ratio: float = 0.0  # events, times the baseline; 0: not known
    work_ratio: float = 0.0  # work, times the baseline, at least, where a rule has found something; 0: hardly any work

    # What was done to it lately, and its instance as that says itself
    announced: tuple[Announced, ...] = ()
    vitals: Vitals | None = None  # None: it has said nothing of late
    observations: tuple[Observation, ...] = ()  # of the last minutes: no verdict, and nothing is done about them

    @property
    def excess_s(self) -> float:
        """The seconds that an event takes longer than it should, by the shift; 0 where that is not known."""
        return excess_s(self.latency_s, self.shift) if self.shift is not None else 0.0

    @property
    def answers(self) -> AnsweredSums:
        """The events of the last WINDOW_S that were answered."""
        return AnsweredSums.of(self.answered, self.answered_badly, self.latency_s)
