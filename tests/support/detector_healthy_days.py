"""More troubles in which no instance is to blame: days as they come, in networks, loads and the work that is asked."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.detector_troubles import Trouble, busiest, dearer, joins, one_busy, passing, slower, spread_out
from tests.support.detector_world import LEADER, ColdStart, Path, SimulatedCell, World


def lossy_network(world: World) -> Iterator[None]:
    """Let 3 % of all exchanges lose a packet, on all paths."""
    for cell in world.cells:
        cell.paths = {vantage: Path(loss=0.03) for vantage in range(LEADER, world.routers)}
    yield


def lossy_path_of_the_leader(world: World) -> Iterator[None]:
    """Let 60 % of the exchanges between the leader and one cell lose a packet."""
    world.cells[0].paths[LEADER] = Path(loss=0.6)
    yield


def collections(world: World) -> Iterator[None]:
    """Let every instance collect garbage now and then: for some seconds, half of what it does takes 1 s longer."""
    draw = world.draw
    for _ in range(100):
        for cell in world.cells:
            begins = draw.random() < (0.5 if cell.outside.share else 0.03)
            cell.outside.share, cell.outside.hit_s = (0.5, 1.0) if begins else (0.0, 0.0)
        yield


def morning_ramp(world: World) -> Iterator[None]:
    """Triple the load of all cells within four minutes."""
    for at in range(240):
        for cell in world.cells:
            cell.demand = 1 + 2 * at / 240
        yield


def hot_ramp(world: World) -> Iterator[None]:
    """Raise the load of one cell to four times the usual within a minute."""
    for at in range(60):
        world.cells[0].demand = 1 + 3 * at / 60
        yield


def growing_payload(world: World) -> Iterator[None]:
    """Let the events of one of a cell's busiest tenants become ten times as dear, within two minutes."""
    tenants = one_busy(world, world.cells[0])
    for _ in range(120):
        for tenant in tenants:
            dearer(tenant, 10 ** (1 / 120))
        yield


def herd(world: World) -> Iterator[None]:
    """Pause all cells for 30 s; what has waited then comes within 15 s."""
    for demand, seconds in ((0.0, 30), (3.0, 15), (1.0, 1)):
        for cell in world.cells:
            cell.demand = demand
        yield from passing(seconds)


def emptied_hold_queue(world: World) -> Iterator[None]:
    """Pause one cell for 40 s; what has waited then comes within 10 s."""
    for demand, seconds in ((0.0, 40), (5.0, 10), (1.0, 1)):
        world.cells[0].demand = demand
        yield from passing(seconds)


def stalled_lookups(world: World) -> Iterator[None]:
    """Let 3 % of what all cells do wait 5 s for a name, for a minute."""
    for share, seconds in ((0.03, 60), (0.0, 1)):
        for cell in world.cells:
            cell.outside.share, cell.outside.hit_s = share, 5.0
        yield from passing(seconds)


