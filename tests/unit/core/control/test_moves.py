"""What is decided of epochs and versions when a slot map is published or a change of the number of cells ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.control.moves import after_scaling, in_next_epoch
from router.core.policy import Policy
from router.core.slot_map.slots import SlotMap, assign

OWNERS = assign(None, {"cell-0000": 1.0})
epochs = st.integers(0, 2**40)


@given(epochs, epochs, epochs)
def test_a_published_map_is_above_the_one_before_and_not_below_its_leader(
    proposed: int, current: int, leader: int
) -> None:
    """Its own epoch doesn't count, and without a map before it the leader's is enough."""
    published = in_next_epoch(SlotMap(proposed, OWNERS), SlotMap(current, OWNERS), leader)
    assert published == SlotMap(max(leader, current + 1), OWNERS)
    assert in_next_epoch(SlotMap(proposed, OWNERS), None, leader).epoch == leader


def test_when_scaling_ends_the_policy_says_how_many_cells_there_are() -> None:
    """It is a version of its own, and nothing is being added any more."""
    scaling = Policy(version=4, frozen=frozenset({"cell-0000"})).with_cells(5, now=3)
    assert scaling.scaling_from == 3
    assert after_scaling(scaling, 3) == Policy(version=5, frozen=frozenset({"cell-0000"}), cells=3)
