"""How a release goes out: which cells get its image next, when a wave is judged good, and when all is taken back. Pure.

    PROPOSED ─► CHANGING ─► BAKING ─► CHANGING ─► … ─► DONE
                    └───────────┴─► ROLLING_BACK ─► ROLLED_BACK

A cell is changed as it is replaced: the next generation, of the new image, is launched beside its instance, answers a
canary, and gets the traffic. No key moves. Which cells are changed stands in their records, and all else in the
policy: so whichever controller leads goes on from there. A wave is a number of cells and not a list of them, so that
cells may come and go meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from router.core.control.actions import Launch, StepRelease
from router.core.control.another import backed_off, highest_seen, left_alone, why_another
from router.core.control.observed import Desired, Observed
from router.core.control.release_evidence import (
    changed,
    evidence,
    why_bad,
    why_not_judged,
    why_unlaunchable_image,
)
from router.core.detection.assessment import Verdict
from router.core.models import CellRecord, Reason, Rung, age_ms
from router.core.policy import Policy
from router.core.registry import Snapshot
from router.core.release import ALL, Phase, Release, ReleaseAction, Wave


def release_steps(desired: Desired, observed: Observed) -> Iterator[Launch | StepRelease]:
    """Yield what is to be done next for the release that runs, if one does."""
    release = observed.policy.release
    if release is None or not release.runs:
        return
    records = [record for cell_id in desired.cells if (record := observed.cells.get(cell_id)) is not None]
    match release.phase:
        case Phase.PROPOSED:
            yield _begun(observed, release, records)
        case Phase.ROLLING_BACK:
            yield from _back(observed, release, records)
        case _:
            yield from _forward(desired, observed, release, records)


def why_in_release(policy: Policy, record: CellRecord) -> Reason | None:
    """Say why the ladder leaves a cell to the release that has changed it; None for every other cell."""
    release = policy.release
    if release is None or not release.has(record.image) or release.before == release.image:
        return None
    return f"a release is judged by it: it gets {release.before or 'the image before'} again when it is bad"


def on_trial(snapshot: Snapshot) -> frozenset[str]:
    """Name the cells whose instance has the image of a release that runs: what they show is no measure of anything."""
    release = snapshot.policy.release
    if release is None:
        return frozenset()
    return frozenset(record.cell_id for record in snapshot.cells.values() if release.has(record.image))


def members(release: Release, wave: Wave, observed: Observed, records: Sequence[CellRecord]) -> list[CellRecord]:
    """Choose the cells that have the image once the wave is through.

    Cells that were changed come first, then well ones, then those of the least weight: a bad image shall hurt as few
    keys as can be. A cell that a person has in hand, or whose treatment was given up, is left out.
    """
    policy = observed.policy

    def turn(record: CellRecord) -> tuple[bool, bool, bool, float, str]:
        untouched = release.image not in (record.image, record.launched_image)
        unready = why_unready(observed, record) is not None
        weight = policy.weights.get(record.cell_id, 1.0)
        return untouched, unready, record.cell_id in policy.draining, weight, record.cell_id

    order = sorted((r for r in records if _why_left_out(observed, release, r) is None), key=turn)
    if wave.cells:
        return order[: wave.cells]
    weights = [policy.weights.get(record.cell_id, 1.0) for record in order]
    most = wave.percent / ALL * sum(weights) * (1 + 1e-9)
    return order[: max(1, sum(so_far <= most for so_far in accumulate(weights)))]


def why_unready(observed: Observed, record: CellRecord) -> Reason | None:
    """Say why a cell can't be changed now; None when it can."""
    if record.treatment.rung is not Rung.WELL:
        return f"it is {record.treatment.verdict} ({record.treatment.rung})"
    if record.launching:
        return "its next instance is being launched"
    if observed.serving(record.cell_id) is None:
        return "it has no instance that serves"
    if order := observed.policy.order_for(record):
        return f"a person wants to {order} its instance"
    return None if backed_off(observed, record) else "a launch has just failed"


