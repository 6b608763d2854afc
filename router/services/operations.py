"""What people change: edits of the policy, undo, and the plan of an edit, for the command line and the Admin API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from router.core.edits.decided import EditOutcome, audit_text
from router.core.edits.kinds import Edit
from router.core.edits.orders import decided
from router.core.edits.plan import Plan, effect_of, planned
from router.core.edits.undoing import Undoing, UndoPlan, named, told, what_stays
from router.core.errors import BadEditError, NothingToChangeError, PlanChangedError
from router.core.policy import Policy
from router.core.registry import AuditEntry, PolicyVersion
from router.core.undo import to_undo, undone, why_not_undone
from router.ports import Clock, OperatorRegistry
from router.services.policy import change


class Operations:
    """Makes the changes of one person, whom the audit names; an Operator."""

    def __init__(self, registry: OperatorRegistry, clock: Clock, who: str) -> None:
        self._registry = registry
        self._clock = clock
        self._who = who

    async def plan(self, edit: Edit) -> Plan:
        """Say what an edit would do, and do nothing. Raises BadEditError, NoSuchCellError or NothingToChangeError."""
        snapshot = await self._registry.snapshot()
        return planned(decided(edit, snapshot, ""), snapshot)

    async def change(self, edit: Edit, why: str, *, agreed: str | None = None, action: str = "") -> EditOutcome:
        """Have the leader make an edit; with the text of a plan in `agreed`, only while that is the plan.

        The audit has it under its own name, unless `action` says another. Raises BadEditError, NoSuchCellError,
        NothingToChangeError, or PlanChangedError.
        """
        snapshot = await self._registry.snapshot()
        found = decided(edit, snapshot, why)
        text = audit_text(found.text, why)
        audit = AuditEntry(self._clock.time_ms(), self._who, action or found.action, found.cell_id, text)
        changed = False

        def make(policy: Policy) -> Policy:
            nonlocal changed
            if agreed is not None:
                _hold_to(agreed, planned(found, replace(snapshot, policy=policy)).text)
            wanted = found.make(policy, audit.at_ms)
            changed = wanted != policy
            return wanted

        wanted = await change(self._registry, make, audit)
        if not changed and found.why_unchanged is not None:
            raise NothingToChangeError(found.why_unchanged)
        return EditOutcome(found.text, changed, wanted.version + changed)

    async def note(self, action: str, text: str, why: str, cell_id: str = "") -> None:
        """Have the leader note in the audit what this person is about to do with no policy: it changes nothing."""
        audit = AuditEntry(self._clock.time_ms(), self._who, action, cell_id, audit_text(text, why))
        while not await self._registry.change_policy(await self._registry.policy(), audit):
            continue

    async def undo_plan(self) -> UndoPlan:
        """Say what the next undo would take back, and do nothing. Raises NothingToChangeError when nothing is left."""
        snapshot, versions = await self._registry.snapshot(), await self._registry.history()
        now, (chosen,) = snapshot.policy, _chosen(versions, None)
        found = undone(now, versions, [chosen])
        text = f"take back {told(chosen)}"
        return UndoPlan(
            chosen.policy.version,
            effect_of(text, found.policy, snapshot, f"{text}: nothing of it is in force any more"),
            found.kept,
            tuple(what_stays(now, found.policy, snapshot.cells)),
        )

    async def undo(self, to: int | None, why: str, agreed: int | None = None) -> Undoing:
        """Take back the last change of a person, or all since version `to`; with `agreed`, only if that is the newest.

        Raises BadEditError for a version that there is not yet, NothingToChangeError when nothing is left,
        PlanChangedError when another version than the agreed one is the newest to be taken back.
        """
        while True:  # until no other change comes first
            now, versions = await self._registry.policy(), await self._registry.history()
            if to is not None and to > now.version:
                raise BadEditError(f"there is no version {to} yet; the newest is {now.version}")
            chosen = _chosen(versions, to)
            if agreed is not None and agreed != chosen[0].policy.version:
                raise PlanChangedError(f"nothing was done: an undo takes back now {told(chosen[0])}")
            found = undone(now, versions, chosen)
            numbers = tuple(version.policy.version for version in chosen)
            text = audit_text(named(numbers), why)
            entry = AuditEntry(self._clock.time_ms(), self._who, "undo", "", text, numbers[-1] - 1)
            if await self._registry.change_policy(found.policy, entry):
                rest = [version for version in versions if version.policy.version not in numbers]
                cells = (await self._registry.snapshot()).cells
                return Undoing(
                    tuple(told(version) for version in chosen),
                    found.kept,
                    tuple(what_stays(now, found.policy, cells)),
                    next((told(version) for version in to_undo(rest)), ""),
                )


def _chosen(versions: Sequence[PolicyVersion], to: int | None) -> Sequence[PolicyVersion]:
    """Return what an undo takes back, newest first and one at least. Raises NothingToChangeError."""
    chosen = to_undo(versions, to)
    if (against := why_not_undone(versions, chosen)) is not None:
        raise NothingToChangeError(against)
    return chosen


def _hold_to(agreed: str, now: str) -> None:
    if now != agreed:
        raise PlanChangedError(f"nothing was done: the plan has changed since it was shown. It is now: {now}")
