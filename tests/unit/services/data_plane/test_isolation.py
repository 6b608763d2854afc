"""No cell and no tenant holds up another: figures on virtual time, where they are exact (P4, P8, P9, P11)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from router.core.fairness.turns import Fairness, Priority
from router.core.models import Event, HoldCause, Outcome
from router.core.policy import TenantLimit
from router.core.telemetry import EventHeld
from tests.support.fake_clock import play
from tests.support.router_world import World

PHASE_S = 30.0
TENANTS = [f"tenant-{i}" for i in range(40)]


def p99(latencies: list[float]) -> float:
    """The nearest-rank quantile of sorted latencies."""
    return latencies[round(0.99 * (len(latencies) - 1))]


@pytest.mark.parametrize("fault", ["slow", "dead", "hangs"])
def test_one_bad_cell_of_four_leaves_the_others_what_they_had(fault: str) -> None:
    """Others' throughput at least 95 %, p99 at most 1.2 times; afterwards the bad cell's events are all processed."""
    world = World()
    bad = world.owner(TENANTS[0])
    others = {tenant for tenant in TENANTS if world.owner(tenant) != bad}
    rates = dict.fromkeys(TENANTS, 5.0)

    async def story() -> None:
        async with world.routing():
            begun = world.clock.now
            await world.send_steadily(rates, PHASE_S)
            broken = world.clock.now
            if fault == "dead":
                world.crash(bad)
            else:
                world.cells.cells[bad].seconds = 50 * 0.01 if fault == "slow" else 10_000
            await world.send_steadily(rates, PHASE_S)
            ended = world.clock.now
            await world.clock.sleep(1)
            before, after = world.latencies(others, begun, broken), world.latencies(others, broken, ended)
            assert len([x for x in after if x < PHASE_S]) >= 0.95 * len(before)
            assert p99(after) <= 1.2 * p99(before)
            if fault != "slow":
                world.crash(bad)
                await world.clock.sleep(2)
                world.replace(bad)
            world.cells.cells[bad].seconds = 0.01
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


@pytest.mark.parametrize("limited", [False, True])
def test_a_tenant_at_ten_times_its_rate_takes_nothing_from_the_others(limited: bool) -> None:
    """Its cell can't do all of it; its neighbours keep 90 % of their goodput and more, without any limit set too."""
    world = World()
    loud = TENANTS[0]
    home = world.owner(loud)
    neighbours = {tenant for tenant in TENANTS if world.owner(tenant) == home} - {loud}
    for cell in world.cells.cells.values():
        cell.seconds = 16 / (5.0 * (len(neighbours) + 1)) * 0.7  # 70 % busy
    normal = dict.fromkeys(TENANTS, 5.0)
    if limited:
        limit = TenantLimit(rate_per_s=8, burst=8, concurrency=3)
        world.registry.decided = replace(world.registry.decided.with_limit(None, limit), version=1)

    async def story() -> None:
        async with world.routing():
            begun = world.clock.now
            await world.send_steadily(normal, PHASE_S)
            louder = world.clock.now
            await world.send_steadily(normal | {loud: 50.0}, PHASE_S)
            ended = world.clock.now
            await world.clock.sleep(2)
            before = world.latencies(neighbours, begun, louder)
            after = world.latencies(neighbours, louder, ended)
            assert len([x for x in after if x <= 2 * p99(before)]) >= 0.9 * len(before)
            if limited:
                done = [x for x in world.latencies({loud}, louder, ended) if x < PHASE_S]
                assert len(done) <= 8 * (PHASE_S + 2) + 8
            await world.settled(6000)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    causes = Counter(record.cause for record in world.notes.records if isinstance(record, EventHeld))
    assert (HoldCause.RATE in causes) == limited


def test_a_key_never_has_more_in_flight_than_its_cap() -> None:
    """3 of one tenant at once, whatever waits; the others are not slowed down by it."""
    world = World(cells=1)
    world.cells.cells["cell-0000"].seconds = 0.5
    world.registry.decided = replace(world.registry.decided.with_limit("a", TenantLimit(concurrency=3)), version=1)
    in_flight: Counter[str] = Counter()
    most: Counter[str] = Counter()
    cell = world.cells.cells["cell-0000"]

    def time_of(event: Event) -> float:
        in_flight[event.partition_key] += 1
        most[event.partition_key] = max(most[event.partition_key], in_flight[event.partition_key])
        return 0.5

    def behaviour(event: Event) -> Outcome:
        in_flight[event.partition_key] -= 1
        return Outcome.OK

    cell.time_of_event, cell.behaviour = time_of, behaviour

    async def story() -> None:
        await world.send(120, key=lambda i: "ab"[i % 2])
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    assert most["a"] == 3
    assert most["b"] >= 13  # the rest of 16
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_slow_event_in_a_batch_delays_no_other_acknowledgement() -> None:
    """One of 5 s among 50: the other 49 are deleted long before."""
    world = World(cells=1)
    world.registry.concurrency = 50
    world.cells.cells["cell-0000"].time_of_event = lambda event: 5.0 if event.event_id == "e17" else 0.01

    async def story() -> None:
        await world.send(50)
        async with world.routing():
            await world.clock.sleep(1)
            assert len(world.source) == 1
            await world.settled()

    play(world.clock, story())
    assert max(world.cells.batches) > 1


def test_the_hold_queue_drains_while_new_events_keep_coming() -> None:
    """After an outage, and at a load that leaves little room: what waited is done soon, oldest first within a key."""
    world = World(cells=1)
    cell = world.cells.cells["cell-0000"]
    cell.seconds = 0.1  # 160 events a second
    rates = dict.fromkeys(TENANTS[:10], 12.0)

    async def story() -> None:
        async with world.routing():
            world.crash("cell-0000")
            await world.send_steadily(rates, 20)
            waited = set(world.sent)
            world.replace("cell-0000")
            await world.send_steadily(rates, 90)
            assert waited <= world.cells.effects().keys()
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_key_has_as_many_turns_as_its_weight_says_and_no_priority_starves() -> None:
    """Of 80 events, every 16th is of the key with low priority; the others are 4 to 1, as their weights."""
    world = World(cells=1)
    cell = world.cells.cells["cell-0000"]
    cell.seconds = 0.1
    order: list[str] = []

    def behaviour(event: Event) -> Outcome:
        order.append(event.partition_key)
        return Outcome.OK

    cell.behaviour = behaviour
    decided = world.registry.decided.with_fairness("paid", Fairness(4)).with_fairness("last", Fairness(1, Priority.LOW))
    world.registry.decided = replace(decided, version=1)

    async def story() -> None:
        await world.send(225, key=lambda i: ("paid", "free", "last")[i % 3])
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    assert Counter(order[:80]) == {"paid": 60, "free": 15, "last": 5}
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