def _begun(observed: Observed, release: Release, records: Sequence[CellRecord]) -> StepRelease:
    """Note what the cells run now: that is what a bad release goes back to."""
    run = Counter(
        record.image or (view.image if (view := observed.instance(record.cell_id, record.generation)) else "")
        for record in records
    )
    before = observed.policy.image or next((image for image, _ in run.most_common() if image), "")
    release = replace(release, before=before)
    if before == release.image:
        return _step(observed, release, Phase.DONE, ReleaseAction.END, "all cells have this image already")
    waves = ", ".join(map(str, release.waves))
    why = f"{release.image} in waves of {waves}; before: {before or 'the image of the provisioner'}"
    return _step(observed, release, Phase.CHANGING, ReleaseAction.BEGIN, why)


def _forward(
    desired: Desired, observed: Observed, release: Release, records: Sequence[CellRecord]
) -> Iterator[Launch | StepRelease]:
    wave = members(release, release.waves[release.wave], observed, records)
    missing = [record for record in wave if record.image != release.image]
    waits = why_not_judged(observed, release, records)
    bad = why_unlaunchable_image(release, records)
    if bad is None and waits is None:
        bad = why_bad(desired, observed, release, records)
    waits = waits or _why_stuck(observed, missing)
    if bad is not None:
        number, cells = release.wave + 1, len(changed(release, records))
        why = f"wave {number} of {len(release.waves)}, {cells} of {len(records)} cells changed: {bad}"
        yield _step(observed, release, Phase.ROLLING_BACK, ReleaseAction.ROLL_BACK, why)
    elif (waits is None) != (release.waits is None):
        action = ReleaseAction.GO_ON if waits is None else ReleaseAction.WAIT
        why = waits or "what it waited for is over; the wave is judged from now on"
        paused = replace(release, waits=waits, since_ms=observed.now_ms)
        yield StepRelease(paused, observed.policy.image, action, why)
    elif waits is None:
        yield from _next(observed, release, records, missing)


def _next(
    observed: Observed,
    release: Release,
    records: Sequence[CellRecord],
    missing: Sequence[CellRecord],
) -> Iterator[Launch | StepRelease]:
    """Change the cells that lack the image, have the wave judged, or go on with the next wave."""
    number = f"wave {release.wave + 1} of {len(release.waves)}"
    if missing and release.phase is Phase.BAKING:
        why = f"{number}: {', '.join(record.cell_id for record in missing)} came to it"
        yield _step(observed, release, Phase.CHANGING, ReleaseAction.WAVE, why)
    elif missing:
        yield from _launches(observed, release, missing, release.image)
    elif release.phase is Phase.CHANGING:
        cells = ", ".join(record.cell_id for record in changed(release, records))
        yield _step(
            observed, release, Phase.BAKING, ReleaseAction.BAKE, f"{number} is judged for {release.bake_s:g} s: {cells}"
        )
    elif _is_baked(observed, release, changed(release, records)):
        yield _after_wave(observed, release, records, f"{number} is good: {evidence(observed, release, records)}")


def _is_baked(observed: Observed, release: Release, new: Sequence[CellRecord]) -> bool:
    """Whether the wave was judged for long enough, by this leader, and nothing speaks against it even now."""
    bake_ms = 1000 * release.bake_s
    if age_ms(release.since_ms, observed.now_ms) < bake_ms:
        return False
    found = [observed.health.get(record.cell_id) for record in new if not left_alone(observed, record)]
    return all(
        health is not None
        and health.watched_ms >= bake_ms
        and health.assessment.verdict in (Verdict.HEALTHY, Verdict.WORKLOAD)
        for health in found
    )


