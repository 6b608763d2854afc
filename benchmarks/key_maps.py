"""Ways from a partition key to who serves it, for comparison: the router's slot map, two hash rings and Maglev.

Rings and Maglev hash the nodes that they send to: their node's name is its address. Only the slot map names cells.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import count, cycle, islice
from typing import ClassVar, Final, Protocol, Self

from uhashring import HashRing
from xxhash import xxh3_64_intdigest

from router.core.slot_map.slots import SlotMap, assign

POINTS: Final = 160
"""Of a node on the ring."""
TABLE: Final = 65537
"""Maglev's entries, as in its paper; a prime, so that every skip reaches all of them."""


class KeyMap(Protocol):
    """Who serves a key."""

    names_addresses: ClassVar[bool]  # an instance at a new address is another node

    def __init__(self, nodes: Sequence[str]) -> None: ...

    def cell_of(self, key: str, /) -> str:
        """The node that serves it."""

    def changed(self, nodes: Sequence[str]) -> Self:
        """The map after the nodes have changed to these."""


class Slots:
    """The router's."""

    names_addresses: ClassVar = False

    def __init__(self, nodes: Sequence[str], before: Sequence[str] | None = None) -> None:
        self.slot_map = SlotMap(1, assign(before, dict.fromkeys(nodes, 1.0)))
        self.cell_of = self.slot_map.cell_of

    def changed(self, nodes: Sequence[str]) -> Slots:
        return Slots(nodes, self.slot_map.owners)


class Uhashring:
    """The package of that name as it comes: 160 points a node, MD5."""

    names_addresses: ClassVar = True

    def __init__(self, nodes: Sequence[str]) -> None:
        self.cell_of = HashRing(nodes=list(nodes)).get_node

    def changed(self, nodes: Sequence[str]) -> Uhashring:
        return Uhashring(nodes)


class Ring:
    """160 points a node as ketama has, but by xxh3_64; a key belongs to the next point."""

    names_addresses: ClassVar = True

    def __init__(self, nodes: Sequence[str]) -> None:
        points = sorted((xxh3_64_intdigest(f"{node}-{i}".encode()), node) for node in nodes for i in range(POINTS))
        self._points = [point for point, _ in points]
        self._nodes = [node for _, node in points]
        self._nodes.append(self._nodes[0])

    def cell_of(self, key: str, /) -> str:
        return self._nodes[bisect(self._points, xxh3_64_intdigest(key.encode()))]

    def changed(self, nodes: Sequence[str]) -> Ring:
        return Ring(nodes)


class Maglev:
    """Eisenbud et al., NSDI 2016, section 3.4: nodes take turns to claim the next free entry of their permutation."""

    names_addresses: ClassVar = True

    def __init__(self, nodes: Sequence[str]) -> None:
        self._entries = [""] * TABLE
        turns = cycle([(node, _permutation(node)) for node in sorted(nodes)])
        for node, permutation in islice(turns, TABLE):
            self._entries[next(entry for entry in permutation if not self._entries[entry])] = node

    def cell_of(self, key: str, /) -> str:
        return self._entries[xxh3_64_intdigest(key.encode()) % TABLE]

    def changed(self, nodes: Sequence[str]) -> Maglev:
        return Maglev(nodes)


def _permutation(node: str) -> Iterator[int]:
    name = node.encode()
    offset, skip = xxh3_64_intdigest(name, 0) % TABLE, xxh3_64_intdigest(name, 1) % (TABLE - 1) + 1
    return (position % TABLE for position in count(offset, skip))
