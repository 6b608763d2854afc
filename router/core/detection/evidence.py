"""Gathers the evidence about one cell: its own window, its history, and what the other cells show.

Where vantage points tell different things, the evidence is what most of them agree on; the rest are slow paths.
"""

from __future__ import annotations

from dataclasses import replace
from math import hypot, isfinite, log
from statistics import median_low
from typing import Any

from router.core.detection.announcements import Announced
from router.core.detection.assessment import Assessment
from router.core.detection.estimates import CellEstimate, PeerEstimates
from router.core.detection.history import InstanceHistory
from router.core.detection.paths import glance_at, routers_of, slow_paths, views_of
from router.core.detection.statistics import agreed
from router.core.detection.thresholds import CONFIRM_S, MAX_RATIO, MIN_PART_TENANT, MIN_POINTS
from router.core.detection.window import SampleWindow


def evidence_of(
    cell_id: str,
    history: InstanceHistory,
    own: CellEstimate,
    others: PeerEstimates,
    announced: tuple[Announced, ...],
    now: float,
) -> Assessment:
    """Return all figures that the rules use, without a verdict yet, and without what `with_workload` adds."""
    window, canaries = history.window, history.canaries
    peers_deviation, peers_error = others.deviation(own)
    shift = own.deviation - peers_deviation if own.deviation is not None and peers_deviation is not None else None
    recent = _recent(window, now) if _is_over(shift) else None
    views, answers = views_of(canaries, own, others, now), canaries.answers(now)
    routers = routers_of(window, views, peers_deviation or 0.0, others.spread) if _is_over(shift) else []
    points, slow_points = glance_at(canaries, views, now)
    return Assessment(
        cell_id=cell_id,
        glance=window.glance(now, points, slow_points),
        shift=shift,
        standard_error=_finite(others.spread * hypot(own.relative_error, peers_error)),
        spread=others.spread,
        deviation=own.deviation if own.known else None,
        tenants=own.tenants,
        peers_deviation=peers_deviation,
        peers=others.peers,
        latency_s=window.latency_s(),
        recent_deviation=recent.deviation if recent is not None else None,
        recent_standard_error=others.spread * recent.relative_error if recent is not None else None,
        slower_tenants=_slower_tenants(window, peers_deviation) if history.rehearses else 0,
        rehearses=history.rehearses,
        was_over_limit=history.over_limit,
        canary_s=own.canary_s,
        recent_canary_s=canaries.recent_s(now, now - CONFIRM_S),
        usual_canary_s=median_low(view.reference_s for view in views) if views else None,
        canary_ratio=agreed([view.ratio for view in views], MIN_POINTS),
        canary_points=len(views),
        slow_points=sum(view.slow for view in views),
        canary_waiting_s=answers.waiting_s,
        canary_failures=round(answers.failures),
        answers_canaries=answers.well,
        routers=len(routers),
        slow_routers=sum(view.slow for view in routers),
        slow_paths=slow_paths(cell_id, canaries, views, routers, now, well=answers.well),
        **_of_failures(window, now),
        baseline=history.baseline,
        rate_ratio=window.rate_ratio(history.baseline),
        announced=announced,
        vitals=history.vitals_of_late(now),
    )


def _of_failures(window: SampleWindow, now: float) -> dict[str, Any]:
    """Return what tells of failure and of silence, by the assessment's names."""
    (failures, failing_tenants), (answered, answered_badly) = window.failures(now), window.answered()
    return {
        "answered": answered,
        "answered_badly": answered_badly,
        "failures": failures,
        "failing_tenants": failing_tenants,
        "since_success_s": window.since_success_s(now),
        "oldest_s": window.oldest_s(now),
        "silent_s": window.silent_s(now),
        "slowest_s": window.slowest_s(),
        "waiting_tenants": window.waiting_tenants(now),
    }


def with_workload(evidence: Assessment, history: InstanceHistory, own: CellEstimate) -> Assessment:
    """Add what the cell has to do. This goes through all tenants, and can only excuse what a rule has found."""
    window, deviation = history.window, own.deviation or 0.0
    load = window.load(deviation, history.baseline_shares)
    work_ratio = window.work_ratio(history.baseline, deviation, evidence.peers_deviation or 0.0)
    return replace(evidence, load=load, work_ratio=work_ratio)


def _recent(window: SampleWindow, now: float) -> CellEstimate | None:
    """Estimate from the last CONFIRM_S alone. It goes through these samples anew, so only few cells need it at once."""
    recent = CellEstimate.of(window.since(now - CONFIRM_S), {}, None)
    return recent if recent.deviation is not None else None


def _slower_tenants(window: SampleWindow, peers_deviation: float | None) -> int:
    limit = (peers_deviation or 0.0) + MIN_PART_TENANT
    return sum(deviation > limit for deviation, _ in window.deviations())


def _is_over(shift: float | None) -> bool:
    """Whether the cell is over the limit by its tenants, so that more is worth to be known of it."""
    return shift is not None and shift > log(MAX_RATIO)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
