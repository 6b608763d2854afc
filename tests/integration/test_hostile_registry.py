"""Floods, numbers near the highest and keys of another type in the registry, on a real server: all goes on."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from cell_worker.lease import claim_generation
from router.adapters.redis.records import packed
from router.adapters.redis.registry import _TIDY_NAMES
from router.adapters.redis.scripts import MAX_ENTRIES
from router.core.detection.samples import RouterSample
from router.core.models import CellRecord, RouterReport, Traffic, Treatment
from router.core.policy import Policy, TenantLimit
from router.core.registry import AuditEntry, Change
from router.core.slot_map.slots import SlotMap, assign
from router.core.telemetry import BadInput, LeaseRefusal, LeaseRefused
from tests.support.aio import until
from tests.support.bad_registry import CELL, OTHER, World, on

FLOOD: Final = 50_000
"""Entries; the rules begin at MAX_ENTRIES, whatever their number."""
POUR: Final = "for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], ARGV[2] .. i, ARGV[3]) end"
YEAR_MS: Final = 31_536_000_000
ENTRY: Final = AuditEntry(1, "a person", "limit", "", "")
LIMITED: Final = Policy(version=3, limits={"k": TenantLimit(concurrency=1)})
SOON_SAID_AGAIN: Final = ("routers", "proposals", "rulings", "offers", "traffic", "samples", "conditions")


async def pour(world: World, name: str, prefix: str = "x", value: str = '{"expires_at_ms":1}') -> None:
    """Write a flood of entries into one hash."""
    await world.redis.eval(POUR, 1, world.key(name), str(FLOOD), prefix, value)


async def size_of(world: World, name: str) -> int:
    """Count the entries of a hash."""
    return int(await world.redis.hlen(world.key(name)))


async def now_ms(world: World) -> int:
    """Return the server's time."""
    return (await world.registry.snapshot()).now_ms


async def founded(world: World) -> tuple[int, SlotMap]:
    """Take the lead and write cells, map and policy."""
    epoch = await world.lead()
    slot_map = SlotMap(epoch, assign(None, {CELL: 1}))
    cells = [CellRecord(OTHER, 3), CellRecord(CELL, 7, launched=7)]
    await world.registry.write(epoch, Change(cells, slot_map, LIMITED, audit=[ENTRY]))
    return epoch, slot_map


async def beaten(world: World, generation: int) -> None:
    """Write the lease of an honest instance of CELL."""
    await world.heartbeat(generation)._beat()


@pytest.mark.parametrize(
    ("name", "prefix"), [("leases", f"{CELL}/9"), ("leases", "x"), ("cells", "x"), ("cells", "cell-9")]
)
def test_a_flood_hides_no_cell_and_no_lease_and_goes_bit_by_bit(redis_url: str, name: str, prefix: str) -> None:
    """What the flood is in is told once; what is known is found meanwhile, and stays."""

    async def story(world: World) -> None:
        await founded(world)
        await pour(world, name, prefix)
        await beaten(world, 7)
        for registry in (world.registry, world.another()):
            snapshot = await registry.snapshot()
            assert set(snapshot.cells) == {CELL, OTHER}
            assert [(lease.cell_id, lease.generation) for lease in snapshot.leases] == [(CELL, 7)]

        async def tidy() -> bool:
            await world.lead()
            return await size_of(world, name) <= MAX_ENTRIES

        await until(tidy, "the flood is gone")
        assert world.told_of("registry key") == [world.key(name)]
        assert set((await world.registry.snapshot()).cells) == {CELL, OTHER}
        assert [lease.generation for lease in (await world.registry.snapshot()).leases] == [7]

    on(redis_url, story)


@pytest.mark.parametrize("name", SOON_SAID_AGAIN)
def test_a_flood_of_what_is_soon_said_again_is_removed(redis_url: str, name: str) -> None:
    """Before that, every script still writes and reads, and none of them takes more than a part of the flood."""

    async def story(world: World) -> None:
        await pour(world, name)
        await speak(world)
        assert len((await world.another().snapshot()).routers) <= 2 * MAX_ENTRIES
        await world.another().traffic()
        await world.registry.petitions()
        await world.lead()
        await world.lead()
        assert await size_of(world, name) == 0
        assert world.told_of("registry key") == [world.key(name)]
        await speak(world)
        assert [view.report.router_id for view in (await world.registry.snapshot()).routers] == ["r"]
        assert set(await world.registry.samples()) == {"r"}
        assert await world.registry.traffic() == [{CELL: Traffic(1, 1)}]

    on(redis_url, story)


