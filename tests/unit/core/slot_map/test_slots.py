"""The slot map is even and stable, and moves as little as possible."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from random import Random  # noqa: TID251 - seeded
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.slot_map.slots import NO_MOVE, SLOTS, Move, SlotMap, assign, moved, slot_of

Weights = dict[str, Fraction]
Owners = tuple[str, ...]
Change = tuple[str, int, Fraction]  # what, which cell, its weight

WEIGHTS = st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(2), Fraction(0.1), Fraction(1, 3), Fraction(97, 10)])
SIZES = st.integers(1, 40) | st.integers(1, 1000) | st.sampled_from([2, 3, 128, 999, 1000])
KINDS = st.sampled_from(["add", "remove", "weigh", "replace"])
CHANGES = st.lists(st.tuples(KINDS, st.integers(0, 10**6), WEIGHTS), min_size=1, max_size=6)
UNWEIGHTED = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 10**6), st.just(Fraction(1))), min_size=1, max_size=8
)
SEEDS = st.integers(0, 2**32)
NUMBERED = tuple(map(str, range(SLOTS)))  # each slot is a cell
NAMES = st.text("abc-é0", min_size=1, max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def cell(number: int) -> str:
    """The id of a cell by its number."""
    return f"cell-{number:04d}"


def even(count: int) -> Weights:
    """So many cells of the same weight."""
    return {cell(number): Fraction(1) for number in range(count)}


def changed(weights: Mapping[str, Fraction], change: Change, new: str) -> Weights:
    """The cells after one change. A replacement is of an instance: it shows in the registry, not here."""
    kind, pick, weight = change
    cells, at = dict(weights), list(weights)[pick % len(weights)]
    if kind == "add":
        return cells | {new: weight}
    if kind == "weigh":
        return cells | {at: weight}
    if kind == "remove" and len(cells) > 1:
        del cells[at]
    return cells


def history(weights: Weights, changes: Sequence[Change]) -> Iterator[tuple[Weights, Owners, Weights, Owners]]:
    """Cells and owners before and after each change."""
    owners = assign(None, weights)
    for number, change in enumerate(changes):
        later = changed(weights, change, f"new-{number}")
        assigned = assign(owners, later)
        yield weights, owners, later, assigned
        weights, owners = later, assigned


def exact_shares(weights: Mapping[str, Fraction]) -> Weights:
    """The exact share of each cell, as if slots were divisible."""
    total = sum(weights.values())
    return {name: SLOTS * weight / total for name, weight in weights.items()}


def assert_even(owners: Owners, weights: Mapping[str, Fraction]) -> None:
    """Every cell has the floor or the ceiling of its exact share, and nobody else has a slot."""
    counts = Counter(owners)
    assert counts.keys() <= weights.keys()
    for name, share in exact_shares(weights).items():
        assert math.floor(share) <= counts[name] <= math.ceil(share), name


def least_moved(before: Owners, weights: Mapping[str, Fraction]) -> int:
    """Slots that no even map leaves where they are.

    A cell keeps what it has up to the floor of its share. One more stays with cells that have more and whose share is
    no whole number, as long as there are slots over.
    """
    held, shares = Counter(before), exact_shares(weights)
    kept = sum(min(held[name], math.floor(share)) for name, share in shares.items())
    over = SLOTS - sum(map(math.floor, shares.values()))
    wanting = sum(held[name] > math.floor(share) and share.denominator > 1 for name, share in shares.items())
    return SLOTS - kept - min(over, wanting)


def moves(before: Owners, after: Owners) -> list[tuple[str, str]]:
    """The old and new owner of each slot that moves."""
    return [(a, b) for a, b in zip(before, after, strict=True) if a != b]


def test_a_key_always_has_the_same_slot() -> None:
    """The hash is part of the contract: routers of different versions must agree."""
    assert [slot_of(key) for key in ("", "123456789012", "tenant-é", "orders")] == [5314, 3311, 7811, 13563]


@given(st.text("a1é/-", max_size=20), st.sampled_from(["", "pinned"]))
def test_a_key_belongs_to_the_owner_of_its_slot_unless_it_is_pinned(key: str, pin: str) -> None:
    """The pins of other keys make no difference."""
    assert 0 <= slot_of(key) < SLOTS
    pins = {key + "?": "elsewhere"} | ({key: pin} if pin else {})
    assert SlotMap(1, NUMBERED, pins).cell_of(key) == (pin or str(slot_of(key)))


@given(SIZES)
@settings(max_examples=30, deadline=None)
def test_equal_cells_differ_by_one_slot_at_most(count: int) -> None:
    """This holds for up to a thousand cells."""
    counts = Counter(assign(None, even(count)))
    assert len(counts) == count
    assert max(counts.values()) - min(counts.values()) <= 1


@given(SIZES, UNWEIGHTED)
@settings(max_examples=60, deadline=None)
def test_adding_and_removing_moves_nothing_between_cells_that_stay(count: int, changes: list[Change]) -> None:
    """A cell that is added takes just its share from the others; one that leaves gives just its own away."""
    for before, owners, after, assigned in history(even(count), changes):
        assert_even(assigned, after)
        came, left = after.keys() - before.keys(), before.keys() - after.keys()
        assert all(a in left or b in came for a, b in moves(owners, assigned))
        counts = Counter(assigned)
        must = sum(counts[name] for name in came) + sum(owner in left for owner in owners)
        assert moved(owners, assigned) == len(moves(owners, assigned)) == must


@given(SIZES, st.lists(WEIGHTS, min_size=1, max_size=5), CHANGES)
@settings(max_examples=100, deadline=None)
def test_every_change_of_weighted_cells_keeps_shares_and_moves_the_least(
    count: int, weights: list[Fraction], changes: list[Change]
) -> None:
    """Exactly the slots that must move do, and no cell gives with one hand and takes with the other."""
    start = {name: weights[number % len(weights)] for number, name in enumerate(even(count))}
    for before, owners, after, assigned in history(start, changes):
        assert_even(assigned, after)
        assert moved(owners, assigned) == least_moved(owners, after)
        found = moves(owners, assigned)
        assert found == [] or after != before
        assert not {a for a, _ in found} & {b for _, b in found}


def test_a_cell_whose_share_is_a_whole_number_has_exactly_that() -> None:
    """This holds though it had more before, and others' shares leave slots over."""
    weights = {"a": Fraction(1), "b": Fraction(1, 3), "c": Fraction(2, 3)}
    owners = assign(assign(None, weights | {"a": Fraction(2)}), weights)
    assert Counter(owners) == {"a": 8192, "b": 2731, "c": 5461}


