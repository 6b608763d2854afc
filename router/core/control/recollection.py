"""What a controller remembers of the registry, to put back what an emptied or lagging one has lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from router.core.models import CellRecord, Reason
from router.core.policy import NO_POLICY, Policy
from router.core.registry import Change, Snapshot
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class Recollection:
    """The newest map, policy and records ever seen: epochs, versions and generations only grow."""

    slot_map: SlotMap | None = None
    policy: Policy = NO_POLICY
    cells: Mapping[str, CellRecord] = field(default_factory=dict)

    def with_map(self, slot_map: SlotMap | None) -> Recollection:
        """Remember this map too, if its epoch is the highest so far."""
        return replace(self, slot_map=slot_map) if _epoch(slot_map) > _epoch(self.slot_map) else self

    def with_policy(self, policy: Policy | None) -> Recollection:
        """Remember this policy too, if its version is the highest so far."""
        return replace(self, policy=policy) if policy is not None and policy.version > self.policy.version else self

    def with_cells(self, cells: Mapping[str, CellRecord]) -> Recollection:
        """Remember these records, except where an own one is newer."""
        return replace(self, cells={**cells, **self._lost_cells(cells)})

    def lost_by(self, snapshot: Snapshot) -> Change | None:
        """Name what is to be written so that the registry has again what it lost; None when it has lost nothing."""
        cells = list(self._lost_cells(snapshot.cells).values())
        slot_map = self.slot_map if _epoch(self.slot_map) > _epoch(snapshot.slot_map) else None
        policy = self.policy if self.policy.version > snapshot.policy.version else None
        return Change(cells, slot_map, policy) if cells or slot_map is not None or policy is not None else None

    def _lost_cells(self, cells: Mapping[str, CellRecord]) -> dict[str, CellRecord]:
        return {cell_id: ours for cell_id, ours in self.cells.items() if _is_older(cells.get(cell_id), ours)}


def why_restored(lost: Change) -> Reason:
    """Say for the audit stream what the registry had lost."""
    parts = [f"{len(lost.cells)} cells"] * bool(lost.cells)
    parts += ["the map"] * (lost.slot_map is not None) + ["the policy"] * (lost.policy is not None)
    return f"the registry had lost {', '.join(parts)}"


def _epoch(slot_map: SlotMap | None) -> int:
    return -1 if slot_map is None else slot_map.epoch


def _is_older(found: CellRecord | None, ours: CellRecord) -> bool:
    if found is None:
        return True
    return found.generation < ours.generation or found.launched < ours.launched or found.fence < ours.fence
