"""Which FIFO groups stand still, and which slots therefore go through the aside queue, or need to no longer. Pure.

A group stands still while the event at its head is let go again and again, and none of the group is settled.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from router.core.slot_map.slots import slot_of

LOOK_AHEAD: Final = 120_000  # messages of a FIFO queue through which SQS looks for a group that may go on
STANDS_S: Final = 300.0  # longer than a retry, a replacement or a move lasts: those are over by themselves
RECEIVES: Final = 5  # fewer say little: the head of a long backlog is old as well
FORGOTTEN_S: Final = 1800.0  # twice as long as a head stays unseen at most; another router may have settled it since
MAX_REMEMBERED: Final = 10_000  # groups; the one that came back least lately is forgotten first


class Standing:
    """The groups whose heads came back to one router. How old each is and how often it came, its message says."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, _Head] = OrderedDict()

    def came_back(self, group: str, *, age_s: float, receives: int, now: float) -> None:
        """Note that the message at the head of the group was let go; `now` is in monotonic seconds."""
        self._heads.pop(group, None)
        self._heads[group] = _Head(now, stands=age_s >= STANDS_S and receives >= RECEIVES)
        if len(self._heads) > MAX_REMEMBERED:
            self._heads.popitem(last=False)

    def went_on(self, group: str) -> None:
        """Note that an event of the group was settled."""
        if self._heads:
            self._heads.pop(group, None)

    def slots(self, now: float) -> frozenset[int]:
        """Return the slots of the groups that stand still, as far as this router knows."""
        heads = self._heads.items()
        return frozenset(slot_of(group) for group, head in heads if head.stands and head.seen_at >= now - FORGOTTEN_S)

    def slots_back(self, now: float, within_s: float) -> frozenset[int]:
        """Return the slots of the groups whose head came back within so many seconds, for whatever reason."""
        return frozenset(slot_of(group) for group, head in self._heads.items() if head.seen_at >= now - within_s)


@dataclass(frozen=True, slots=True)
class _Head:
    """The message at the head of a group, as it came back last."""

    seen_at: float
    stands: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits, and what stands still, as one router sees it."""

    in_source: int  # messages
    aside: int  # messages in the aside queue
    standing: frozenset[int]  # slots of groups that stand still in the source
    standing_aside: frozenset[int]  # slots of groups whose heads came back to the aside queue lately


def slots_to_add(seen: Waiting, coming_back: frozenset[int], look_ahead: int = LOOK_AHEAD) -> frozenset[int]:
    """Return the slots that have to go aside: in danger those that stand still, and all that come back too soon."""
    in_danger = seen.in_source >= look_ahead // 3
    too_soon = not coming_back.isdisjoint(seen.standing_aside)
    return (seen.standing if in_danger else frozenset()) | (coming_back if too_soon else frozenset())


def may_come_back(seen: Waiting, look_ahead: int = LOOK_AHEAD) -> bool:
    """Whether nothing needs the aside queue any longer: what is there is nearly done, and none of it stands still."""
    calm = seen.in_source < look_ahead // 6 and seen.aside < look_ahead // 100
    return calm and not seen.standing_aside
