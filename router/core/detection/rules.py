"""The rules: evidence in, verdict out. They see nothing but the evidence and the thresholds.

So whoever reads an assessment, `cellrouter explain` for one, can check every verdict with its figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log, sqrt
from typing import Final

from router.core.detection.announcements import texts
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.paths import are_enough, are_most
from router.core.detection.statistics import excess_s
from router.core.detection.thresholds import (
    CONFIRM_S,
    HANG_S,
    MAX_FAILURES,
    MAX_RATE_RATIO,
    MAX_RATIO,
    MAX_SILENCE_RATIO,
    MAX_SILENCE_S,
    MAX_WORK_RATIO,
    MIN_EXCESS_S,
    MIN_FAILING_TENANTS,
    MIN_OWN_RATIO,
    MIN_PART_EXCESS_S,
    MIN_PART_RATIO,
    MIN_PART_SIGMA,
    MIN_PART_TENANT,
    MIN_PEERS,
    MIN_POINTS,
    MIN_SIGMA,
    MIN_TENANTS,
    RECOVERED_SIGMA,
    WORKLOAD_SHARE,
)
from router.core.detection.vitals import told_by
from router.core.models import Reason

NO_CONFIRMATION: Final = frozenset({Verdict.HEALTHY, Verdict.WORKLOAD, Verdict.FAILING, Verdict.HUNG})
"""Verdicts that hold without CONFIRM_S: nothing is done about the first two, and the others' rules count for
themselves, failures in a row or seconds of silence."""


def judge(evidence: Assessment) -> tuple[Verdict, Reason | None]:
    """Return the gravest verdict that the evidence gives, with what the rule found; healthy when no rule finds any."""
    verdict, why = next(_verdicts(evidence), (Verdict.HEALTHY, None))
    context = filter(None, [why, told_by(evidence.vitals), *texts(evidence.announced)])
    return verdict, "; ".join(context) if why else None


def confirmed(verdict: Verdict, lasted_s: float) -> Verdict:
    """Return the verdict once it has lasted for CONFIRM_S, where it must; watched before that.

    Only the time counts in which there was another cell to compare with, unless there is none at all.
    """
    return verdict if verdict in NO_CONFIRMATION or lasted_s >= CONFIRM_S else Verdict.WATCHED


def why_hung(evidence: Assessment) -> Reason | None:
    """Return why the cell is hung: neither its canary nor any event was answered; None when it is not.

    One that answers its canaries is not: its tenants' events take long, in another instance too.
    """
    waiting_s = evidence.canary_waiting_s
    if waiting_s >= HANG_S and not _succeeded_lately(evidence):
        return f"the canary has had no answer for {waiting_s:.0f} s, and no event either"
    return None if evidence.answers_canaries else _why_silent(evidence)


def why_failing(evidence: Assessment) -> Reason | None:
    """Return why the cell is failing: canaries or several tenants' events fail in a row; None when it is not.

    One that answers its canaries well is not: its tenants' events would fail in another instance too.
    """
    if evidence.canary_failures >= MAX_FAILURES and not _succeeded_lately(evidence):
        return f"{evidence.canary_failures} canaries in a row have failed"
    return None if evidence.answers_canaries else _why_events_fail(evidence)


def why_slow_for_canaries(evidence: Assessment) -> Reason | None:
    """Return why the cell is slow by its canary: far over its baseline and the other cells'; None when it is not."""
    slow, points = evidence.slow_points, evidence.canary_points
    if not are_most(slow, points):
        return None
    took = f"its canary takes {(evidence.canary_s or 0.0) * 1000:.0f} ms, {evidence.canary_ratio:.1f} times"
    return f"{took} what it should, for {slow} of {points} vantage points"


def why_slow_for_tenants(evidence: Assessment) -> Reason | None:
    """Return why the cell is slow by its tenants; None when it is not, or not any more.

    To begin with it takes MIN_TENANTS. After that, fewer neither convict nor acquit the cell.
    """
    shift = evidence.shift
    if shift is None or shift <= log(MAX_RATIO) or evidence.excess_s < MIN_EXCESS_S or has_recovered(evidence):
        return None
    if evidence.tenants < MIN_TENANTS and not evidence.was_over_limit:
        return None
    if evidence.deviation is not None and evidence.deviation < log(MIN_OWN_RATIO):
        return None  # the others have got faster
    if evidence.routers and not are_most(evidence.slow_routers, evidence.routers):
        return None  # it is the path of a router
    against = "the other cells'" if evidence.peers >= MIN_PEERS else "their usual ones"
    return (
        f"its tenants' latencies are {exp(shift):.1f} times {against} "
        f"({evidence.excess_s * 1000:.0f} ms more, of {evidence.tenants} tenants)"
    )


def why_looks_slow(evidence: Assessment) -> Reason | None:
    """Return why the cell looks slow at a glance, by its last canaries or events; None when it does not.

    This is no verdict: the cell is sent less at once, which costs nothing when it is wrong.
    """
    glance, peers_deviation = evidence.glance, max(0.0, evidence.peers_deviation or 0.0)
    if are_enough(glance.slow_points, glance.points):
        return f"its last canaries take too long, for {glance.slow_points} of {glance.points} vantage points"
    shift = glance.deviation - peers_deviation
    if not glance.events or shift <= max(log(MAX_RATIO), MIN_SIGMA * evidence.spread / sqrt(glance.events)):
        return None
    if excess_s(glance.latency_s, shift) < MIN_EXCESS_S:
        return None
    if evidence.baseline.known and glance.rate >= MAX_RATE_RATIO * evidence.baseline.rate:
        return None  # it has more to do
    return f"its last {glance.events} events took {exp(shift):.1f} times as long as usual"


