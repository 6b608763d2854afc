"""Troubles in which no instance is to blame: whoever replaces one, finds the next one as slow."""

from __future__ import annotations

from collections.abc import Iterator
from math import log

from tests.support.detector_troubles import busiest, dearer, one_busy, passing, slower, spread_out
from tests.support.detector_world import LEADER, Path, World, new_tenant


def nothing(world: World) -> Iterator[None]:
    """Change nothing: all cells stay healthy."""
    yield


def costly(world: World) -> Iterator[None]:
    """Let one of a cell's five busiest tenants send events that cost ten times as much."""
    for tenant in one_busy(world, world.cells[0]):
        dearer(tenant, 10)
    yield


def flood(world: World) -> Iterator[None]:
    """Let one of a cell's five busiest tenants send twice as much as the whole cell could do."""
    for tenant in one_busy(world, world.cells[0]):
        tenant.rate = 2 * world.cells[0].places / tenant.mean_s()
    yield


def newcomers(world: World) -> Iterator[None]:
    """Add half as many tenants again within half a minute; one in ten may send ten times as much, or dearer events."""
    draw = world.draw
    for at in range(30):
        for cell in world.cells:
            if cell.tenants and draw.random() < 1 / 3:
                rate = sum(tenant.rate for tenant in cell.tenants) / len(cell.tenants)
                tenant = new_tenant(draw, f"new-{cell.cell_id}-{at}", rate, cell.tenants[0].costs)
                if draw.random() < 0.1:
                    tenant.rate *= draw.choice((1, 10))
                    tenant.log_s += draw.choice((0, log(10)))
                cell.tenants.append(tenant)
        yield


def all_slower(world: World) -> Iterator[None]:
    """Slow a dependency that all cells share; each cell notices within three seconds."""
    yield from spread_out(world, 3, slower(5))


def warm_up(world: World) -> Iterator[None]:
    """Replace one instance by another that is three times as slow for its first 30 to 45 seconds."""
    cell = world.cells[0]
    cell.replace()
    cell.outside.everything = 3
    yield from passing(world.draw.uniform(30, 45))
    cell.outside.everything = 1
    yield


def path_of_the_leader(world: World) -> Iterator[None]:
    """Let the leader's own path to one cell take 100 ms longer; the events don't go by it."""
    world.cells[0].paths[LEADER] = Path(0.1)
    yield


def path_of_a_router(world: World) -> Iterator[None]:
    """Let the path from one router to one cell take 700 ms longer."""
    world.cells[0].paths[0] = Path(0.7)
    yield


def cold_caches(world: World) -> Iterator[None]:
    """Let 60 % of one cell's tenants come back with cold caches: four times as dear, and warm within a minute."""
    tenants = world.cells[0].tenants
    cold = world.draw.sample(tenants, round(0.6 * len(tenants)))
    for tenant in cold:
        dearer(tenant, 4)
    for _ in range(60):
        yield
        for tenant in cold:
            dearer(tenant, 4 ** (-1 / 60))


def dependency_slows(world: World) -> Iterator[None]:
    """Slow a dependency that all cells share, which reaches them over 20 to 60 s."""
    yield from spread_out(world, world.draw.uniform(20, 60), slower(4))


def dependency_recovers(world: World) -> Iterator[None]:
    """Slow a dependency of all cells for a minute; it recovers cell by cell, over 20 to 60 s."""
    yield from spread_out(world, 3, slower(4))
    yield from passing(60)
    yield from spread_out(world, world.draw.uniform(20, 60), slower(1))


def customers_release(world: World) -> Iterator[None]:
    """Let eight tenants of one cell send events that are four times as dear, all at once."""
    for tenant in busiest(world.cells[0], 8):
        dearer(tenant, 4)
    yield


def peers_restart(world: World) -> Iterator[None]:
    """Restart all cells but one, while the host is busy: everything takes 2.5 times as long, and goes on to."""
    for cell in world.cells:
        cell.outside.everything = 2.5
    for cell in world.cells[1:]:
        cell.stop()
    yield from spread_out(world, world.draw.uniform(10, 25), lambda cell: cell.replace() if cell.down else None)


def long_jobs(world: World) -> Iterator[None]:
    """Let five tenants of one cell send jobs that wait 30 s for something, enough of them to fill all places."""
    cell = world.cells[0]
    jobs = busiest(cell, 5)
    for tenant in jobs:
        tenant.log_s, tenant.spread, tenant.idle = log(30 / tenant.costs.mean(0.1)), 0.1, True
        tenant.rate = 0.3 * cell.places / len(jobs)
    yield from passing(10)
    for tenant in jobs:
        tenant.rate = 1.2 * cell.places / (30 * len(jobs))
    yield


def failing_tenants(world: World) -> Iterator[None]:
    """Let the events of one cell's eight busiest tenants fail for 60 s."""
    failing = busiest(world.cells[0], 8)
    for tenant in failing:
        tenant.failing = True
    yield from passing(60)
    for tenant in failing:
        tenant.failing = False
    yield


def rolling_deploy(world: World) -> Iterator[None]:
    """Replace all instances one after the other by a version that has twice as much to do for each event."""
    for cell in world.cells[:20]:
        cell.replace()
        cell.outside.canary = 2
        for tenant in cell.tenants:
            dearer(tenant, 2)
        yield from passing(world.draw.uniform(5, 15))
