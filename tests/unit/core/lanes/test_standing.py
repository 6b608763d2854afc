"""Which groups count as standing still, and what that means for their slots."""

from __future__ import annotations

import pytest

from router.core.lanes.standing import (
    FORGOTTEN_S,
    LOOK_AHEAD,
    MAX_REMEMBERED,
    RECEIVES,
    STANDS_S,
    Standing,
    Waiting,
    may_come_back,
    slots_to_add,
)
from router.core.slot_map.slots import slot_of

NONE: frozenset[int] = frozenset()
ONE, OTHER = frozenset({1}), frozenset({2})


@pytest.mark.parametrize(
    ("age_s", "receives", "stands"),
    [(STANDS_S, RECEIVES, True), (STANDS_S - 1, RECEIVES, False), (10 * STANDS_S, RECEIVES - 1, False)],
)
def test_a_head_stands_that_is_old_and_came_often(age_s: float, receives: int, stands: bool) -> None:
    """The head of a long backlog is old too, and a retry comes often too. It came back in either case."""
    standing = Standing()
    standing.came_back("a", age_s=age_s, receives=receives, now=100.0)
    assert standing.slots(100.0) == (frozenset({slot_of("a")}) if stands else NONE)
    assert standing.slots_back(130.0, 30.0) == {slot_of("a")}
    assert standing.slots_back(131.0, 30.0) == NONE


def test_a_group_stands_no_more_once_it_goes_on_or_is_not_seen_for_long() -> None:
    """Another router may have settled what this one no longer sees."""
    standing = Standing()
    for group in ("a", "b"):
        standing.came_back(group, age_s=STANDS_S, receives=RECEIVES, now=0.0)
    standing.went_on("a")
    assert standing.slots(FORGOTTEN_S) == {slot_of("b")}
    assert standing.slots(FORGOTTEN_S + 1) == NONE


def test_only_so_many_groups_are_remembered() -> None:
    """The one that came back least lately is forgotten."""
    standing = Standing()
    for number in range(MAX_REMEMBERED):
        standing.came_back(f"g{number}", age_s=STANDS_S, receives=RECEIVES, now=0.0)
    standing.came_back("g0", age_s=STANDS_S, receives=RECEIVES, now=1.0)
    standing.came_back("new", age_s=STANDS_S, receives=RECEIVES, now=1.0)
    assert standing.slots_back(1.0, 0.5) == {slot_of("g0"), slot_of("new")}
    assert len(standing._heads) == MAX_REMEMBERED
    assert "g1" not in standing._heads


@pytest.mark.parametrize(
    ("in_source", "coming_back", "back", "added"),
    [
        (LOOK_AHEAD // 3 - 1, NONE, NONE, NONE),
        (LOOK_AHEAD // 3, NONE, NONE, ONE),
        (0, OTHER | {3}, frozenset({3}), OTHER | {3}),
        (0, OTHER, frozenset({3}), NONE),
        (LOOK_AHEAD, OTHER, OTHER, ONE | OTHER),
    ],
)
def test_slots_go_aside_in_danger_or_when_they_stand_again(
    in_source: int, coming_back: frozenset[int], back: frozenset[int], added: frozenset[int]
) -> None:
    """Those that come back do so together, and stay aside together when one of them stands still again."""
    assert slots_to_add(Waiting(in_source, 0, ONE, back), coming_back) == added


@pytest.mark.parametrize(
    ("seen", "may"),
    [
        (Waiting(LOOK_AHEAD // 6 - 1, LOOK_AHEAD // 100 - 1, ONE, NONE), True),
        (Waiting(LOOK_AHEAD // 6, 0, NONE, NONE), False),
        (Waiting(0, LOOK_AHEAD // 100, NONE, NONE), False),
        (Waiting(0, 1, NONE, ONE), False),
    ],
)
def test_slots_come_back_when_all_is_calm(seen: Waiting, may: bool) -> None:
    """Not while the source is half in danger, nor while much, or anything that stands still, is aside."""
    assert may_come_back(seen) is may