async def speak(world: World) -> None:
    """Say all that a router says."""
    await world.registry.report(RouterReport("r", 5, quiet=True), 30)
    await world.registry.note_sample("r", RouterSample(1, 0.0, {}))
    await world.registry.note_traffic("r", {CELL: Traffic(1, 1)})


def test_a_flood_of_the_history_leaves_its_versions(redis_url: str) -> None:
    """Fields that are none of the last 100 versions go."""

    async def story(world: World) -> None:
        await founded(world)
        await pour(world, "history", "9")

        async def tidy() -> bool:
            await world.lead()
            return await size_of(world, "history") <= MAX_ENTRIES

        await until(tidy, "the flood is gone")
        assert LIMITED in [each.policy for each in await world.registry.history()]

    on(redis_url, story)


def test_entries_that_are_large_together_are_cut(redis_url: str) -> None:
    """A process never gets more than 32 MiB of one hash; what is cut can't be read, and what is short can."""

    async def story(world: World) -> None:
        await founded(world)
        for i in range(40):
            await world.put("cells", f"cell-01{i:02}", b" " * (1 << 20))
        assert set((await world.registry.snapshot()).cells) == {CELL, OTHER}
        assert len(world.told_of("cell record")) == 40

    on(redis_url, story)


@pytest.mark.parametrize("ahead", [0, 1_000_000, 2**52, 2**53 - 2 * 10**12])
def test_after_every_generation_that_is_believed_there_is_a_next_one(redis_url: str, ahead: int) -> None:
    """One that there can't be is none, and the highest that there can be is followed by another one."""

    async def story(world: World) -> None:
        epoch, _ = await founded(world)
        poison = await now_ms(world) + ahead
        for place, value in (("generations", b"%d" % poison), ("cells", cell(CellRecord(CELL, poison)))):
            await world.put(place, CELL, value)

            async def given() -> bool:
                generation = await world.registry.next_generation(epoch, CELL, 7)
                claimed = await claim_generation(world.redis, world.environment, CELL, 7)
                assert claimed > generation
                record = CellRecord(CELL, claimed, launched=claimed)
                await world.registry.write(epoch, Change([record]))
                return (await world.another().snapshot()).cells.get(CELL) == record

            await until(given, "a generation is given out and believed")

    on(redis_url, story)


def test_an_impossible_record_is_as_lost_and_fences_nobody(redis_url: str) -> None:
    """The instance that runs keeps its lease, refuses no batch, and the leader is free to write the record anew."""

    async def story(world: World) -> None:
        await founded(world)
        heartbeat = world.heartbeat(7)
        for record in (CellRecord(CELL, 2**53), CellRecord(CELL, 7, fence=2**53), CellRecord(CELL, 7, launching=2**52)):
            await world.put("cells", CELL, cell(record))
            await heartbeat._beat()
            assert heartbeat._fence.epoch == 0
            assert set((await world.registry.snapshot()).cells) == {OTHER}
        assert world.told_of("cell record") == [CELL] * 3

    on(redis_url, story)


def test_a_time_in_the_future_is_long_past(redis_url: str) -> None:
    """Nothing waits for it. A router's word from the future is none; its report counts for a minute at most."""

    async def story(world: World) -> None:
        await founded(world)
        far = await now_ms(world) + YEAR_MS
        record = CellRecord(CELL, 7, launched_at_ms=far, replaced_at_ms=far, treatment=Treatment(since_ms=far))
        await world.put("cells", CELL, cell(record))
        assert (await world.registry.snapshot()).cells[CELL] == CellRecord(CELL, 7)
        await world.put("routers", "late", b'{"expires_at_ms":%d,"report":%s}' % (far, report("late")))
        await world.put("samples", "late", b'{"at_ms":%d,"said":%s}' % (far, packed(RouterSample(1, 0.0, {}))))
        await world.put("traffic", "late", b'{"at_ms":%d,"said":{}}' % far)
        assert [view.report.router_id for view in (await world.registry.snapshot()).routers] == ["late"]
        assert await world.registry.samples() == {}
        await speak(world)
        for name in ("routers", "samples", "traffic"):
            assert await world.redis.hkeys(world.key(name)) == [b"r"]

    on(redis_url, story)


