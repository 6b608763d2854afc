"""Shadows on virtual time: live and another environment side by side, with routers, cells and archives of their own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.archive.comparison import Comparison, Difference
from router.core.archive.objects import MINUTE_MS
from router.core.archive.replay import in_share
from router.core.models import Depth, Event, Outcome
from router.services.replay import Pace
from router.services.shadow import MAX_WAITING, Shadow, Shadowed
from tests.support.archives import MemoryArchive, Reading, Told, archivist
from tests.support.attribute_keys import KEYS
from tests.support.fake_clock import play
from tests.support.router_world import World

TENANTS = [f"tenant-{i}" for i in range(20)]
SHARE = 0.3
MINUTES = 3
CHOSEN = {key for key in TENANTS if in_share(key, SHARE)}


@dataclass
class Mirrored:
    """Live under load for some minutes, and the environment that gets a share of it."""

    share: float = SHARE
    live: World = field(default_factory=World)
    told: list[str] = field(default_factory=list)
    found: Shadowed = field(default_factory=Shadowed)

    def __post_init__(self) -> None:
        self.other = World(clock=self.live.clock)
        self.archives = {"live": MemoryArchive(), "replay": MemoryArchive()}
        for world, name in ((self.live, "live"), (self.other, "replay")):
            store = self.archives[name]
            world.archive = lambda world=world, store=store, name=name: archivist(  # type: ignore[misc]
                store, world.clock, world.notes, environment=name
            )

    def play(self) -> Comparison:
        """Have live work for some minutes, mirror it, and compare."""

        async def story() -> Comparison:
            clock = self.live.clock
            await clock.sleep((MINUTE_MS - clock.time_ms() % MINUTE_MS) / 1000)
            began_ms = clock.time_ms()
            shadow = Shadow(
                self.share, Reading(self.archives["live"]), "live", "replay", Told(), clock, self.told.append
            )
            async with self.live.routing(), self.other.routing():
                loading = asyncio.create_task(self.live.send_steadily(dict.fromkeys(TENANTS, 0.25), 60 * MINUTES - 5))
                until_ms = began_ms + MINUTES * MINUTE_MS
                await shadow.send(self.found, self.other.source, KEYS, Pace(None, 100), until_ms)
                await loading
                return await shadow.compared(self.found, Reading(self.archives["replay"]), began_ms, 300)

        return play(self.live.clock, story())


def test_a_share_of_the_keys_runs_through_the_other_environment_and_what_differs_is_told() -> None:
    """All events of those keys, and of no other; a handler that is other there shows in their endings alone."""
    world, bad = Mirrored(), min(CHOSEN)

    def rejects(event: Event) -> Outcome:
        return Outcome.REJECTED if event.partition_key == bad else Outcome.OK

    for cell in world.other.cells.cells.values():
        cell.behaviour = rejects
    found = world.play()
    chosen = [name for name, key in world.live.keys.items() if key in CHOSEN]
    assert found.events == world.found.sent == len(chosen)
    assert world.found.left_out == 0
    assert {row.partition_key for row in found.rows} == {bad}
    assert {row.difference for row in found.rows} == {Difference.OUTCOME}
    assert len(found.rows) == sum(key == bad for key in world.live.keys.values())
    assert sum(world.live.cells.effects().values()) == len(world.live.sent)  # live has noticed nothing


def test_an_environment_that_does_not_keep_up_gets_less_and_that_is_counted() -> None:
    """While its queue is long, minutes are left out; live goes on as ever."""
    world = Mirrored()
    clock, depth = world.live.clock, world.other.source.depth
    full_until_ms = (clock.time_ms() // MINUTE_MS + 2) * MINUTE_MS + 30_000  # the first minute is due before, no other

    async def full_at_first() -> Depth:
        return Depth(MAX_WAITING + 1, 0, 0) if clock.time_ms() < full_until_ms else await depth()

    world.other.source.depth = full_at_first  # type: ignore[method-assign] # a queue that grew
    found = world.play()
    assert world.found.left_out == 1
    assert world.told == ["minutes left out: 1; replay does not keep up"]
    chosen = [name for name, key in world.live.keys.items() if key in CHOSEN]
    assert 0.5 * len(chosen) < found.events < 0.8 * len(chosen)
    assert not found.differs
    assert sum(world.live.cells.effects().values()) == len(world.live.sent)


@given(key=st.text(min_size=1), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_larger_share_has_the_keys_of_a_smaller_one(key: str, shares: tuple[float, float]) -> None:
    """So a share that is raised goes on with the same keys."""
    low, high = sorted(shares)
    assert in_share(key, high) or not in_share(key, low)
    assert in_share(key, 1.0)
    assert not in_share(key, 0.0)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_a_share_is_about_that_many_keys(share: float) -> None:
    """Of ten thousand."""
    keys = sum(in_share(f"key-{i}", share) for i in range(10_000))
    assert abs(keys / 10_000 - share) < 0.2 * share + 0.002
