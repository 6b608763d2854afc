"""The guards: why the controller leaves a sick cell alone, since replacing it would not help or would hurt. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import log
from statistics import median_low
from typing import Final

from router.core.control.records import ON_THE_LADDER
from router.core.control.twins import why_no_trial
from router.core.detection.announcements import was_renewed
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.paths import are_enough
from router.core.detection.statistics import excess_s
from router.core.detection.thresholds import MIN_CANARY_EXCESS_S, MIN_EXCESS_S
from router.core.models import CellRecord, Reason, age_ms

SHARED_FRACTION: Final = 0.4  # when more of the cells than this (and at least two) are sick, they share the cause
FLEET_RATIO: Final = 1.5  # of the cells' median latency to their baseline: above it, all of them share the cause
PEERS_S: Final = 1.5  # cells that hang together show it within a second of each other: each has one canary a second
BORN_SLOW_S: Final = 5.0  # an instance that was slow so soon, and ever since, was so from its first moment on
BUDGET: Final = 3  # replacements of sick instances within BUDGET_MS, in all cells together
BUDGET_MS: Final = 10 * 60_000


def why_blind(lag_s: float, max_lag_s: float, late_routers: int, routers: int) -> Reason | None:
    """Say why what is measured can't be trusted; None when it can.

    `lag_s` is how late the controller's own event loop was. Up to half of the routers may be late: what those measure
    is left out, and the others' samples are enough.
    """
    if lag_s > max_lag_s:
        return f"the controller's own event loop was {lag_s:.1f} s late: what it measures says nothing"
    if late_routers > routers / 2:
        return f"the event loops of {late_routers} of {routers} routers are late"
    return None


def why_shared(assessments: Mapping[str, Assessment]) -> Reason | None:
    """Say why the trouble lies in something that the cells share; None when it may be one cell's own."""
    sick = sorted(a.cell_id for a in assessments.values() if a.verdict not in (Verdict.HEALTHY, Verdict.WORKLOAD))
    if are_many(len(sick), len(assessments)):
        return f"{len(sick)} of {len(assessments)} cells at once: a dependency that they share"
    deviations = [a.deviation for a in assessments.values() if a.deviation is not None]
    if len(deviations) > 1 and median_low(deviations) > log(FLEET_RATIO):
        return f"the cells' median latency is more than {FLEET_RATIO:g} times the usual: a dependency that they share"
    return None


def are_many(count: int, cells: int) -> bool:
    """Tell whether `count` of the cells are too many to have fallen ill each by itself; a single one never is."""
    return count > max(1.0, SHARED_FRACTION * cells)


def why_renewed(assessment: Assessment, assessments: Mapping[str, Assessment]) -> Reason | None:
    """Say why a slow cell is left alone that got another instance lately, as others did; None when it is not.

    Where most of the others have got slower too, beside what was usual in the same cells before, it is what is new in
    all of them, a release for one, and the next instance would have it as well.
    """
    if assessment.verdict is not Verdict.SLOW or not was_renewed(assessment.announced):
        return None
    others = [a for a in assessments.values() if a.cell_id != assessment.cell_id and was_renewed(a.announced)]
    slower = sum(map(_is_slower, others))
    if not slower or slower <= len(others) / 2:
        return None
    return "other cells with a new instance got slower too: it is what is new in them, and not this instance alone"


def _is_slower(assessment: Assessment) -> bool:
    """Tell whether a cell takes far more than was usual in it, for its events or for its canaries: not just noise."""
    canary_s, usual_s, deviation = assessment.canary_s, assessment.baseline.canary_s, assessment.deviation
    more_s = canary_s - usual_s if canary_s is not None and usual_s is not None else 0.0
    if more_s >= max(MIN_CANARY_EXCESS_S, (FLEET_RATIO - 1) * (usual_s or 0.0)):
        return True
    if deviation is None or deviation <= log(FLEET_RATIO):
        return False
    return excess_s(assessment.latency_s, deviation) >= MIN_EXCESS_S


def why_guarded(
    assessment: Assessment,
    record: CellRecord,
    others: Iterable[CellRecord],
    now_ms: int,
    warm_up_s: float,
    *,
    can_launch: bool,
) -> Reason | None:
    """Say why this sick cell is not treated yet, though the other cells are well; None when it may be treated."""
    others = list(others)
    if assessment.verdict is Verdict.SLOW:
        grace_s = 0.0 if can_launch and was_born_slow(assessment, record, now_ms) else warm_up_s
        if why := why_not_for_slowness(record, others, now_ms, grace_s):
            return why
    if assessment.verdict is Verdict.HUNG and others and assessment.lasted_s < PEERS_S:
        return f"other cells have {PEERS_S:g} s to show the same: then it is a dependency that they share"
    treated = sorted(other.cell_id for other in others if other.treatment.rung in ON_THE_LADDER)
    if treated:
        return f"one at a time: {', '.join(treated)} first"
    lately = sum(1 for other in (record, *others) if _was_replaced_lately(other, now_ms))
    if lately >= BUDGET:
        return f"{lately} replacements within {BUDGET_MS // 60_000} min are enough"
    return None


def was_born_slow(assessment: Assessment, record: CellRecord, now_ms: int) -> bool:
    """Tell whether an instance was slow from its first moment on by its canaries, so that a trial is worth it.

    A twin is younger still. If it is warm where this one was slow, this one is not just cold. One trial shows that.
    """
    if record.tried_at_ms or not are_enough(assessment.slow_points, assessment.canary_points):
        return False
    return age_ms(record.admitted_at_ms, now_ms) <= 1000 * (assessment.lasted_s + BORN_SLOW_S)


def why_not_for_slowness(
    record: CellRecord, others: Collection[CellRecord], now_ms: int, warm_up_s: float
) -> Reason | None:
    """Say why slowness of this cell is nothing against its instance; None when it may be."""
    if not others:
        return "the only cell: there is nothing to compare it with"
    if age_ms(record.admitted_at_ms, now_ms) < 1000 * warm_up_s:
        return f"its instance is new: {warm_up_s:g} s to warm up"
    return why_no_trial(record, now_ms)


def _was_replaced_lately(record: CellRecord, now_ms: int) -> bool:
    return bool(record.replaced_at_ms) and age_ms(record.replaced_at_ms, now_ms) < BUDGET_MS
