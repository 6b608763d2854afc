"""What bears on the treatment of one cell, and its rows in words: what `explain` and the cell's page show. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp
from typing import Final

from router.core.detection import thresholds
from router.core.detection.announcements import texts
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.detection.vitals import used, why_busy
from router.core.detection.window import Glance
from router.core.fleet.states import state_of
from router.core.models import Reason, Rung, Treatment
from router.core.registry import CONDITION_FRESH_MS, AuditEntry, Condition, Snapshot
from router.core.release import Release, progress
from router.core.scaling.decision import ScalingDecision

AUDIT_SHOWN: Final = 8  # entries about the explained cell
RELEASE_SHOWN_MS: Final = 24 * 3600 * 1000  # so long it is told how a release has ended
NOTHING_WRONG: Final = "no rule says that anything is wrong"
_LATEST_MS: Final = 253_402_300_799_000  # the end of the year 9999, the last that a datetime can be in


@dataclass(frozen=True, slots=True)
class Peer:
    """Another cell of the environment, to compare the explained one with."""

    cell_id: str
    deviation: float | None  # S
    canary_s: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that bears on what is done about a cell: the keys of `explain --json`."""

    cell_id: str
    state: str
    generation: int
    launching: int
    admitted_at_ms: int
    zone: str  # of the admitted instance; empty where it names none
    image: str  # that the instance was launched with; empty: the provisioner's own
    release: Release | None  # the last one, whether it runs or has ended
    note: Reason | None  # what the instance says of itself: injected faults, and what its handler does wrong
    now_ms: int
    doubts: tuple[Reason, ...]  # why what follows may be out of date
    assessment: Assessment | None  # None: the leader has never assessed the cell
    why_untreated: Reason | None  # why nothing is done about it, or would be if it were sick
    trial: Reason | None  # what its trial beside its twin shows by now
    cushion: Reason | None  # why it gets no more at once than usual
    cell_rate: float  # events a second that it gets at most, of all routers; 0: any number
    routers: int  # that share them
    treatment: Treatment
    by_hand: str
    peers: tuple[Peer, ...]
    thresholds: Mapping[str, float]  # of the detector, by name
    audit: tuple[AuditEntry, ...]
    launch_failures: int  # in a row
    why_not_launched: Reason | None  # why the last of these launches came to nothing
    scaling: ScalingDecision | None  # why there are as many cells as there are; None: their number follows no load


def explanation(
    cell_id: str, snapshot: Snapshot, conditions: Mapping[str, Condition], audit: Sequence[AuditEntry]
) -> Explanation:
    """Gather what the registry holds about a cell of the snapshot."""
    record, condition = snapshot.cells[cell_id], conditions.get(cell_id)
    lease = snapshot.lease(record.cell_id, record.generation)
    others = sorted((name, found.assessment) for name, found in conditions.items() if name != cell_id)
    return Explanation(
        cell_id=cell_id,
        state=state_of(record, lease, snapshot.policy),
        generation=record.generation,
        launching=record.launching,
        admitted_at_ms=record.admitted_at_ms,
        zone=lease.zone if lease is not None else "",
        image=record.image,
        release=snapshot.policy.release,
        note=lease.note if lease is not None else None,
        now_ms=snapshot.now_ms,
        doubts=tuple(doubts(snapshot, condition, record.generation)),
        assessment=condition.assessment if condition is not None else None,
        why_untreated=condition.why_untreated if condition is not None else None,
        trial=condition.trial if condition is not None else None,
        cushion=condition.cushion if condition is not None else None,
        cell_rate=snapshot.policy.cell_rate(),
        routers=sum(router.live for router in snapshot.routers),
        treatment=record.treatment,
        by_hand=by_hand(snapshot, cell_id),
        peers=tuple(Peer(name, found.deviation, found.canary_s, found.verdict) for name, found in others),
        thresholds={name: value for name, value in vars(thresholds).items() if name.isupper()},
        audit=tuple([entry for entry in audit if entry.cell_id == cell_id][-AUDIT_SHOWN:]),
        launch_failures=record.launch_failures,
        why_not_launched=record.why_launch_failed,
        scaling=condition.scaling if condition is not None else None,
    )