@given(SIZES, st.lists(WEIGHTS, min_size=1, max_size=5), CHANGES, SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_replacement_moves_no_slot(count: int, weights: list[Fraction], changes: list[Change], seed: int) -> None:
    """The cells are the same ones, whatever happened to them before and in which order the registry lists them."""
    start = {name: weights[number % len(weights)] for number, name in enumerate(even(count))}
    *_, (_, _, cells, owners) = history(start, changes)
    listed = list(cells.items())
    Random(seed).shuffle(listed)
    assert assign(owners, dict(listed)) == owners


@given(SIZES, CHANGES, SEEDS)
@settings(max_examples=25, deadline=None)
def test_what_is_assigned_depends_on_nothing_but_owners_and_weights(
    count: int, changes: list[Change], seed: int
) -> None:
    """The order of the cells makes no difference, so that every controller plans the same map."""
    for _, owners, after, assigned in history(even(count), changes):
        listed = list(after.items())
        Random(seed).shuffle(listed)
        assert assign(owners, dict(listed)) == assigned


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None)
def test_a_weight_is_exactly_the_number_that_was_given(weights: list[float]) -> None:
    """A float is not rounded on its way to a share."""
    floats = {cell(number): weight for number, weight in enumerate(weights)}
    assert_even(assign(None, floats), {name: Fraction(weight) for name, weight in floats.items()})


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 20), min_size=1, max_size=12))
@settings(deadline=None)
def test_a_weight_of_nothing_owns_nothing(weights: dict[str, int]) -> None:
    """A cell of weight 0 owns no slot, and weights that are all 0 are refused."""
    if not any(weights.values()):
        with pytest.raises(ValueError, match="positive weight"):
            assign(None, weights)
        return
    assert_even(assign(None, weights), {name: Fraction(weight) for name, weight in weights.items()})


