"""A slot that fills its cell goes to the emptiest one; a key that fills a cell alone is named, and stays."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.models import cell_ids
from router.core.policy import Policy
from router.core.scaling.hot import CellUse, KeyUse, SlotUse, UsePeriods, slot_to_move, too_large
from router.core.scaling.seen import CellShares
from router.core.slot_map.placement import wanted_owners
from router.core.slot_map.slots import assign, moved

TARGET = 0.6
loads = st.lists(st.lists(st.floats(0.01, 0.7), max_size=6), min_size=2, max_size=6)


def use_of(first: int, slots: list[tuple[int, float]]) -> CellUse:
    """A cell that is used by these slots alone."""
    found = sorted((SlotUse(slot, used, f"key-{slot}", used) for slot, used in slots), key=lambda each: -each.used)
    return CellUse(sum(used for _, used in slots), tuple(found))


@given(loads)
def test_moving_hot_slots_comes_to_an_end_and_makes_no_cell_hot(found: list[list[float]]) -> None:
    """Each move leaves the fuller of its two cells less full than the first was, so no slot goes round in circles."""
    cells = {f"cell-{i}": [(10 * i + j, used) for j, used in enumerate(slots)] for i, slots in enumerate(found)}
    for _ in range(40):
        uses = {cell_id: use_of(0, slots) for cell_id, slots in cells.items()}
        move = slot_to_move(uses, TARGET, cells)
        if move is None:
            return
        origin = next(cell_id for cell_id, slots in cells.items() if move.slot in dict(slots))
        before = uses[origin].used
        assert before == max(use.used for use in uses.values()) > TARGET
        cells[move.cell_id].append((move.slot, dict(cells[origin])[move.slot]))
        cells[origin] = [each for each in cells[origin] if each[0] != move.slot]
        after = [sum(used for _, used in cells[cell_id]) for cell_id in (origin, move.cell_id)]
        assert max(after) < before
        assert after[1] <= TARGET + 1e-9
    raise AssertionError("it goes on and on")


def test_the_largest_slot_that_fits_goes_to_the_emptiest_cell() -> None:
    """Not one that makes that cell as hot, and not a key that a person has pinned."""
    cells = {
        "cell-0": use_of(0, [(1, 0.5), (2, 0.3), (3, 0.1)]),
        "cell-1": use_of(0, [(4, 0.2)]),
        "cell-2": use_of(0, [(5, 0.4)]),
    }
    move = slot_to_move(cells, TARGET, cells)
    assert move is not None
    assert (move.slot, move.cell_id) == (2, "cell-1")
    assert "cell-0 is 90% in use, 30% by slot 2 (key 'key-2'); cell-1 is 20% in use" in move.why
    pinned = slot_to_move(cells, TARGET, cells, {"key-2"})
    assert pinned is not None
    assert pinned.slot == 3
    assert slot_to_move(cells, TARGET, {"cell-0"}) is None
    assert slot_to_move(cells, 0.95, cells) is None


def test_a_key_that_is_larger_than_a_cell_is_named_and_stays() -> None:
    """It would fill any other cell as well."""
    cells = {"cell-0": use_of(0, [(1, 0.9)]), "cell-1": use_of(0, [])}
    assert slot_to_move(cells, TARGET, cells) is None
    assert "key 'key-1' alone takes 90% of cell-0" in (too_large(cells, TARGET) or "")
    assert too_large({"cell-0": use_of(0, [(1, 0.5), (2, 0.4)])}, TARGET) is None


def test_what_a_slot_takes_is_its_part_of_the_work_of_a_whole_period() -> None:
    """Two keys of one slot took half of the seconds of a cell that was 80 % in use."""
    periods = UsePeriods()
    for now in range(61):
        keys = [KeyUse("c", "a", 7, 0.3), KeyUse("c", "b", 7, 0.2), KeyUse("c", "other", 9, 0.01)]
        periods.note({"c": CellShares(0.8, 0.1, 0.0), "idle": CellShares(0, 0, 0)}, {"c": 1.0}, keys, float(now))
        periods.close(float(now), 60.0)
        assert bool(periods.last) == (now == 60)
    (slot,) = periods.last["c"].slots
    assert (slot.slot, slot.key) == (7, "a")
    assert abs(slot.used - 0.4) < 1e-9
    assert abs(slot.key_used - 0.24) < 1e-9
    assert periods.last["idle"] == CellUse(0.0, ())
    periods.forget()
    assert periods.last == {}


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.integers(0, 16383), st.integers(0, 3), max_size=8))
def test_a_moved_slot_stays_where_it_is_and_the_shares_stay_even(homes: dict[int, int]) -> None:
    """Another slot takes its place, and then nothing moves any more; without its cell it goes where others go."""
    cells = cell_ids(4)
    policy = Policy(homes={slot: cells[number] for slot, number in homes.items()})
    owners = assign(None, dict.fromkeys(cells, 1.0))
    for _ in range(3):
        before, owners = owners, wanted_owners(owners, cells, policy)
        assert moved(before, owners) <= len(homes)
    assert wanted_owners(owners, cells, policy) == owners
    assert all(owners[slot] == cells[number] for slot, number in homes.items())
    assert max(owners.count(cell) for cell in cells) - min(owners.count(cell) for cell in cells) <= 1 + len(homes)
    assert set(wanted_owners(owners, cells[:2], policy)) == set(cells[:2])