def doubts(snapshot: Snapshot, condition: Condition | None, generation: int) -> Iterator[Reason]:
    """Say, a sentence each, why what the leader said about a cell may be out of date."""
    if not snapshot.leader:
        yield "No controller leads: nothing is measured, and nothing is done about any cell."
    if condition is None:
        yield "Nothing is known of this cell: none of its instances has had the traffic and a live lease at once."
        return
    age_ms = snapshot.now_ms - condition.at_ms
    if age_ms > CONDITION_FRESH_MS:
        yield f"What follows was said {_span(age_ms)} ago, and may not be so any more."
    if condition.generation != generation:
        yield f"What follows is of generation {condition.generation}, and the traffic has generation {generation}."


def time_text(ms: int) -> str:
    """Write a time in milliseconds since 1970 as a date and a time of day in UTC; one after 9999 as the end of 9999."""
    return datetime.fromtimestamp(min(ms, _LATEST_MS) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def by_hand(snapshot: Snapshot, cell_id: str) -> str:
    """What people have decided about the cell's instances, in words; empty when they have decided nothing."""
    found, record = snapshot.policy, snapshot.cells.get(cell_id)
    said = ["frozen"] * (cell_id in found.frozen) + ["ejected"] * (cell_id in found.ejected)
    if record is not None and (order := found.order_for(record)):
        said.append(f"{order} generation {record.generation}")
    return ", ".join(said)


def summary(found: Explanation) -> list[tuple[str, str]]:
    """Name and describe how the cell is and what is done about it, a row each."""
    launching = f"; generation {found.launching} is being launched" if found.launching else ""
    since = f", admitted {_ago(found.admitted_at_ms, found.now_ms)}" if found.admitted_at_ms else ""
    where = f", in {found.zone}" if found.zone else ""
    instance = f"generation {found.generation}{since}{where}" if found.generation else "none yet"
    return [
        ("cell", f"{found.cell_id}, {found.state}"),
        ("instance", f"{instance}{launching}"),
        ("image", image(found)),
        ("the instance says", found.note or "nothing"),
        ("verdict", verdict(found.assessment)),
        ("cushion", cushion(found)),
        *_rate(found),
        *(("slow path", path) for path in (found.assessment.slow_paths if found.assessment is not None else ())),
        *(("observed", each.said) for each in (found.assessment.observations if found.assessment is not None else ())),
        ("on the ladder", ladder(found.treatment, found.now_ms)),
        ("beside its twin", found.trial or "it stands no trial"),
        ("kept from treatment by", found.why_untreated or ("a person" if found.by_hand else "nothing")),
        ("by hand", found.by_hand or "nothing"),
        *_scaling(found.scaling),
        *_launches(found),
    ]


def _rate(found: Explanation) -> Iterator[tuple[str, str]]:
    if found.cell_rate:
        several = found.routers > 1
        each = f", {found.cell_rate / found.routers:.3g} from each of {found.routers} routers" if several else ""
        yield "gets at most", f"{found.cell_rate:g} events a second{each}: what it bears; more is held"


def _launches(found: Explanation) -> Iterator[tuple[str, str]]:
    if found.why_not_launched is not None:
        yield "launches that failed", f"{found.launch_failures} in a row, the last: {found.why_not_launched}"


def _scaling(said: ScalingDecision | None) -> Iterator[tuple[str, str]]:
    if said is not None:
        yield "the number of cells", said.why
    if said is not None and said.too_large is not None:
        yield "a large key", said.too_large


def image(found: Explanation) -> str:
    """Say which image the instance runs, and how far the release is that changes it."""
    named, release = found.image or "the one that the controllers launch by themselves", found.release
    if release is None or not (release.runs or found.now_ms - release.since_ms < RELEASE_SHOWN_MS):
        return named
    return f"{named}; release {release.number} of {release.image}: {progress(release, found.now_ms)}"


def verdict(assessment: Assessment | None) -> str:
    """Put a verdict, how long it has lasted and the rule that it comes from into words."""
    if assessment is None:
        return "none"
    if assessment.verdict is Verdict.HEALTHY:
        return f"{assessment.verdict}: {NOTHING_WRONG}"
    limit = "" if assessment.verdict in SICK else ", and nothing is done about that"
    return f"{assessment.verdict}, for {assessment.lasted_s:.0f} s: {assessment.rule}{limit}"


def cushion(found: Explanation) -> str:
    """Say whether routers send the cell less at once than it can take, and why."""
    if found.cushion is None:
        return "none: routers send it as much at once as it can take"
    return f"it gets no more at once than usual, and more is held: it looks slow, {found.cushion}"


def ladder(treatment: Treatment, now_ms: int) -> str:
    """Say which rung of the ladder a cell is on, since when and why."""
    if treatment.rung is Rung.WELL:
        return "not on it: nothing is done"
    ejected = "; its events wait" if treatment.ejected else ""
    return f"{treatment.rung}, since {_ago(treatment.since_ms, now_ms)}: {treatment.why}{ejected}"


def evidence(found: Assessment) -> list[tuple[str, str]]:
    """Describe every figure that the rules use, in words and units for people, in the order of the rules."""
    return [
        *_of_tenants(found),
        *_of_canaries(found),
        *_of_failures(found),
        *_of_workload(found),
        *_of_vitals(found),
        *_of_announced(found),
    ]


def _of_tenants(found: Assessment) -> list[tuple[str, str]]:
    peers = f"{log_text(found.peers_deviation)}, the median of {found.peers}" if found.peers else "there are none"
    shift = log_text(found.shift, found.standard_error) if found.shift is not None else "too few tenants to say"
    return [
        ("S: deviation of its tenants", f"{log_text(found.deviation)}, of {found.tenants} tenants"),
        ("the other cells' S", peers),
        ("D: shift from the others' S", shift),
        (f"S of the last {thresholds.CONFIRM_S:g} s", log_text(found.recent_deviation, found.recent_standard_error)),
        ("spread of one tenant's events", f"{found.spread:.2f}"),
        ("latency, mean", _latency(found)),
        *([("routers that find it slow", f"{found.slow_routers} of {found.routers}")] if found.routers else []),
        ("over a limit a second ago", "yes" if found.was_over_limit else "no"),
        ("looks slow", found.looks_slow or "no"),
        ("at a glance", _glance(found.glance)),
        ("copies of its events in a trial", _copies(found)),
    ]


def _latency(found: Assessment) -> str:
    if not found.latency_s:
        return "no event was answered well of late"
    excess = f"{in_ms(found.excess_s)} more than usual" if found.excess_s > 0 else "no more than usual"
    return f"{in_ms(found.latency_s)}, {excess}"


def _glance(found: Glance) -> str:
    """The last second or two."""
    events = f"{exp(found.deviation):.2f} times as long as usual, of {found.events} events"
    canaries = f"{found.slow_points} of {found.points} find the last canary slow"
    return "; ".join([events] * bool(found.events) + [canaries] * bool(found.points)) or "nothing was answered"


def _copies(found: Assessment) -> str:
    if not found.rehearses:
        return "none: its handler has no rehearse, so that only canaries tell it from its twin"
    times = f"{exp(thresholds.MIN_PART_TENANT):.0f} times as long or more"
    return f"its handler rehearses; {found.slower_tenants} of {found.tenants} tenants take {times}"


def _of_canaries(found: Assessment) -> list[tuple[str, str]]:
    points = f"{found.slow_points} of {found.canary_points} find the canary slow"
    return [
        ("canary", in_ms(found.canary_s)),
        (f"canary of the last {thresholds.CONFIRM_S:g} s", in_ms(found.recent_canary_s)),
        ("what it should take", in_ms(found.usual_canary_s)),
        ("its baseline canary", in_ms(found.baseline.canary_s)),
        ("canary, for most vantage points", f"{found.canary_ratio:.2f} times that" if found.canary_ratio else "-"),
        ("vantage points", points if found.canary_points else "none"),
        ("canary under way, waiting", _seconds(found.canary_waiting_s)),
        ("canary failures in a row", str(found.canary_failures)),
        ("canaries are answered well", "yes" if found.answers_canaries else "no"),
    ]


def _of_failures(found: Assessment) -> list[tuple[str, str]]:
    return [
        ("events answered", f"{found.answered}, {found.answered_badly} of them not well"),
        ("failures in a row", f"{found.failures}, of {found.failing_tenants} tenants" if found.failures else "0"),
        ("last success", f"{found.since_success_s:.1f} s ago" if found.since_success_s is not None else "none"),
        ("oldest in flight", _seconds(found.oldest_s)),
        ("tenants in flight", str(found.waiting_tenants)),
        ("nothing answered for", _seconds(found.silent_s)),
        ("longest latency of late", _seconds(found.slowest_s)),
    ]


def _of_workload(found: Assessment) -> list[tuple[str, str]]:
    load = found.load
    share = f"{load.share:.0%} of the cell's time, normally {load.baseline_share:.0%}"
    taken = f"{load.taken_share:.0%} of what the others had"
    return [
        ("heaviest tenant", f"{load.heaviest!r}, {share}, {taken}" if load.heaviest else "-"),
        ("new tenants", f"{load.new_share:.0%} of the cell's time" if load.new_share else "-"),
        ("events", f"{found.rate_ratio:.2f} times the baseline" if found.rate_ratio else "-"),
        ("work", f"{found.work_ratio:.2f} times the baseline, at least" if found.work_ratio else "-"),
    ]


def _of_vitals(found: Assessment) -> list[tuple[str, str]]:
    """What the instance says of itself: its word and no more, so it excuses nothing."""
    if (vitals := found.vitals) is None:
        return [("its instance says of itself", "nothing")]
    writes = f"{in_ms(vitals.write_s) if vitals.write_s else 'none is done'}, {in_ms(vitals.slowest_write_s)} at most"
    return [
        ("its instance says it is", "busy" if why_busy(vitals) else "not busy"),
        ("its CPU", used(vitals)),
        ("waits for a core", _share(vitals.waited)),
        ("throttled by its CPU quota", _share(vitals.throttled)),
        ("its event loop, late at most", in_ms(vitals.lag_s)),
        ("stopped by garbage collection", _share(vitals.gc)),
        ("writes to its store", writes),
    ]


def _of_announced(found: Assessment) -> list[tuple[str, str]]:
    return [("done to it lately", "; ".join(texts(found.announced)) or "nothing")]


def _share(share: float | None) -> str:
    return "not known" if share is None else f"{share:.1%} of the time"


def log_text(value: float | None, error: float | None = None) -> str:
    """Write a natural logarithm with its standard error, and the ratio that it means."""
    if value is None:
        return "-"
    plus_minus = f" ± {error:.2f}" if error is not None else ""
    return f"{value:+.2f}{plus_minus}, {exp(value):.2f} times"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "-"


def in_ms(seconds: float | None) -> str:
    """Write a time of seconds in milliseconds; a dash for one that is not known."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def _ago(at_ms: int, now_ms: int) -> str:
    return f"{time_text(at_ms)} ({_span(now_ms - at_ms)} ago)"


def _span(ms: int) -> str:
    seconds = max(0, ms) // 1000
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004 - two hours
