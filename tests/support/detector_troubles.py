"""The parts that troubles are told in: a trouble changes a world, and is resumed once a second until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log

from tests.support.detector_world import SimulatedCell, Tenant, World, new_cell

Trouble = Callable[[World], Iterator[None]]
"""Changes the world before each `yield`; a second passes at each. When it ends, things stay as they are."""


def busiest(cell: SimulatedCell, count: int) -> list[Tenant]:
    """Return the tenants of a cell that send the most events, at most so many."""
    return sorted(cell.tenants, key=lambda tenant: tenant.rate, reverse=True)[:count]


def one_busy(world: World, cell: SimulatedCell) -> list[Tenant]:
    """Return one of the five busiest tenants of a cell; none where it has no tenant."""
    found = busiest(cell, 5)
    return [world.draw.choice(found)] if found else []


def dearer(tenant: Tenant, times: float) -> None:
    """Make all events of a tenant cost so many times as much."""
    tenant.log_s += log(times)


def spread_out(world: World, over_s: float, change: Callable[[SimulatedCell], None]) -> Iterator[None]:
    """Change every cell once, each at some moment within `over_s` seconds."""
    due = sorted((world.draw.uniform(0, over_s), index) for index in range(len(world.cells)))
    for at in range(round(over_s) + 1):
        while due and due[0][0] <= at:
            change(world.cells[due.pop(0)[1]])
        yield


def joins(world: World) -> SimulatedCell:
    """Add a cell, which takes over a fair share of the tenants; it becomes the first of the cells."""
    parts = len(world.cells) + 1
    places, tenants = world.cells[0].places, []
    for cell in world.cells:
        gone = [tenant for tenant in cell.tenants if world.draw.random() < 1 / parts]
        cell.tenants = [tenant for tenant in cell.tenants if tenant not in gone]
        tenants += gone
    found = new_cell(world.draw, f"cell-{parts - 1:04d}", tenants, places, world.routers)
    world.cells.insert(0, found)
    return found


def slower(times: float) -> Callable[[SimulatedCell], None]:
    """Return what makes everything in a cell take so many times as long, whichever instance it has."""

    def change(cell: SimulatedCell) -> None:
        cell.outside.everything = times

    return change


def passing(seconds: float) -> Iterator[None]:
    """Let so many seconds pass."""
    for _ in range(round(seconds)):
        yield
