"""Where slots belong by the policy, and the moves on the way there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.models import cell_ids
from router.core.policy import Policy, why_invalid
from router.core.slot_map.placement import (
    MOVE_SLOTS,
    after_move,
    moving_from,
    moving_to,
    next_aside,
    next_move,
    wanted_owners,
    with_pins,
)
from router.core.slot_map.slots import NO_MOVE, SLOTS, Move, SlotMap, assign, moved, slot_of

CELLS = cell_ids(6)
POLICIES = st.builds(
    Policy,
    weights=st.dictionaries(st.sampled_from(CELLS), st.sampled_from([0.25, 0.5, 1.5, 2.0, 3.0]), max_size=3),
    cordoned=st.frozensets(st.sampled_from(CELLS), max_size=4),
    draining=st.frozensets(st.sampled_from(CELLS), max_size=2),
).map(lambda policy: replace(policy, cordoned=policy.cordoned | policy.draining))


def founded(count: int = 6) -> SlotMap:
    """A slot map with even shares."""
    return SlotMap(1, wanted_owners(None, cell_ids(count), Policy()))


@given(st.lists(POLICIES, min_size=1, max_size=4), st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_after_any_changes_shares_are_by_weight_and_cordoned_cells_get_nothing(
    policies: list[Policy], count: int
) -> None:
    """A draining cell owns nothing, a cordoned one no more than before, and the others their share."""
    owners = founded(count).owners
    for policy in policies:
        before, cells = Counter(owners), cell_ids(count)
        if not set(cells) - policy.cordoned:
            continue
        owners = wanted_owners(owners, cells, policy)
        now = Counter(owners)
        assert sum(now.values()) == SLOTS
        assert all(now[cell] == 0 for cell in policy.draining)
        assert all(now[cell] <= before[cell] for cell in policy.cordoned)
        free = {c: policy.weights.get(c, 1.0) for c in cells if c not in policy.cordoned}
        left = SLOTS - sum(now[cell] for cell in policy.cordoned)
        for cell, weight in free.items():
            assert abs(now[cell] - left * weight / sum(free.values())) < 1


@given(st.lists(POLICIES, min_size=2, max_size=2))
@settings(deadline=None, max_examples=30)
def test_moves_lead_to_what_is_wanted_and_touch_nothing_else(policies: list[Policy]) -> None:
    """A move takes a few slots, each slot moves once, and in the end every slot is where it should be."""
    slot_map = founded()
    for policy in policies:
        if not set(CELLS) - policy.cordoned:
            continue
        wanted = wanted_owners(slot_map.owners, CELLS, policy)
        differing, steps = moved(slot_map.owners, wanted), 0
        while (move := next_move(slot_map, wanted, {}, CELLS)) is not NO_MOVE:
            began = replace(slot_map, move=move)
            assert moving_from(began) | moving_to(began) <= set(CELLS)
            assert len(move.slots) <= MOVE_SLOTS
            assert moved(slot_map.owners, after_move(began).owners) == len(move.slots)
            slot_map, steps = after_move(began), steps + 1
        assert slot_map.owners == wanted
        assert steps == -(-differing // MOVE_SLOTS)
        assert wanted_owners(slot_map.owners, CELLS, policy) == wanted


def test_a_cordon_alone_moves_nothing() -> None:
    """This holds also for a cell that has one slot more than others."""
    start = founded()
    for cell in CELLS:
        assert wanted_owners(start.owners, CELLS, Policy().with_cordon(cell)) == start.owners


def test_nothing_moves_to_a_cell_that_is_not_able_to_take_it() -> None:
    """What can move to other cells still moves."""
    slot_map = founded(4)
    wanted = wanted_owners(slot_map.owners, cell_ids(6), Policy())
    move = next_move(slot_map, wanted, {"k": "cell-0005"}, {"cell-0004"})
    assert set(move.slots.values()) == {"cell-0004"}
    assert move.keys == {}
    assert next_move(slot_map, wanted, {}, ()) is NO_MOVE


@given(st.dictionaries(st.text(max_size=5), st.sampled_from(CELLS), max_size=8), st.text(max_size=5))
@settings(deadline=None)
def test_pins_win_over_slots_and_what_is_no_longer_pinned_goes_back(pins: dict[str, str], other: str) -> None:
    """A pin that moves no key holds at once, others by a move; without a pin a key goes where its slot is."""
    start = founded()
    settled = with_pins(start, pins)
    assert all(settled.cell_of(key) == start.cell_of(key) for key in pins)
    pinned = with_pins(after_move(replace(settled, move=next_move(settled, start.owners, pins, CELLS))), pins)
    assert dict(pinned.pins) == pins
    assert all(pinned.cell_of(key) == cell for key, cell in pins.items())
    if other not in pins:
        assert pinned.cell_of(other) == start.owners[slot_of(other)]
    back = with_pins(after_move(replace(pinned, move=next_move(pinned, start.owners, {}, CELLS))), {})
    assert dict(back.pins) == {}
    assert all(back.cell_of(key) == start.cell_of(key) for key in pins)


def test_a_moving_key_is_known_by_its_slot_or_its_name() -> None:
    """A pinned key doesn't move with its slot."""
    start = founded()
    slot, there = slot_of("k"), "cell-0005"
    by_slot = replace(start, move=next_move(start, ((there,) * SLOTS), {}, [there]))
    assert (by_slot.destination_of("k") == there) == (slot in by_slot.move.slots)
    by_name = replace(start, move=next_move(start, start.owners, {"k": there}, [there]))
    assert by_name.destination_of("k") in (there, None)
    assert by_name.destination_of("another") is None
    pinned = replace(by_slot, pins={"k": "cell-0000"})
    assert pinned.destination_of("k") is None
    assert SlotMap.from_wire(pinned.to_wire()) == pinned


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Policy().with_pin("k", "cell-0009"), "'k' is pinned to cell-0009, which is not one of the cells"),
        (Policy().with_pin("k", "cell-0001").with_cordon("cell-0001", drain=True), "which is draining"),
        (Policy().with_cordon("cell-0009"), "cell-0009 is cordoned and is not one of the cells"),
        (Policy().with_weight("cell-0001", 0), "a weight is 0.001 to 100, not 0"),
        (Policy(cordoned=frozenset(CELLS)), "every cell is cordoned"),
        (Policy(cells=1001), "there are 1 to 1000 cells"),
    ],
)
def test_what_makes_no_sense_is_named(policy: Policy, text: str) -> None:
    """The reason says what is wrong with the policy, and what to do."""
    assert text in "\n".join(why_invalid(policy, CELLS))
    assert not list(why_invalid(Policy().with_pin("k", "cell-0001").with_weight("cell-0002", 2), CELLS))


