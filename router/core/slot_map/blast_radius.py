"""Blast radius: the share of keys, events and tenants that a cell, a zone or a region takes with it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.core.models import Traffic
from router.core.slot_map.slots import SLOTS, SlotMap


@dataclass(frozen=True, slots=True)
class Radius:
    """Of one cell, zone or region: shares from 0 to 1."""

    name: str
    keys: float  # as its slots
    events: float  # of all that the routers have sent since they started
    tenants: float  # of the different keys among them

    @property
    def largest(self) -> float:
        """The worst of the three."""
        return max(self.keys, self.events, self.tenants)


def radii(slots: Mapping[str, int], traffic: Mapping[str, Traffic], places: Mapping[str, str]) -> list[Radius]:
    """The largest first. `places`: cell → the cell itself, its zone or its region; empty for not known."""
    names: dict[str, list[str]] = defaultdict(list)
    for cell_id in sorted({*slots, *traffic}):
        names[places.get(cell_id) or "(not known)"].append(cell_id)
    events = sum(seen.events for seen in traffic.values()) or 1
    tenants = sum(seen.tenants for seen in traffic.values()) or 1
    none = Traffic(0, 0)
    found = [
        Radius(
            name,
            sum(slots.get(cell_id, 0) for cell_id in cells) / SLOTS,
            sum(traffic.get(cell_id, none).events for cell_id in cells) / events,
            sum(traffic.get(cell_id, none).tenants for cell_id in cells) / tenants,
        )
        for name, cells in names.items()
    ]
    return sorted(found, key=lambda radius: (-radius.largest, radius.name))


def together(seen: Iterable[Mapping[str, Traffic]]) -> dict[str, Traffic]:
    """What several routers have seen. Events add up; tenants don't, since routers see the same ones: the most count."""
    all_seen: dict[str, Traffic] = {}
    for one in seen:
        for cell_id, traffic in one.items():
            before = all_seen.get(cell_id, Traffic(0, 0))
            all_seen[cell_id] = Traffic(before.events + traffic.events, max(before.tenants, traffic.tenants))
    return all_seen


def without(slot_map: SlotMap, owners: tuple[str, ...], traffic: Mapping[str, Traffic]) -> dict[str, Traffic]:
    """The traffic when other cells own the slots: each slot takes an even part of its old cell's with it."""
    before = slot_map.counts()
    events: dict[str, float] = defaultdict(float)
    tenants: dict[str, float] = defaultdict(float)
    for old, new in zip(slot_map.owners, owners, strict=True):
        seen = traffic.get(old, Traffic(0, 0))
        events[new] += seen.events / before[old]
        tenants[new] += seen.tenants / before[old]
    return {cell_id: Traffic(round(events[cell_id]), round(tenants[cell_id])) for cell_id in events}
