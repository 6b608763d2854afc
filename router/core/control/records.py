"""How a cell's record changes: one pure function for each transition, from a record to the next one.

Each comes with the action and the reason that the audit stream keeps of it. Generations and fences only grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from router.core.control.twins import AGAIN_MS
from router.core.detection.assessment import Verdict
from router.core.models import NO_TREATMENT, CellRecord, Reason, Rung, Treatment, age_ms

ON_THE_LADDER: Final = frozenset({Rung.MENDING, Rung.RESTARTING, Rung.REPLACING, Rung.REPROVISIONING})
"""The rungs on which something is being done to a cell, so that another instance is a replacement of a sick one."""

MAX_WHY_CHARS: Final = 1000
"""Of why a launch failed, so much is kept in a cell's record; the audit has all of it."""

MAX_FAILURES: Final = 3
"""Launches or canaries in a row until an instance being launched, or a cell being added, is no good."""

RUNG_ACTIONS: Final[Mapping[Rung, str]] = {  # what the audit calls the step onto each rung
    Rung.WELL: "recovered",
    Rung.GUARDED: "guard",
    Rung.MENDING: "treat",
    Rung.RESTARTING: "restart instance",
    Rung.REPLACING: "replace",
    Rung.REPROVISIONING: "reprovision",
    Rung.GIVEN_UP: "give up",
}


@dataclass(frozen=True, slots=True)
class Transition:
    """A cell's record after a change, with the action and the reason for the audit stream."""

    record: CellRecord
    action: str
    why: str


def created(cell_id: str, retired: CellRecord | None) -> Transition:
    """Make the record of a new cell, or take a retired cell back with all that is known of its instances."""
    record = replace(retired, retired=False) if retired is not None else CellRecord(cell_id)
    return Transition(record, "create", "there shall be this cell, and there was none")


def retired(record: CellRecord) -> Transition:
    """Take the cell out of service; its record stays, so that its generations go on where they were."""
    after = replace(record, retired=True, launching=0)
    return Transition(after, "retire", "not one of the cells any more, and nothing belongs to it")


def launched(record: CellRecord, generation: int, now_ms: int, why: Reason, image: str = "") -> Transition:
    """Note the generation that is about to be launched, before it is: the next leader must know what may be running."""
    what = f"generation {generation} of {image}" if image else f"generation {generation}"
    return Transition(_launching(record, generation, now_ms, image), "launch", f"{what}: {why}")


def adopted(record: CellRecord, generation: int, now_ms: int, image: str = "") -> Transition:
    """Take an instance that runs without our knowledge for the one being launched."""
    return Transition(_launching(record, generation, now_ms, image), "adopt", f"generation {generation} runs already")


def launch_failed(record: CellRecord, why: Reason) -> Transition:
    """Count a launch that came to nothing, which lengthens the pause before the next one."""
    after = replace(
        record,
        launching=0,
        launch_failures=record.launch_failures + 1,
        candidate_failures=0,
        why_launch_failed=why[:MAX_WHY_CHARS],
    )
    return Transition(after, "give up launch", why)


def launch_given_up(record: CellRecord, generation: int, why: Reason) -> Transition:
    """Count a launch whose instance started and will not serve, naming its generation in the audit."""
    return launch_failed(record, f"generation {generation}: {why}")


def tried(
    record: CellRecord, generation: int, address: str, now_ms: int, why_not: Reason | None, shown: Reason | None = None
) -> Transition:
    """Admit a candidate whose canary was answered well; count the failure of any other (`why_not`).

    `shown` is what its trial has shown, where there was one.
    """
    if why_not is None:
        return admitted(record, generation, address, now_ms, shown)
    after = replace(record, candidate_failures=record.candidate_failures + 1)
    return Transition(after, "verify failed", f"generation {generation} gets no traffic yet: {why_not}")