def test_slots_go_aside_few_at_a_time_and_come_back_together() -> None:
    """Those of a cell that can't be fenced stay, whether it owns the slot or only a key that is pinned to it."""
    slot_map = SlotMap(1, assign(None, {"a": 1.0, "b": 1.0}), {"pinned": "b"})
    of_a = [slot for slot in range(SLOTS) if slot_map.owners[slot] == "a" and slot != slot_of("pinned")]
    wanted = frozenset({*of_a[: MOVE_SLOTS + 1], slot_of("pinned"), slot_map.owners.index("b")})
    first = next_aside(slot_map, wanted, lambda cell: cell == "a")
    assert first == Move({}, {}, frozenset(of_a[:MOVE_SLOTS]))
    aside = after_move(replace(slot_map, move=first))
    assert (aside.aside, aside.owners, aside.move) == (first.aside, slot_map.owners, NO_MOVE)
    assert next_aside(aside, wanted, lambda cell: cell == "a").aside == {of_a[MOVE_SLOTS]}
    assert next_aside(aside, wanted, lambda _: False) is NO_MOVE
    assert next_aside(slot_map, frozenset({SLOTS, -1}), lambda _: True) is NO_MOVE  # no policy may end a leader
    back = next_aside(aside, frozenset(of_a[:1]), lambda _: False)
    assert back.aside == first.aside - {of_a[0]}
    assert after_move(replace(aside, move=back)).aside == {of_a[0]}


def test_a_move_aside_takes_from_the_cells_of_its_slots_and_one_back_from_none() -> None:
    """The cells of pinned keys are among them, since their events go aside too."""
    slot = slot_of("pinned")
    slot_map = SlotMap(1, assign(None, {"a": 1.0}), {"pinned": "b"}, Move({}, {}, frozenset({slot})))
    assert moving_from(slot_map) == {"a", "b"}
    assert moving_to(slot_map) == frozenset()
    assert slot_map.stops("pinned")
    back = replace(slot_map, aside=frozenset({slot}))
    assert moving_from(back) == frozenset()
    assert not back.stops("pinned")
