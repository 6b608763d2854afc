"""The slot map beside hash rings and Maglev: a look-up, a build, how even it is, and which keys a change moves.

Keys and changes are the same in every run; a figure of moved keys is the mean over TRIALS changes of its kind. Times
are medians of CPU time, measured in turns. The ring and Maglev are plain Python of this bench; C would be quicker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the same keys in every run
from statistics import fmean, median
from time import process_time
from typing import Any, Final

from benchmarks.key_maps import KeyMap, Maglev, Ring, RouterSlotMap, Uhashring
from benchmarks.world import Options, cell_id

KINDS: Final[Mapping[str, type[KeyMap]]] = {
    "slot map": RouterSlotMap,
    "uhashring": Uhashring,
    "ring of 160": Ring,
    "maglev": Maglev,
}
KEYS: Final = 100_000
CELLS: Final = 100
MANY_CELLS: Final = 1000
TRIALS: Final = 10
SEED: Final = 42
ROWS: Final[Mapping[str, tuple[str, float, int]]] = {  # figure → its title, factor and decimals in the table
    "lookup_ns": ("look-up of a key, ns", 1, 0),
    "build_ms": (f"build for {CELLS} cells, ms", 1, 1),
    "build_ms_1000": (f"build for {MANY_CELLS} cells, ms", 1, 1),
    "max_over_mean": ("keys of the fullest cell / mean", 1, 2),
    "moved_on_add": ("keys moved: a cell added, %", 100, 2),
    "moved_on_remove": ("keys moved: a cell removed, %", 100, 2),
    "moved_on_replace": ("keys moved: an instance replaced, %", 100, 2),
    "collateral": ("moved between cells that stay, %", 100, 2),
}
ADDED: Final = f"{100 / (CELLS + 1):.2f} %"
REMOVED: Final = f"{100 / CELLS:.2f} %"
NOTES: Final = f"""
{KEYS} keys on {CELLS} cells, means of {TRIALS} changes. An even map can't move less than {ADDED} when a cell is added,
{REMOVED} when one is removed, nothing when an instance is replaced. Between cells that stay: the worst of the three
changes. With so many keys a perfect hash too leaves the fullest cell at about 1.08 of the mean.
goals for the slot map: look-up 300 ns or less, build 50 ms or less for {CELLS} cells and 500 ms for {MANY_CELLS}"""


@dataclass(frozen=True, slots=True)
class Change:
    """The nodes after a change; `renamed` maps the old name of a cell that stays to its new one."""

    nodes: Sequence[str]
    renamed: Mapping[str, str]


async def run(options: Options) -> dict[str, Any]:
    """Measure each kind of map, print their figures beside each other, and return them."""
    keys, took = _keys(), await times(list(KINDS), options.runs)
    figures = {title: took[title] | _moves(kind, keys) for title, kind in KINDS.items()}
    print(f"{_table(figures)}\n{NOTES}")
    return figures


async def times(titles: Sequence[str], runs: int) -> dict[str, dict[str, float]]:
    """Measure look-ups and builds of these kinds of map, by title; a figure is a median of 2 rounds a run and one."""
    kinds, keys, rounds = {title: KINDS[title] for title in titles}, _keys(), 2 * runs + 1
    found = {
        "lookup_ns": await _seconds({title: _look_ups(kind, keys) for title, kind in kinds.items()}, rounds),
        "build_ms": await _seconds({title: _build(kind, CELLS) for title, kind in kinds.items()}, rounds),
        "build_ms_1000": await _seconds({title: _build(kind, MANY_CELLS) for title, kind in kinds.items()}, rounds),
    }
    units = {"lookup_ns": 1e9 / len(keys), "build_ms": 1e3, "build_ms_1000": 1e3}
    return {title: {row: unit * found[row][title] for row, unit in units.items()} for title in titles}


def _keys() -> list[str]:
    """Half of the keys are AWS accounts, as in the shipped workload, half are named tenants."""
    accounts = Random(SEED).sample(range(10**11, 10**12), KEYS // 2)
    return [*map(str, accounts), *(f"tenant-{number}" for number in range(KEYS - len(accounts)))]


def _nodes(kind: type[KeyMap], count: int) -> list[str]:
    if not kind.names_addresses:
        return [cell_id(index) for index in range(count)]
    hosts = Random(SEED).sample(range(2**24), count)
    return [f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}:8080" for host in hosts]


def _look_ups(kind: type[KeyMap], keys: Sequence[str]) -> Callable[[], None]:
    cell_of = kind(_nodes(kind, CELLS)).cell_of

    def look_up() -> None:
        for key in keys:
            cell_of(key)

    return look_up


def _build(kind: type[KeyMap], count: int) -> Callable[[], object]:
    nodes = _nodes(kind, count)
    return lambda: kind(nodes)


async def _seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median CPU seconds of each call. The calls take turns, so that a machine that gets slower does so for all."""
    found: dict[str, list[float]] = {title: [] for title in calls}
    for _ in range(rounds):
        for title, call in calls.items():
            await asyncio.sleep(0)  # noqa: TID251 - lets an interrupt in
            begun = process_time()
            call()
            found[title].append(process_time() - begun)
    return {title: median(seconds) for title, seconds in found.items()}


def _moves(kind: type[KeyMap], keys: Sequence[str]) -> dict[str, float]:
    names = _nodes(kind, CELLS + TRIALS)
    nodes, new = names[:CELLS], names[CELLS:]
    key_map = kind(nodes)
    before = dict(zip(keys, map(key_map.cell_of, keys), strict=True))
    effects = {
        name: [_effect(key_map.changed(change.nodes), change, nodes, before) for change in changes]
        for name, changes in _changes(nodes, new, renaming=kind.names_addresses).items()
    }
    moved = {name: fmean(moved for moved, _ in found) / len(keys) for name, found in effects.items()}
    collateral = max(fmean(astray for _, astray in found) for found in effects.values()) / len(keys)
    fullest = max(Counter(before.values()).values()) * len(nodes) / len(keys)
    return {"max_over_mean": fullest, **moved, "collateral": collateral}


def _changes(nodes: Sequence[str], new: Sequence[str], *, renaming: bool) -> dict[str, list[Change]]:
    """Several changes of each kind, one for each new name, by the figure that they are for."""
    old = Random(SEED).sample(nodes, len(new))
    renames = [{gone: here} if renaming else {} for gone, here in zip(old, new, strict=True)]
    return {
        "moved_on_add": [Change([*nodes, name], {}) for name in new],
        "moved_on_remove": [Change([node for node in nodes if node != gone], {}) for gone in old],
        "moved_on_replace": [Change([renamed.get(node, node) for node in nodes], renamed) for renamed in renames],
    }


def _effect(after: KeyMap, change: Change, nodes: Sequence[str], before: Mapping[str, str]) -> tuple[int, int]:
    """How many keys change their cell, and how many of these move between two cells that both stay."""
    stay = set(nodes).intersection(change.nodes)
    moves = [(old, new) for key, old in before.items() if (new := after.cell_of(key)) != change.renamed.get(old, old)]
    return len(moves), sum(old in stay and new in stay for old, new in moves)


def _table(figures: Mapping[str, Mapping[str, float]]) -> str:
    width = max(len(about) for about, _, _ in ROWS.values())
    lines = [" " * width + "".join(f"{title:>14}" for title in figures)]
    for row, (about, factor, decimals) in ROWS.items():
        cells = (f"{found[row] * factor:>14,.{decimals}f}" for found in figures.values())
        lines.append(f"{about:{width}}" + "".join(cells))
    return "\n".join(lines)
