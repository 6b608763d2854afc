"""How a cell is, in the one word that people see of it. Pure."""

from __future__ import annotations

from router.core.models import CellRecord, CellState, LeaseView
from router.core.policy import NO_POLICY, Policy


def state_of(record: CellRecord, lease: LeaseView | None, policy: Policy = NO_POLICY) -> CellState:
    """Name the state of a cell as people see it; `lease` is that of its admitted instance."""
    if record.retired:
        return CellState.RETIRED
    if lease is not None and lease.live and lease.ready:
        return CellState.EJECTED if policy.ejects(record) else CellState.SERVING
    return CellState.DOWN if record.generation else CellState.STARTING
