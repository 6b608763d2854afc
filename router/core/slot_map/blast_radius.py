"""Blast radius: the share of keys, events and tenants that a cell, a zone or a region takes with it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.core.models import Traffic
from router.core.slot_map.slots import SLOTS, SlotMap


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """What one cell, zone or region takes with it when it fails, as shares from 0 to 1."""

    name: str
    keys: float  # its share of the slots
    events: float  # its share of what the routers have sent since they started
    tenants: float  # its share of the different keys among those events

    @property
    def largest(self) -> float:
        """The largest of the three shares."""
        return max(self.keys, self.events, self.tenants)


def blast_radii(
    slots: Mapping[str, int], traffic: Mapping[str, Traffic], places: Mapping[str, str]
) -> list[BlastRadius]:
    """Return the blast radius of each cell, zone or region, the largest first.

    `slots` is the number of slots by cell. `places` says for each cell what it belongs to: itself, its zone or its
    region; an empty name stands for not known.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for cell_id in sorted({*slots, *traffic}):
        names[places.get(cell_id) or "(not known)"].append(cell_id)
    events = sum(seen.events for seen in traffic.values()) or 1
    tenants = sum(seen.tenants for seen in traffic.values()) or 1
    none = Traffic(0, 0)
    found = [
        BlastRadius(
            name,
            sum(slots.get(cell_id, 0) for cell_id in cells) / SLOTS,
            sum(traffic.get(cell_id, none).events for cell_id in cells) / events,
            sum(traffic.get(cell_id, none).tenants for cell_id in cells) / tenants,
        )
        for name, cells in names.items()
    ]
    return sorted(found, key=lambda radius: (-radius.largest, radius.name))


def combined_traffic(seen: Iterable[Mapping[str, Traffic]]) -> dict[str, Traffic]:
    """Combine by cell what several routers have seen.

    Events add up. Tenants don't, since routers see the same ones: the largest number counts.
    """
    all_seen: dict[str, Traffic] = {}
    for one in seen:
        for cell_id, traffic in one.items():
            before = all_seen.get(cell_id, Traffic(0, 0))
            all_seen[cell_id] = Traffic(before.events + traffic.events, max(before.tenants, traffic.tenants))
    return all_seen


def moved_traffic(slot_map: SlotMap, owners: tuple[str, ...], traffic: Mapping[str, Traffic]) -> dict[str, Traffic]:
    """Return the traffic by cell if these owners had the slots: every slot takes an even part of its cell's along."""
    before = slot_map.counts()
    events: dict[str, float] = defaultdict(float)
    tenants: dict[str, float] = defaultdict(float)
    for old, new in zip(slot_map.owners, owners, strict=True):
        seen = traffic.get(old, Traffic(0, 0))
        events[new] += seen.events / before[old]
        tenants[new] += seen.tenants / before[old]
    return {cell_id: Traffic(round(events[cell_id]), round(tenants[cell_id])) for cell_id in events}