def why_partly_slow(evidence: Assessment) -> Reason | None:
    """Return why a part of what the cell does is slow, though canaries are quick; None when none is.

    It takes little to say so, and is said only where copies of events can be rehearsed: that shows whether it is so, or
    whether some tenants' events cost more in every instance.
    """
    shift, deviation, limit = evidence.shift, evidence.deviation, log(MIN_PART_RATIO)
    if not evidence.rehearses or shift is None or deviation is None or min(shift, deviation) <= limit:
        return None
    if evidence.excess_s < MIN_PART_EXCESS_S or not _is_worth(evidence, MIN_PART_SIGMA) or has_recovered(evidence):
        return None
    if why_crowded(evidence):
        return None  # a trial would take places from them
    few = 0 < 2 * evidence.slower_tenants <= evidence.tenants
    part = "part of every tenant's events"
    if few:
        part = f"{evidence.slower_tenants} of {evidence.tenants} tenants ({exp(MIN_PART_TENANT):.0f} times or more)"
    return f"its tenants' latencies are {exp(shift):.1f} times the other cells', its canaries' are not: slow for {part}"


def why_workload(evidence: Assessment) -> Reason | None:
    """Return what the cell has to do that may make it slow, so that another would be as slow; None for nothing."""
    if why := why_crowded(evidence):
        return why
    if evidence.load.new_share >= WORKLOAD_SHARE:
        return f"new tenants take {evidence.load.new_share:.0%} of the cell's time"
    if evidence.work_ratio >= MAX_WORK_RATIO:
        return f"it has {evidence.work_ratio:.1f} times as much to do as usual"
    return None


def why_crowded(evidence: Assessment) -> Reason | None:
    """Return that one tenant takes the time of all, or that there are far more events; None for neither."""
    load = evidence.load
    if load.taken_share >= WORKLOAD_SHARE:
        share = f"{load.share:.0%} of the cell's time, {load.taken_share:.0%} of what the others had"
        return f"tenant {load.heaviest!r} takes {share}"
    if evidence.rate_ratio >= MAX_RATE_RATIO:
        return f"it gets {evidence.rate_ratio:.1f} times as many events as usual"
    return None


def is_certain(evidence: Assessment) -> bool:
    """Whether the shift is no chance: it is many standard errors, or the canary says the same."""
    return _is_worth(evidence, 0.0 if evidence.canary_ratio > MAX_RATIO else MIN_SIGMA)


def _is_worth(evidence: Assessment, sigma: float) -> bool:
    """Whether the shift is so many standard errors, of enough tenants."""
    if evidence.tenants < MIN_TENANTS or evidence.shift is None or evidence.standard_error is None:
        return False
    return evidence.shift >= sigma * evidence.standard_error


def has_recovered(evidence: Assessment) -> bool:
    """Whether the last CONFIRM_S say that the cell is not slow any more, though the window as a whole is."""
    recent, error, peers = evidence.recent_deviation, evidence.recent_standard_error, evidence.peers_deviation
    if recent is None or error is None or peers is None:
        return False
    return recent + RECOVERED_SIGMA * error - peers < log(MAX_RATIO)


def _verdicts(evidence: Assessment) -> Iterator[tuple[Verdict, Reason]]:
    """Yield the verdicts that the evidence gives, the gravest first, each with its reason."""
    if why := why_hung(evidence):
        yield Verdict.HUNG, why
    if why := why_failing(evidence):
        yield Verdict.FAILING, why
    if why := why_slow_for_canaries(evidence):
        alone = evidence.canary_points < MIN_POINTS  # it may be the path of this vantage point
        yield (Verdict.WATCHED, why) if alone else _slow(evidence, why)
    if why := why_partly_slow(evidence):
        yield Verdict.SLOW, why
    if why := why_slow_for_tenants(evidence):
        yield _slow(evidence, why) if is_certain(evidence) else (Verdict.WATCHED, why)
    if evidence.answers_canaries and (why := _why_silent(evidence) or _why_events_fail(evidence)):
        yield Verdict.WORKLOAD, f"{why}, while its canaries are answered well: it is the events, and not the cell"


def _slow(evidence: Assessment, why: Reason) -> tuple[Verdict, Reason]:
    workload = why_workload(evidence)
    return (Verdict.WORKLOAD, f"{why}: {workload}") if workload else (Verdict.SLOW, why)


def _why_silent(evidence: Assessment) -> Reason | None:
    if not evidence.slowest_s:  # nothing was ever answered, so nobody knows how long events take
        return None
    silent = evidence.silent_s > max(MAX_SILENCE_S, MAX_SILENCE_RATIO * evidence.slowest_s)
    if not silent or evidence.waiting_tenants < MIN_FAILING_TENANTS:
        return None
    for_s = f"nothing was answered for {evidence.silent_s:.0f} s"
    return f"the oldest event has waited for {evidence.oldest_s:.0f} s, and {for_s}"


def _why_events_fail(evidence: Assessment) -> Reason | None:
    failures, tenants = evidence.failures, evidence.failing_tenants
    if failures < MAX_FAILURES or (tenants < MIN_FAILING_TENANTS and not evidence.canary_failures):
        return None
    return f"{failures} failures in a row, of {tenants} tenants"


def _succeeded_lately(evidence: Assessment) -> bool:
    return evidence.since_success_s is not None and evidence.since_success_s < HANG_S
