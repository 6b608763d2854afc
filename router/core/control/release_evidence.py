"""What speaks against a release, and what keeps it from being judged: its cells beside those on the image before. Pure.

A release is judged by what would be bad in any cell (the detector's verdict, an instance that ends, a launch that
fails) and by less than that, since it can be taken back: canaries or events that got slower, and events that fail more
often, than in the cells on the image before and than in the same cell before it was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import median, median_low
from typing import Final, TypeAlias

from router.core.control.another import why_dead
from router.core.control.guards import FLEET_RATIO
from router.core.control.observed import Desired, Health, Observed
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.detection.thresholds import CONFIRM_S, MIN_CANARY_EXCESS_S, MIN_EXCESS_S, WINDOW_S
from router.core.detection.window import NOTHING_ANSWERED, AnsweredSums
from router.core.models import CellRecord, Reason, Rung, age_ms
from router.core.release import Release

PEERS_S: Final = 3.0
"""Seconds. What is wrong with all cells shows in each of them within a second or two of the others."""
LAUNCHES: Final = 2  # that have failed in a row, until it is the image's fault
MIN_ANSWERED: Final = 20  # events: with fewer, the canaries alone judge
MAX_EVENTS_RATIO: Final = 4.0
"""Times the slowest of the other cells, and times what the same cell's events took before. Other tenants' events cost
something else, so less may be their doing."""
MIN_BAD: Final = 3  # events answered badly beyond what is usual: fewer may be chance
BAD_SIGMA: Final = 4.0  # standard deviations beyond what is usual: every cell is judged once a second


Span: TypeAlias = Callable[[Health], AnsweredSums]
"""A time, as what a cell has answered in it. The same time is looked at in all cells."""


def of_late(found: Health) -> AnsweredSums:
    """What a cell has answered within the last WINDOW_S: there a fault of many events shows soonest."""
    return found.assessment.answers


def since_the_step(found: Health) -> AnsweredSums:
    """What a cell has answered since the last step of the release: there one shows that has few events."""
    return found.answers


@dataclass(frozen=True, slots=True)
class Rest:
    """The cells on the image before, and what is measured of them: what those with the new one are compared with."""

    found: Sequence[Health]

    @property
    def canary_s(self) -> float | None:
        """The median latency of their canaries, in seconds; None where none is measured.

        Of the last seconds where that is more: what slows all cells down shows there first.
        """
        assessments = [each.assessment for each in self.found]
        found = [max(a.canary_s, a.recent_canary_s or 0.0) for a in assessments if a.canary_s is not None]
        return median(found) if found else None

    def latency_s(self, span: Span) -> float | None:
        """How long events take in the slowest of them, in seconds; None where too few were answered."""
        answers = map(span, self.found)
        return max((each.latency_s for each in answers if each.count >= MIN_ANSWERED), default=None)

    def bad_share(self, span: Span) -> float:
        """The share of their events that are not answered well, 0 to 1."""
        return _all(self.found, span).bad_share


def changed(release: Release, records: Iterable[CellRecord]) -> list[CellRecord]:
    """Pick the cells whose admitted instance has the release's image."""
    return [record for record in records if record.image == release.image]


def why_not_judged(observed: Observed, release: Release, records: Sequence[CellRecord]) -> Reason | None:
    """Say why what is seen now says nothing about the release; None when it does.

    What the cells on the image before suffer too is no fault of the new one.
    """
    if observed.why_blind is not None:
        return observed.why_blind
    if not observed.leases_trusted:
        return "which instances live is not known: no lease was renewed for a while"
    others = _on_the_image_before(release, records)
    rest = [each.assessment for each in _rest(observed, release, records).found]
    if not others:
        return observed.why_suspended
    unwell = {a.cell_id for a in rest if a.verdict in SICK}
    unwell |= {record.cell_id for record in others if observed.serving(record.cell_id) is None}
    if 2 * len(unwell) >= len(others):
        return f"{len(unwell)} of {len(others)} cells on the image before are sick or down: a dependency that all share"
    deviations = [a.deviation for a in rest if a.deviation is not None]
    if deviations and median_low(deviations) > log(FLEET_RATIO):
        return f"cells on the image before take {FLEET_RATIO:g} times as long as usual: a dependency that all share"
    return None


def why_unlaunchable_image(release: Release, records: Sequence[CellRecord]) -> Reason | None:
    """Say which launches of the image have failed too often; None when none have."""
    for record in records:
        if record.launched_image == release.image and record.launch_failures >= LAUNCHES:
            return f"{record.cell_id}: {record.launch_failures} launches have failed: {record.why_launch_failed}"
    return None


def why_bad(desired: Desired, observed: Observed, release: Release, records: Sequence[CellRecord]) -> Reason | None:
    """Say what speaks against the image in the cells that have it by now; None when nothing does."""
    return next(_why_bad(desired, observed, release, records), None)


def evidence(observed: Observed, release: Release, records: Sequence[CellRecord]) -> str:
    """Put what the cells with the new image were judged by into words."""
    new, rest = _measured(observed, changed(release, records)), _rest(observed, release, records)
    span = max((of_late, since_the_step), key=lambda span: _all(new, span).count)
    answers = _all(new, span)
    canaries = [each.assessment.canary_s for each in new if each.assessment.canary_s is not None]
    said = []
    if canaries:
        beside = f", {1000 * rest.canary_s:.0f} ms in the others" if rest.canary_s is not None else ""
        said.append(f"canary {1000 * median(canaries):.0f} ms{beside}")
    if answers.count >= MIN_ANSWERED:
        rest_s, slowest_s = rest.latency_s(span), max(span(each).latency_s for each in new)
        beside = f", {1000 * rest_s:.0f} ms in the slowest of the others" if rest_s is not None else ""
        said.append(f"events take {1000 * slowest_s:.0f} ms{beside}")
        beside = f"{rest.bad_share(span):.1%} in the others"
        said.append(f"{answers.bad_share:.1%} of {answers.count} events failed, {beside}")
    else:
        said.append(f"judged by canaries alone: {answers.count} events are too few")
    return ", ".join(said)


