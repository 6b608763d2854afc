"""The slot map: even, stable, minimal in what it moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.slots import SLOTS, SlotMap, assign, moved, slot_of

names = st.integers(1, 1000).map(lambda n: [f"cell-{i:04d}" for i in range(n)])


def even(cells: list[str]) -> dict[str, float]:
    """The same weight for all."""
    return dict.fromkeys(cells, 1.0)


def test_a_key_always_has_the_same_slot() -> None:
    """The hash is part of the contract: routers of different versions must agree."""
    assert [slot_of(key) for key in ("", "123456789012", "tenant-é")] == [5314, 3311, 7811]
    assert 0 <= slot_of("anything") < SLOTS


@given(names)
@settings(max_examples=30, deadline=None)
def test_shares_are_even_to_one_slot(cells: list[str]) -> None:
    """No cell has more than one slot more than another."""
    counts = SlotMap(1, assign(None, even(cells))).counts()
    shares = [counts[cell] for cell in cells]
    assert max(shares) - min(shares) <= 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**6)), min_size=1, max_size=12), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_every_change_moves_the_minimum(changes: list[tuple[bool, int]], start: int) -> None:
    """A cell that is added takes its share from the others; one that leaves gives its own away; nothing else moves."""
    cells = [f"cell-{i:04d}" for i in range(start)]
    owners, next_id = assign(None, even(cells)), start
    for add, pick in changes:
        before = list(cells)
        if add or len(cells) == 1:
            cells.append(f"cell-{next_id:04d}")
            next_id += 1
        else:
            cells.pop(pick % len(cells))
        after = assign(owners, even(cells))
        stayed = set(before) & set(cells)
        assert not [1 for a, b in zip(owners, after, strict=True) if a != b and a in stayed and b in stayed]
        counts = SlotMap(1, after).counts()
        arrived, left = set(cells) - set(before), set(before) - set(cells)
        must = sum(counts[cell] for cell in arrived) + SlotMap(1, owners).counts()[next(iter(left), "")]
        assert moved(owners, after) == must
        owners = after


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 20), min_size=1, max_size=12))
@settings(deadline=None)
def test_weights_are_respected(weights: dict[str, int]) -> None:
    """Each share is the floor or the ceiling of the exact one; weight 0 owns nothing."""
    total = sum(weights.values())
    if not total:
        with pytest.raises(ValueError, match="positive weight"):
            assign(None, weights)
        return
    counts = SlotMap(1, assign(None, weights)).counts()
    for cell, weight in weights.items():
        assert SLOTS * weight // total <= counts[cell] <= -(-SLOTS * weight // total)


def test_a_slot_map_survives_the_wire() -> None:
    """to_wire and from_wire are inverse, and garbage is refused."""
    slot_map = SlotMap(7, assign(None, {"cell-0000": 1, "cell-0001": 2.5}))
    assert SlotMap.from_wire(slot_map.to_wire()) == slot_map
    for broken in ({}, {"epoch": 1, "cells": [], "owners": ""}, {"epoch": "x", "cells": ["a"], "owners": "AA=="}):
        with pytest.raises(ValueError, match="not a slot map"):
            SlotMap.from_wire(broken)
