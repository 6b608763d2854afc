"""What an undo took back, and what of it stays: in the words of the command line and of the Admin API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from router.core.edits.plan import Plan
from router.core.fleet.explained import time_text
from router.core.models import CellRecord, Reason
from router.core.policy import Policy
from router.core.registry import PolicyVersion

SHOWN: Final = 3  # versions that the audit names


@dataclass(frozen=True, slots=True)
class Undoing:
    """An undo that is in force, in words."""

    taken_back: tuple[str, ...]  # the newest first
    kept: tuple[Reason, ...]  # what stays as it is, because it was changed again since
    done: tuple[str, ...]  # what stays done of orders that were taken back
    further: str  # what the next undo takes back; empty: nothing is left


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What the next undo would take back, before it is done."""

    version: int  # of the change that it takes back
    plan: Plan
    kept: tuple[Reason, ...]  # what would stay as it is, because it was changed again since
    done: tuple[str, ...]  # what would stay done of orders that are taken back


def told(version: PolicyVersion) -> str:
    """Say what a change was, who made it and when."""
    entry = version.audit
    return f"{entry.action} {entry.why} (version {version.policy.version}, by {entry.who}, {time_text(entry.at_ms)})"


def named(numbers: Sequence[int]) -> str:
    """Name the versions that are taken back, as the audit has it."""
    some = [str(number) for number in numbers[:SHOWN]] + ["…"] * (len(numbers) > SHOWN)
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(some)}"


def what_stays(before: Policy, after: Policy, cells: Mapping[str, CellRecord]) -> Iterator[str]:
    """Say, a line for each cell, what stays done of the orders that `before` holds and `after` takes back."""
    for cell_id in sorted({*before.to_evict, *before.to_replace}):
        ordered, record = before.ordered_up_to(cell_id), cells.get(cell_id)
        if record is None or ordered <= after.ordered_up_to(cell_id):
            continue
        if record.generation > ordered:
            yield f"{cell_id}: generation {ordered} is gone already, and generation {record.generation} stays"
        elif record.launching:
            yield f"{cell_id}: generation {record.launching} is launched already, and takes over when it is ready"