def test_an_impossible_epoch_is_none(redis_url: str) -> None:
    """A leader's, a map's and an offer's: the lead is taken again, the map counts as lost, honest offers are kept."""

    async def story(world: World) -> None:
        epoch, slot_map = await founded(world)
        far = SlotMap(2**53, slot_map.owners)
        wire = msgspec.json.encode(far.to_wire())
        for owner in (b"a", b"ghost"):
            for name, value in (("epoch", 2**53), ("expires_at_ms", 2**53), ("ttl_ms", 2**53)):
                await world.put("leader", name, b"%d" % value)
            await world.put("leader", "owner", owner)
            again = await world.registry.lead("a", 30, 0) or await world.lead()  # a ghost's lead ends at a second look
            assert epoch < again < 2**52
        await world.put("map", "epoch", b"%d" % far.epoch)
        await world.put("map", "blob", wire)
        assert (await world.registry.snapshot()).slot_map is None
        poison = msgspec.json.encode(Policy(version=2**53))
        for name, raw in (("epoch", b"%d" % far.epoch), ("map", wire), ("policy", poison), ("at_ms", b"%d" % 2**53)):
            await world.put("offers", name, raw)
        petitions = await world.registry.petitions()
        assert (petitions.slot_map, petitions.policy) == (None, None)
        await world.registry.offer(slot_map, LIMITED)
        petitions = await world.registry.petitions()
        assert (petitions.slot_map, petitions.policy) == (slot_map, LIMITED)

    on(redis_url, story)


def test_an_impossible_lease_is_refused(redis_url: str) -> None:
    """Though it is signed: a leader that adopted its generation could never launch a higher one."""

    async def story(world: World) -> None:
        await founded(world)
        await beaten(world, 2**53)
        assert (await world.registry.snapshot()).leases == ()
        assert LeaseRefused(f"{CELL}/{2**53}", LeaseRefusal.IMPOSSIBLE) in world.told

    on(redis_url, story)


@pytest.mark.parametrize("bad", [b"{", b"", b'{"limits":{"k":{"concurrency":"many"}}}'])
@pytest.mark.parametrize("version", [b"3", b"9007199254740991", b"\xff"])
def test_the_newest_of_the_history_stands_for_an_unreadable_policy(redis_url: str, bad: bytes, version: bytes) -> None:
    """For a process that never knew another. The next change puts an end to it."""

    async def story(world: World) -> None:
        epoch, _ = await founded(world)
        await world.put("policy", "blob", bad)
        await world.put("policy", "version", version)
        started = world.another()
        for _ in range(3):
            assert (await started.snapshot()).policy == LIMITED
        assert await started.policy() == LIMITED
        newer = Policy(version=4)
        await world.registry.write(epoch, Change(policy=newer, audit=[ENTRY]))
        assert (await started.snapshot()).policy == newer
        assert (await world.another().snapshot()).policy == newer

    on(redis_url, story)


@pytest.mark.parametrize("name", _TIDY_NAMES)
def test_a_key_of_another_type_goes_with_the_next_look_of_a_controller(redis_url: str, name: str) -> None:
    """It is told once. Then everything can be written and read again, and what it held counts as lost."""

    async def story(world: World) -> None:
        epoch, slot_map = await founded(world)
        await speak(world)
        key = world.key(name)
        await world.redis.delete(key)
        await world.redis.rpush(key, "a", "list")
        again = await world.lead()
        assert again >= epoch
        assert world.told_of("registry key") == [key]
        change = Change([CellRecord(CELL, 7)], slot_map, LIMITED, audit=[ENTRY])
        await world.registry.write(again, change)
        assert await world.registry.next_generation(again, CELL, 7) == 8
        await speak(world)
        await beaten(world, 7)
        await world.lead()
        snapshot = await world.another().snapshot()
        assert (snapshot.slot_map, snapshot.policy, snapshot.leader) == (slot_map, LIMITED, "a")
        assert snapshot.cells[CELL] == CellRecord(CELL, 7)
        assert [lease.generation for lease in snapshot.leases] == [7]
        assert (await world.registry.audit(1), len(await world.registry.history())) == ([ENTRY], 1)
        assert world.told_of("registry key") == [key]

    on(redis_url, story)


def test_what_is_told_of_a_key_says_what_was_done(redis_url: str) -> None:
    """An operator reads it at night."""

    async def story(world: World) -> None:
        await world.redis.set(world.key("cells"), "text")
        await world.lead()
        told = [bad for bad in world.told if isinstance(bad, BadInput)]
        assert told == [
            BadInput(
                "registry key",
                world.key("cells"),
                "it was a string and no hash, so it held nothing that can be used: it was removed",
            )
        ]

    on(redis_url, story)


def cell(record: CellRecord) -> bytes:
    """Encode a record as it lies in Redis."""
    return msgspec.json.encode(record)


def report(router_id: str) -> bytes:
    """Encode a router's report."""
    return msgspec.json.encode(RouterReport(router_id, 1, quiet=False))
