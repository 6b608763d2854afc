"""What can be injected into an instance, so that one sees what the system makes of it. It ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """How the instance fails."""

    SLOW = "slow"
    HANG = "hang"
    ERRORS = "errors"
    GARBAGE = "garbage"
    COMPONENT = "component"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Fault:
    """One of a kind at a time; the next of the same kind replaces it."""

    kind: FaultKind
    seconds: float = 60.0  # then it ends by itself; 0: ends it now
    delay_s: float = 0.0  # slow: added to every event and canary
    factor: float = 1.0  # slow: of the time that the handler takes
    rate: float = 1.0  # errors: the share of calls of the handler that fail
    component: str = ""  # the one that fails