SLOT_MAPS = st.builds(
    lambda epoch, names, seed, pins, move, aside: SlotMap(
        epoch, tuple(Random(seed).choices(names, k=SLOTS)), pins, Move(*move) if any(move) else NO_MOVE, aside
    ),
    st.integers(0, 2**63),
    st.lists(NAMES, min_size=1, max_size=20),
    SEEDS,
    st.dictionaries(NAMES, NAMES, max_size=4),
    st.tuples(
        st.dictionaries(st.integers(0, SLOTS - 1), NAMES, max_size=4),
        st.dictionaries(NAMES, NAMES, max_size=4),
        st.frozensets(st.integers(0, SLOTS - 1), max_size=4),
    ),
    st.frozensets(st.integers(0, SLOTS - 1), max_size=4),
)


@given(SLOT_MAPS)
@settings(max_examples=40, deadline=None)
def test_a_slot_map_survives_the_wire(slot_map: SlotMap) -> None:
    """A slot map survives JSON with its pins and its move."""
    assert SlotMap.from_wire(json.loads(json.dumps(slot_map.to_wire()))) == slot_map


def test_a_map_of_as_many_cells_as_slots_survives_the_wire() -> None:
    """With as many cells as slots, every slot has a cell of its own."""
    assert SlotMap.from_wire(SlotMap(7, NUMBERED).to_wire()) == SlotMap(7, NUMBERED)


@given(JSON)
def test_what_is_no_slot_map_is_refused(wire: Any) -> None:
    """Any JSON that is no slot map raises a ValueError."""
    with pytest.raises(ValueError, match="not a slot map"):
        SlotMap.from_wire(wire)


WIRE = SlotMap(7, assign(None, {"cell-0000": 1, "cell-0001": 2.5})).to_wire()


@given(st.sampled_from(sorted(WIRE)), JSON)
@settings(deadline=None)
def test_a_damaged_slot_map_is_refused_or_read_but_nothing_else(member: str, anything: Any) -> None:
    """With any JSON in place of a member there is a ValueError, or a whole map that can be written again."""
    try:
        read = SlotMap.from_wire(WIRE | {member: anything})
    except ValueError:
        return
    assert SlotMap.from_wire(read.to_wire()) == read


@pytest.mark.parametrize("member", ["epoch", "cells", "owners"])
def test_a_slot_map_without_one_of_its_parts_is_refused(member: str) -> None:
    """Only the pins, the move and what is aside may be missing."""
    with pytest.raises(ValueError, match="not a slot map"):
        SlotMap.from_wire({key: value for key, value in WIRE.items() if key != member})


@pytest.mark.parametrize(
    "damage",
    [
        {"epoch": "x"},
        {"epoch": None},
        {"cells": None},
        {"cells": []},
        {"cells": ["cell-0000"]},  # the table names two
        {"owners": None},
        {"owners": ""},
        {"owners": "AA=="},
        {"owners": str(WIRE["owners"])[:-4]},
        {"owners": str(WIRE["owners"]) + "AAAA"},
        {"owners": "*" + str(WIRE["owners"])[1:]},
        {"owners": "//8A" + str(WIRE["owners"])[4:]},  # slot 0 is the 65535th cell's
        {"pins": ["a"]},
        {"pins": "a"},
        {"move": "all"},
        {"move": {}},
        {"move": {"slots": {"1": "a"}}},
        {"move": {"slots": {"-1": "a"}, "keys": {}}},
        {"move": {"slots": {str(SLOTS): "a"}, "keys": {}}},
        {"move": {"slots": {"x": "a"}, "keys": {}}},
        {"move": {"slots": [], "keys": {}}},
        {"move": {"slots": {}, "keys": ["a"]}},
        {"move": {"slots": {}, "keys": {}, "aside": [SLOTS]}},
        {"aside": [-1]},
        {"aside": 7},
    ],
    ids=lambda damage: str(damage)[:40],
)
def test_a_damaged_slot_map_is_refused(damage: dict[str, object]) -> None:
    """A fault in any of its parts is found."""
    with pytest.raises(ValueError, match="not a slot map"):
        SlotMap.from_wire(WIRE | damage)
