"""The mark of an event of a stress run: which run and phase it is of, and when it was meant to be sent. Pure.

It travels as a message attribute, through hold queues too. The time is the intended one: a sender that is late, or a
queue that takes nothing, is part of what whoever waits for the event sees.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ATTRIBUTE: Final = "cellrouter_stress"
"""The attribute's name. It begins as none of a router's own do: anybody may send it."""
MAX_PHASES: Final = 64
_MARK: Final = re.compile(r"([0-9a-z]{1,16}):([0-9]{1,2}):([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mark:
    """Which run and phase an event is of, and when it was meant to be sent, in milliseconds since 1970."""

    run: str
    phase: int
    intended_ms: int

    @property
    def text(self) -> str:
        """The mark as an attribute's value."""
        return f"{self.run}:{self.phase}:{self.intended_ms}"


def read_mark(text: str) -> Mark | None:
    """Read an attribute's value; None for what is no mark."""
    found = _MARK.fullmatch(text)
    if found is None or int(found[2]) >= MAX_PHASES:
        return None
    return Mark(found[1], int(found[2]), int(found[3]))
