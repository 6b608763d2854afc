"""What an edit comes to on the policy in force: the change itself, and what is said of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from router.core.errors import NoSuchCellError
from router.core.models import CellRecord, Reason
from router.core.policy import Policy

MOST_NAMES: Final = 12  # of cells that an error lists


@dataclass(frozen=True, slots=True)
class PolicyEdit:
    """One change of the policy that a person wants, and what the audit shall say about it."""

    action: str
    text: str  # what the change does, for people
    make: Callable[[Policy, int], Policy]  # the new policy, from the one in force and the time in ms
    why_unchanged: Reason | None = None  # an error when the edit changes nothing; None: that is no error
    cell_id: str = ""  # the cell that it is about; the audit names it


@dataclass(frozen=True, slots=True)
class EditOutcome:
    """What became of an edit."""

    text: str  # what the change does, for people
    changed: bool  # False: it was in force already
    version: int  # of the policy that is in force since


def audit_text(text: str, why: str) -> str:
    """Join what a change does with the person's own words about it."""
    return f"{text}. {why}" if why else text


def record_in(cells: Mapping[str, CellRecord], cell_id: str) -> CellRecord:
    """Return the cell's record. Raises NoSuchCellError, which lists the cells, when there is no such cell."""
    record = cells.get(cell_id)
    if record is not None and not record.retired:
        return record
    names = sorted(name for name, found in cells.items() if not found.retired)
    some = names if len(names) <= MOST_NAMES else [*names[: MOST_NAMES - 2], "…", names[-1]]
    raise NoSuchCellError(f"there is no cell {cell_id}; there are: {', '.join(some) or 'none'}")