def _why_bad(desired: Desired, observed: Observed, release: Release, records: Sequence[CellRecord]) -> Iterator[Reason]:
    rest, measured = _rest(observed, release, records), []
    for record in changed(release, records):
        if observed.policy.order_for(record) or record.cell_id in observed.policy.frozen:
            continue  # a person has it in hand
        if why := why_dead(observed, record):
            yield f"{record.cell_id}: {why}"
        if (health := observed.health.get(record.cell_id)) is None:
            continue
        warm = age_ms(record.admitted_at_ms, observed.now_ms) >= 1000 * desired.warm_up_s
        yield from _why_sick(health.assessment, warm=warm)
        if health.watched_ms >= 1000 * WINDOW_S:  # before that, its window is not as long as the others'
            measured.append(health)
            yield from _why_worse(health, release, rest, warm=warm)
    for span in (of_late, since_the_step):
        usual = max([rest.bad_share(span), *(each.assessment.baseline.bad_share for each in measured)])
        if why := why_failing_more(_all(measured, span), usual, release.errors):
            yield f"all cells with the new image together: {why}"


def _why_sick(found: Assessment, *, warm: bool) -> Iterator[Reason]:
    """What the detector says, once the other cells have had the time to show the same."""
    shown_s = PEERS_S + (CONFIRM_S if found.verdict is Verdict.SLOW else 0.0)
    if found.verdict in SICK and found.lasted_s >= shown_s and (warm or found.verdict is not Verdict.SLOW):
        yield f"{found.cell_id} is {found.verdict}: {found.rule}"


def _why_worse(found: Health, release: Release, rest: Rest, *, warm: bool) -> Iterator[Reason]:
    before = found.assessment.baseline
    if warm and (why := why_slower(found.assessment, rest.canary_s, release.slower)):
        yield f"{found.assessment.cell_id}: {why}"
    for span in (of_late, since_the_step):
        answers = span(found)
        if warm and (why := why_events_slower(answers, rest.latency_s(span), before.latency_s)):
            yield f"{found.assessment.cell_id}: {why}"
        usual = max(rest.bad_share(span), before.bad_share)
        if why := why_failing_more(answers, usual, release.errors):
            yield f"{found.assessment.cell_id}: {why}"


def why_slower(found: Assessment, rest_s: float | None, ratio: float) -> Reason | None:
    """Say that a cell's canary takes longer than elsewhere and than before; None when it does not, by much."""
    usual = [each for each in (rest_s, found.baseline.canary_s) if each is not None]
    if found.canary_s is None or not usual:
        return None
    own_s, usual_s = min(found.canary_s, found.recent_canary_s or found.canary_s), max(usual)
    if own_s <= ratio * usual_s or own_s - usual_s < MIN_CANARY_EXCESS_S:
        return None
    return f"its canary takes {1000 * own_s:.0f} ms, {own_s / usual_s:.1f} times as long as before and in the others"


def why_events_slower(found: AnsweredSums, rest_s: float | None, before_s: float | None) -> Reason | None:
    """Say that events take much longer than in any other cell and than before; None when they don't.

    A canary shows the instance, and events show the handler too, which may have no canary of its own.
    """
    usual = [each for each in (rest_s, before_s) if each is not None]
    if found.count < MIN_ANSWERED or not usual:
        return None
    usual_s = max(usual)
    if found.latency_s <= MAX_EVENTS_RATIO * usual_s or found.latency_s - usual_s < MIN_EXCESS_S:
        return None
    return (
        f"its events take {1000 * found.latency_s:.0f} ms, more than {MAX_EVENTS_RATIO:g} times as long as before and "
        f"as in any other cell ({1000 * usual_s:.0f} ms)"
    )


def why_failing_more(found: AnsweredSums, usual: float, margin: float) -> Reason | None:
    """Say that more events fail than usually, by more than a share of `margin` and by more than chance; else None."""
    expected = usual * found.count
    excess = found.bad - expected
    if found.bad <= (usual + margin) * found.count or excess < MIN_BAD or excess < BAD_SIGMA * sqrt(expected):
        return None
    return f"{found.bad_share:.1%} of {found.count} events fail, usually {usual:.1%}"


def _rest(observed: Observed, release: Release, records: Iterable[CellRecord]) -> Rest:
    return Rest(_measured(observed, _on_the_image_before(release, records)))


def _on_the_image_before(release: Release, records: Iterable[CellRecord]) -> list[CellRecord]:
    """The cells to compare with; one that is long known to be sick is no measure."""
    return [r for r in records if r.image != release.image and r.generation and r.treatment.rung is not Rung.GIVEN_UP]


def _measured(observed: Observed, records: Iterable[CellRecord]) -> list[Health]:
    return [health for record in records if (health := observed.health.get(record.cell_id)) is not None]


def _all(found: Iterable[Health], span: Span) -> AnsweredSums:
    return sum(map(span, found), NOTHING_ANSWERED)
