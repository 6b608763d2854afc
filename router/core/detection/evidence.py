"""Gathers the evidence about one cell: its own window, its history, and what the other cells show."""

from __future__ import annotations

from dataclasses import replace
from math import hypot, isfinite, log

from router.core.detection.assessment import Assessment
from router.core.detection.estimates import CellEstimate, PeerEstimates
from router.core.detection.history import InstanceHistory
from router.core.detection.thresholds import CONFIRM_S, MAX_RATIO
from router.core.detection.window import SampleWindow


def evidence_of(
    cell_id: str, history: InstanceHistory, own: CellEstimate, others: PeerEstimates, now: float
) -> Assessment:
    """Return all figures that the rules use, without a verdict yet, and without what `with_workload` adds."""
    window, canaries = history.window, history.canaries
    peers_deviation, peers_error = others.deviation(own)
    error = others.spread * hypot(own.relative_error, peers_error)
    shift = own.deviation - peers_deviation if own.deviation is not None and peers_deviation is not None else None
    recent = _recent(window, now) if shift is not None and shift > log(MAX_RATIO) else None
    failures, failing_tenants = window.failures(now)
    answered, answered_badly = window.answered()
    return Assessment(
        cell_id=cell_id,
        shift=shift,
        standard_error=error if isfinite(error) else None,
        spread=others.spread,
        deviation=own.deviation if own.known else None,
        tenants=own.tenants,
        peers_deviation=peers_deviation,
        peers=others.peers,
        latency_s=window.latency_s(),
        recent_deviation=recent.deviation if recent is not None else None,
        recent_standard_error=others.spread * recent.relative_error if recent is not None else None,
        was_over_limit=history.over_limit,
        canary_s=own.canary_s,
        recent_canary_s=canaries.median_s(now, now - CONFIRM_S),
        peers_canary_s=others.canary_s(own),
        canary_waiting_s=canaries.waiting_s(now),
        canary_failures=canaries.failures,
        answered=answered,
        answered_badly=answered_badly,
        failures=failures,
        failing_tenants=failing_tenants,
        since_success_s=window.since_success_s(now),
        oldest_s=window.oldest_s(now),
        silent_s=window.silent_s(now),
        slowest_s=window.slowest_s(),
        waiting_tenants=window.waiting_tenants(now),
        baseline=history.baseline,
        rate_ratio=window.rate_ratio(history.baseline),
    )


def with_workload(evidence: Assessment, history: InstanceHistory, own: CellEstimate) -> Assessment:
    """Add what the cell has to do. This goes through all tenants, and can only excuse what a rule has found."""
    window, deviation = history.window, own.deviation or 0.0
    load = window.load(deviation, history.baseline_shares)
    work_ratio = window.work_ratio(history.baseline, deviation, evidence.peers_deviation or 0.0)
    return replace(evidence, load=load, work_ratio=work_ratio)


def _recent(window: SampleWindow, now: float) -> CellEstimate | None:
    """Estimate from the last CONFIRM_S alone. It goes through these samples anew, so only few cells need it at once."""
    recent = CellEstimate.of(window.since(now - CONFIRM_S), None)
    return recent if recent.deviation is not None else None