def admitted(record: CellRecord, generation: int, address: str, now_ms: int, shown: Reason | None = None) -> Transition:
    """Give the traffic to a verified instance: every failure is forgotten, and the cell leaves the ladder."""
    replaced = record.treatment.rung in ON_THE_LADDER
    after = replace(
        record,
        generation=generation,
        address=address,
        verified=generation,
        launching=0,
        launch_failures=0,
        why_launch_failed=None,
        image=record.launched_image if generation == record.launched else record.image,
        canary_failures=0,
        candidate_failures=0,
        admitted_at_ms=now_ms,
        replaced_at_ms=now_ms if replaced else record.replaced_at_ms,
        twin=0,
        tried_at_ms=0,
        trials=0,
        treatment=NO_TREATMENT,
    )
    if shown is not None:
        return Transition(after, "admit", f"generation {record.generation} is slower: {shown}, generation {generation}")
    return Transition(after, "admit", f"generation {generation} is ready, and has answered a canary")


def twin_dismissed(record: CellRecord, generation: int, now_ms: int, shown: Reason) -> Transition:
    """Keep the instance whose twin was no faster: no failure is counted, and no replacement."""
    why = f"it is not the instance: {shown}"
    treatment = replace(record.treatment, rung=Rung.GUARDED, since_ms=now_ms, why=why, ejected=False)
    again = record.tried_at_ms and age_ms(record.tried_at_ms, now_ms) < AGAIN_MS
    after = replace(
        record,
        launching=0,
        twin=0,
        candidate_failures=0,
        launch_failures=0,
        tried_at_ms=now_ms,
        trials=record.trials + 1 if again else 1,
        treatment=treatment,
    )
    return Transition(after, "keep instance", f"generation {record.generation} stays, {generation} goes: {why}")


def verified(record: CellRecord, address: str, why_not: Reason | None) -> Transition | None:
    """Note what a canary through the admitted instance came to; None when it only says what the record says already."""
    if why_not is not None:
        after = replace(record, canary_failures=record.canary_failures + 1)
        return Transition(after, "verify failed", why_not)
    if (record.verified, record.address) == (record.generation, address) and not record.canary_failures:
        return None
    after = replace(record, verified=record.generation, address=address, canary_failures=0)
    return Transition(after, "verify", f"generation {record.generation} answered")


def fenced(record: CellRecord, epoch: int) -> Transition:
    """Let the cell's instances take only batches of routers that know a slot map of this epoch."""
    return Transition(
        replace(record, fence=epoch), "raise fence", f"what moves away must not begin again: epoch {epoch}"
    )


def put_on_rung(record: CellRecord, treatment: Treatment, now_ms: int) -> Transition:
    """Write down the rung that a cell gets onto, before the rung's work is done: the next leader goes on there."""
    ejected = "ejected: " if treatment.ejected and not record.treatment.ejected else ""
    why = f"{ejected}{treatment.why or ''}" or "nothing is wrong with it any more"
    recovered_at_ms = now_ms if treatment.rung is Rung.WELL else record.recovered_at_ms
    after = replace(record, treatment=treatment, recovered_at_ms=recovered_at_ms)
    return Transition(after, RUNG_ACTIONS[treatment.rung], why)


def made_anew(missing: Sequence[str]) -> str:
    """Tell in the audit stream which durable components of a cell were missing and have been made."""
    return f"made anew: {', '.join(missing)}" if missing else "nothing was missing"


def _launching(record: CellRecord, generation: int, now_ms: int, image: str) -> CellRecord:
    # An image's failures say nothing of the next image.
    failures = record.launch_failures if image == record.launched_image else 0
    treatment = record.treatment
    beside_slow = treatment.rung is Rung.REPLACING and treatment.verdict == Verdict.SLOW
    return replace(
        record,
        launching=generation,
        twin=generation if beside_slow and treatment.generation == record.generation else 0,
        launched=generation,
        launched_at_ms=now_ms,
        launched_image=image,
        launch_failures=failures,
    )
