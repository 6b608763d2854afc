"""What is observed of a cell over minutes: by name, for people. It is no verdict, and nothing is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.core.models import Reason


class Pattern(StrEnum):
    """How a cell that no rule calls slow for long may be slow all the same."""

    COMES_AND_GOES = "comes and goes"  # slow for seconds, again and again
    STALLS = "stalls"  # does nothing for a moment, again and again
    PARTLY_LATE = "partly late"  # some of its canaries are late or lost, for most vantage points
    LOSSY_PATH = "lossy path"  # they are for one vantage point alone
    GROWS_SLOWER = "grows slower"  # steadily, over minutes
    THROTTLED = "throttled"  # by its CPU quota, by its own word


@dataclass(frozen=True, slots=True)
class Observation:
    """One pattern that the last minutes show, with its figures in words."""

    pattern: Pattern
    said: Reason
