"""Ways to map a partition key to the node that serves it: the router's slot map, two hash rings and Maglev.

Rings and Maglev hash the nodes that they send to, so a node's name is its address. Only the slot map names cells.
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
"""How many points each node has on the ring."""
TABLE: Final = 65537
"""The size of Maglev's table, as in its paper: a prime, so that every skip reaches all entries."""


class KeyMap(Protocol):
    """Maps each key to the node that serves it."""

    names_addresses: ClassVar[bool]  # if so, an instance at a new address is another node

    def __init__(self, nodes: Sequence[str]) -> None: ...

    def cell_of(self, key: str, /) -> str:
        """Return the node that serves the key."""

    def changed(self, nodes: Sequence[str]) -> Self:
        """Return the map after the nodes have changed to these."""


class RouterSlotMap:
    """The router's slot map: keys hash to slots, and each slot has a cell."""

    names_addresses: ClassVar = False

    def __init__(self, nodes: Sequence[str], before: Sequence[str] | None = None) -> None:
        self.slot_map = SlotMap(1, assign(before, dict.fromkeys(nodes, 1.0)))
        self.cell_of = self.slot_map.cell_of

    def changed(self, nodes: Sequence[str]) -> RouterSlotMap:
        return RouterSlotMap(nodes, self.slot_map.owners)


class Uhashring:
    """The hash ring of the package uhashring as it comes: 160 points a node, by MD5."""

    names_addresses: ClassVar = True

    def __init__(self, nodes: Sequence[str]) -> None:
        self.cell_of = HashRing(nodes=list(nodes)).get_node

    def changed(self, nodes: Sequence[str]) -> Uhashring:
        return Uhashring(nodes)


class Ring:
    """A hash ring with 160 points a node, as ketama has, but by xxh3_64; a key belongs to the next point."""

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
    """Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): nodes claim in turn the next free entry they prefer."""

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