def slow_zone(world: World) -> Iterator[None]:
    """Slow a third of the cells, those that are in one availability zone: its storage takes five times as long."""
    for cell in world.cells[: max(1, len(world.cells) // 3)]:
        cell.outside.storage = 5
    yield


def own_shard(world: World) -> Iterator[None]:
    """Slow the table that one cell alone uses, whichever instance it has: everything takes four times as long."""
    slower(4)(world.cells[0])
    yield


def own_shard_stalls(world: World) -> Iterator[None]:
    """Let a third of what one cell does wait two seconds for its own table, whichever instance it has."""
    world.cells[0].outside.share, world.cells[0].outside.hit_s = 0.33, 2.0
    yield


def late_router(world: World) -> Iterator[None]:
    """Let one router be late by 400 ms with all that it does, as on a busy host."""
    for cell in world.cells:
        cell.paths[0] = Path(0.4)
    yield


def canaries_object(world: World) -> Iterator[None]:
    """Let the canaries of one cell alone take four times as long, since their object is throttled; events don't."""
    world.cells[0].outside.canary = 4
    yield


def lost_reports(world: World) -> Iterator[None]:
    """Lose all reports of one router for a minute, while all tenants of one cell get twice as dear and back."""
    world.lost[0] = 1.0
    for tenant in busiest(world.cells[0], 5):
        dearer(tenant, 2)
    yield from passing(60)
    world.lost.clear()
    yield


def lone(world: World) -> None:
    """Leave one cell a single tenant."""
    world.cells[0].tenants = busiest(world.cells[0], 1)


def lone_tenant(world: World) -> Iterator[None]:
    """Let the only tenant of a cell send events that cost five times as much."""
    for tenant in world.cells[0].tenants:
        dearer(tenant, 5)
    yield


def moving_tenants(world: World) -> Iterator[None]:
    """Move half of one cell's tenants to another, where their caches are cold for a minute."""
    here, there = world.cells[:2]
    moved = here.tenants[::2]
    here.tenants = here.tenants[1::2]
    there.tenants = there.tenants + moved
    for tenant in moved:
        dearer(tenant, 3)
    for _ in range(60):
        yield
        for tenant in moved:
            dearer(tenant, 3 ** (-1 / 60))


def nightly_jobs(world: World) -> Iterator[None]:
    """Let five tenants of each cell send ten times as much for 10 s of every minute, at the same moment."""
    tenants = [tenant for cell in world.cells for tenant in world.draw.sample(cell.tenants, min(5, len(cell.tenants)))]
    for _ in range(3):
        for times, seconds in ((10.0, 10), (0.1, 50)):
            for tenant in tenants:
                tenant.rate *= times
            yield from passing(seconds)


def healthy_newcomer(times: float, seconds: int) -> Trouble:
    """Return a trouble: a cell is added, for whose tenants the caches are cold; events are dearer for so long."""

    def trouble(world: World) -> Iterator[None]:
        tenants = joins(world).tenants
        for tenant in tenants:
            dearer(tenant, times)
        for _ in range(seconds):
            yield
            for tenant in tenants:
                dearer(tenant, times ** (-1 / seconds))

    return trouble


def cold_newcomer(cold: ColdStart) -> Trouble:
    """Return a trouble: a cell is added, whose instances start cold."""

    def trouble(world: World) -> Iterator[None]:
        joins(world).starts(cold)
        yield

    return trouble


def cold_replacement(cold: ColdStart) -> Trouble:
    """Return a trouble: one instance is replaced by another, and starts cold as any would."""

    def trouble(world: World) -> Iterator[None]:
        world.cells[0].replace()
        world.cells[0].starts(cold)
        yield

    return trouble


def new_leaders(world: World) -> Iterator[None]:
    """Let another controller lead every 20 s, which has seen nothing yet."""
    for _ in range(5):
        world.leaders += 1
        yield from passing(20)


def new_leader_in_trouble(world: World) -> Iterator[None]:
    """Let another controller lead, while half of one cell's tenants send dearer events than they did."""
    for tenant in busiest(world.cells[0], 10)[::2]:
        dearer(tenant, 4)
    for _ in range(3):
        yield from passing(15)
        world.leaders += 1


def cold_morning(world: World) -> Iterator[None]:
    """Let nothing come for a minute, and then everybody, with cold caches."""
    for cell in world.cells:
        cell.demand = 0
    yield from passing(60)
    for cell in world.cells:
        cell.demand = 1
    for at in range(41):
        for cell in world.cells:
            slower(3 ** (1 - at / 40))(cell)
        yield


def dead_webhook(world: World) -> Iterator[None]:
    """Let a busy tenant's own server not answer: its events wait 10 s for it, and take no CPU."""
    for tenant in one_busy(world, world.cells[0]):
        tenant.idle = True
        dearer(tenant, 10 / tenant.mean_s())
    yield


def retried_failures(world: World) -> Iterator[None]:
    """Let one tenant's events fail, and be sent again ten times as often."""
    for tenant in busiest(world.cells[0], 1):
        tenant.rate, tenant.failing = 10 * tenant.rate, True
    yield


def outage(world: World) -> Iterator[None]:
    """Let all events of all cells fail, each cell's from some moment within 10 s on, for half a minute."""
    yield from spread_out(world, 10, _failing)
    yield from passing(30)
    yield from spread_out(world, 3, _well)


def backups(world: World) -> Iterator[None]:
    """Slow the table of one cell after the other for 20 s, as when each is saved."""
    for cell in world.cells[:8]:
        slower(4)(cell)
        yield from passing(20)
        slower(1)(cell)
    yield


def long_tail(world: World) -> Iterator[None]:
    """Let one in fifty events of all cells take 30 times as long, from now on."""
    yield from spread_out(world, 20, _long_tail)


def clock_step(world: World) -> Iterator[None]:
    """Let all latencies that one router measures be 20 s too long for two seconds, as when its clock jumps."""
    for delay_s, seconds in ((20.0, 2), (0.0, 1)):
        for cell in world.cells:
            cell.paths[0] = Path(delay_s)
        yield from passing(seconds)


def _failing(cell: SimulatedCell) -> None:
    for tenant in cell.tenants:
        tenant.failing = True


def _well(cell: SimulatedCell) -> None:
    for tenant in cell.tenants:
        tenant.failing = False


def _long_tail(cell: SimulatedCell) -> None:
    cell.outside.share, cell.outside.hit = 0.02, 30
