"""How keys take turns in their cell's lane: what a person wants of it, as the policy has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from router.core.models import Reason, Whole

MAX_TURN: Final = 100
"""The largest weight of a key: so many events of it may leave before the next key has its turn, two full batches."""


class Priority(StrEnum):
    """Which keys' events leave a lane first, while each of the others has its share."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Fairness:
    """How one key takes turns with the other keys of its cell, in each router."""

    weight: Whole = 1  # how many events leave in one turn of the key; keys not named have 1
    priority: Priority = Priority.NORMAL


AS_ALL: Final = Fairness()
ORDER: Final = tuple(
    {"H": Priority.HIGH, "N": Priority.NORMAL, "L": Priority.LOW}[place] for place in "HHHNHLHNHHHNHHHN"
)
"""Whose place it is, event by event, over and over, while keys of other priorities wait too.

Of any 16 events that leave in a row, 11 are of high priority, 4 of normal and 1 of low, as long as such may leave. So a
high priority waits for 1 event of the others at most, a normal one for 3 and a low one for 15. A place that nobody of
its priority needs goes to the highest one that waits.
"""


def why_bad_fairness(of: str, fairness: Fairness) -> Iterator[Reason]:
    """Say what no key can have of turns; `of` names the key."""
    if not 1 <= fairness.weight <= MAX_TURN:
        weight = fairness.weight if -MAX_TURN <= fairness.weight <= 10**18 else "such a number"
        yield f"{of}: a key's weight is 1 to {MAX_TURN} events in a turn, not {weight}; others have 1"


def described(fairness: Fairness) -> str:
    """Say in words how a key takes turns."""
    return f"weight {fairness.weight}, {fairness.priority} priority"