def _after_wave(observed: Observed, release: Release, records: Sequence[CellRecord], why: str) -> StepRelease:
    """Go on with the next wave that changes a cell, or end the release where none is left."""
    for number in range(release.wave + 1, len(release.waves)):
        if any(r.image != release.image for r in members(release, release.waves[number], observed, records)):
            return _step(observed, replace(release, wave=number), Phase.CHANGING, ReleaseAction.WAVE, why)
    left_out = {r.cell_id: why_not for r in records if (why_not := _why_left_out(observed, release, r))}
    if left_out:
        why = f"{why}; {_listed(left_out)}: left out, and gets it with its next instance"
    done = replace(release, wave=len(release.waves) - 1)
    return _step(observed, done, Phase.DONE, ReleaseAction.END, why)


def _back(observed: Observed, release: Release, records: Sequence[CellRecord]) -> Iterator[Launch | StepRelease]:
    """Give every cell that has the image the one before again; what the ladder or a person replaces gets that too."""
    # Also cells that are on their way out: they may have events left.
    everywhere = [record for record in observed.cells.values() if not record.retired] or records
    found = changed(release, everywhere)
    to_change = [record for record in found if not left_alone(observed, record)]
    if to_change or any(record.launching and record.launched_image == release.image for record in everywhere):
        hurry = replace(release, at_once=10 * release.at_once)
        yield from _launches(observed, hurry, to_change, release.before)
        return
    kept = {record.cell_id: "frozen by hand" for record in found}
    why = f"{release.why}; {_listed(kept)}: keeps {release.image} until its next instance" if kept else release.why
    yield _step(
        observed, release, Phase.ROLLED_BACK, ReleaseAction.ROLLED_BACK, why or "no cell has the image any more"
    )


def _launches(observed: Observed, release: Release, records: Sequence[CellRecord], image: str) -> Iterator[Launch]:
    """Launch an instance of the image beside those of so many cells as may be changed at once."""
    under_way = sum(1 for record in records if record.launching)
    back = image != release.image
    for record in records:
        # What needs another instance anyway gets it without the release, with the image that the policy says.
        if record.launching or why_another(observed, record) or not backed_off(observed, record):
            continue
        if not back and why_unready(observed, record) is not None:
            continue
        if under_way >= release.at_once:
            return
        under_way += 1
        why = f"release {release.number} {'is rolled back' if back else f'wave {release.wave + 1}'}"
        yield Launch(record.cell_id, why, highest_seen(observed, record), image)


def _why_stuck(observed: Observed, missing: Sequence[CellRecord]) -> Reason | None:
    """Say which cells a wave waits for that can't be changed now; None while any is or can be."""
    unready = {record.cell_id: why for record in missing if (why := why_unready(observed, record)) is not None}
    moving = [record for record in missing if record.launching or record.launch_failures]
    if not unready or moving or len(unready) < len(missing):
        return None
    return _listed(unready)


def _why_left_out(observed: Observed, release: Release, record: CellRecord) -> Reason | None:
    """Say why a release does not touch a cell; None when it does, or did."""
    if record.image == release.image:
        return None
    if record.cell_id in observed.policy.frozen:
        return "frozen by hand"
    if record.cell_id in observed.policy.ejected:
        return "ejected by hand"
    return "given up" if record.treatment.rung is Rung.GIVEN_UP else None


def _listed(cells: dict[str, Reason]) -> str:
    return ", ".join(f"{cell_id} ({why})" for cell_id, why in sorted(cells.items()))


def _step(observed: Observed, release: Release, phase: Phase, action: ReleaseAction, why: Reason) -> StepRelease:
    """The release in another phase from now on; where that is an end, its image is that of all cells."""
    ended = phase in (Phase.DONE, Phase.ROLLED_BACK)
    told = why if ended or phase is Phase.ROLLING_BACK else None
    after = replace(release, phase=phase, since_ms=observed.now_ms, waits=None, why=told)
    image = {Phase.DONE: release.image, Phase.ROLLED_BACK: release.before}.get(phase, observed.policy.image)
    return StepRelease(after, image, action, why)
