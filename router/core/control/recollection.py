"""What a controller remembers of the registry, to put back what an emptied or lagging one has lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from router.core.models import CellRecord
from router.core.policy import NO_POLICY, Policy
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class Recollection:
    """The newest of everything ever seen: epochs, versions and generations only grow."""

    slot_map: SlotMap | None = None
    policy: Policy = NO_POLICY
    cells: Mapping[str, CellRecord] = field(default_factory=dict)

    def with_map(self, slot_map: SlotMap | None) -> Recollection:
        """One more map seen."""
        return replace(self, slot_map=slot_map) if _epoch(slot_map) > _epoch(self.slot_map) else self

    def with_policy(self, policy: Policy | None) -> Recollection:
        """One more policy seen."""
        return replace(self, policy=policy) if policy is not None and policy.version > self.policy.version else self

    def with_cells(self, cells: Mapping[str, CellRecord]) -> Recollection:
        """The records as they are; those of ours that are newer stay."""
        return replace(self, cells={**cells, **self.lost_cells(cells)})

    def lost_map(self, slot_map: SlotMap | None) -> SlotMap | None:
        """Our map, when the registry's is older or gone."""
        return self.slot_map if _epoch(self.slot_map) > _epoch(slot_map) else None

    def lost_policy(self, policy: Policy) -> Policy | None:
        """Our policy, likewise."""
        return self.policy if self.policy.version > policy.version else None

    def lost_cells(self, cells: Mapping[str, CellRecord]) -> dict[str, CellRecord]:
        """Our records of cells, likewise."""
        return {cell_id: ours for cell_id, ours in self.cells.items() if _is_older(cells.get(cell_id), ours)}


def _epoch(slot_map: SlotMap | None) -> int:
    return -1 if slot_map is None else slot_map.epoch


def _is_older(found: CellRecord | None, ours: CellRecord) -> bool:
    if found is None:
        return True
    return found.generation < ours.generation or found.launched < ours.launched or found.fence < ours.fence
