"""What may fail as a whole, and which cells are in it. Pure."""

from __future__ import annotations

from enum import StrEnum

from router.core.registry import Snapshot


class FailureDomain(StrEnum):
    """What may fail as a whole, with all that is in it."""

    CELL = "cell"
    ZONE = "zone"
    REGION = "region"


def domains(snapshot: Snapshot, by: FailureDomain) -> dict[str, str]:
    """Cell → the cell itself, or the zone or region that its instance is in; empty where a worker names none."""
    if by is FailureDomain.CELL:
        return {cell_id: cell_id for cell_id, record in snapshot.cells.items() if not record.retired}
    admitted = {
        cell_id: snapshot.lease(record.cell_id, record.generation) for cell_id, record in snapshot.cells.items()
    }
    return {cell_id: getattr(lease, by.value) for cell_id, lease in admitted.items() if lease is not None}
