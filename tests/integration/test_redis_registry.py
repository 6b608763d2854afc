"""The registry on a real server: leadership, fencing, generations, signatures."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
from redis.asyncio import Redis

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat, LeaseLostError, claim_generation
from router.adapters.clock import SystemClock
from router.adapters.provisioners.external import ExternalProvisioner
from router.adapters.redis.registry import RedisRegistry
from router.core.errors import NoLeaderError, NotLeaderError, PolicyRefusedError, RegistryUnavailableError
from router.core.models import CellRecord, Reason
from router.core.policy import Policy, Quarantine, TenantLimit
from router.core.registry import AuditEntry, Change, PolicyVersion, Snapshot
from router.core.slot_map.slots import SlotMap, assign
from router.services.control_plane.controller import Controller, ControllerConfig
from router.services.policy import change
from tests.support.aio import run, until
from tests.support.fake_cells import Instances
from tests.support.keys import OTHER_SECRET, field_of, lease_key, ring
from tests.support.router_world import Notes


@asynccontextmanager
async def fresh(url: str) -> AsyncIterator[tuple[RedisRegistry, Redis, str]]:
    """Make a registry of an environment of its own."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    async with connect(url) as redis:
        yield RedisRegistry(redis, environment, ring(environment), SystemClock()), redis, environment


def on_registry(url: str, story: Callable[[RedisRegistry, Redis, str], Awaitable[None]]) -> None:
    """Run a story on a fresh registry."""

    async def main() -> None:
        async with fresh(url) as (registry, redis, environment):
            await story(registry, redis, environment)

    run(main())


def record(environment: str, generation: int = 1, cell_id: str = "cell-0000") -> protocol.InstanceRecord:
    """Make the record that an instance writes about itself."""
    return protocol.InstanceRecord(environment, cell_id, generation, uuid.uuid4().hex, "127.0.0.1:1", 16, 0)


def test_one_controller_leads_until_its_lease_ends(redis_url: str) -> None:
    """The other one waits; renewing keeps the epoch, and a change of the leader raises it."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        first = await registry.lead("a", 0.3, 0)
        assert first is not None
        assert await registry.lead("b", 0.3, 0) is None
        assert await registry.lead("a", 0.3, 0) == first
        assert (await registry.snapshot()).leader == "a"
        await registry.resign("b")  # "b" has nothing to resign
        assert (await registry.snapshot()).leader == "a"
        await registry.resign("a")
        second = await registry.lead("b", 0.05, 0)
        assert second is not None
        assert second > first

        async def led_by_a() -> bool:
            return await registry.lead("a", 5, 0) is not None

        await until(led_by_a, "a leads after b's lease has ended")
        assert (await registry.lead("a", 5, 0) or 0) > second

    on_registry(redis_url, story)


def test_the_epoch_grows_even_when_the_registry_was_emptied(redis_url: str) -> None:
    """The highest epoch ever seen is given as a hint, which is enough, also after a month of leads by a fast clock."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        far = SystemClock().time_ms() + 30 * 24 * 3_600_000
        assert await registry.lead("a", 5, far) == far + 1
        await redis.delete(protocol.redis_key(environment, "leader"))
        assert await registry.lead("b", 5, far + 1) == far + 2

    on_registry(redis_url, story)


def test_a_deposed_leader_writes_nothing(redis_url: str) -> None:
    """It writes neither cells nor map nor audit entries, and gets no generation."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        old = await registry.lead("a", 5, 0)
        assert old is not None
        await registry.resign("a")
        new = await registry.lead("b", 5, 0)
        assert new is not None
        slot_map = SlotMap(new, assign(None, {"cell-0000": 1}))
        audit = [AuditEntry(1, "a", "x", "", "y")]
        with pytest.raises(NotLeaderError):
            await registry.write(old, Change([CellRecord("cell-0000", 9)], slot_map, audit=audit))
        with pytest.raises(NotLeaderError):
            await registry.next_generation(old, "cell-0000")
        snapshot = await registry.snapshot()
        assert (snapshot.cells, snapshot.slot_map, await registry.audit(10)) == ({}, None, [])

    on_registry(redis_url, story)


def test_written_cells_map_and_audit_can_be_read(redis_url: str) -> None:
    """This registry and another one read cells, map and audit."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        epoch = await registry.lead("a", 5, 0)
        assert epoch is not None
        cells = [CellRecord("cell-0000", 3, launching=4, launched_at_ms=5, launch_failures=6), CellRecord("cell-0001")]
        slot_map = SlotMap(epoch, assign(None, {"cell-0000": 1, "cell-0001": 1}))
        entries = [AuditEntry(i, "a", "admit", "cell-0000", f"because {i}") for i in range(5)]
        await registry.write(epoch, Change(cells, slot_map, audit=entries))
        for reader in (registry, RedisRegistry(redis, environment, ring(environment), SystemClock())):
            for _ in range(2):  # the second time the map is not sent
                snapshot = await reader.snapshot()
                assert snapshot.cells == {cell.cell_id: cell for cell in cells}
                assert snapshot.slot_map == slot_map
            assert await reader.audit(3) == entries[-3:]

    on_registry(redis_url, story)


class NoResources:
    """CellResources of which none is ever missing."""

    async def ensure(self, cell_id: str) -> Sequence[str]:
        return ()

    async def remove(self, cell_id: str) -> Reason | None:
        return None

    async def with_hold_queues(self) -> Sequence[str]:
        return ()


async def well(cell: CellRecord, snapshot: Snapshot, within_s: float) -> str | None:
    """A canary that always succeeds."""
    return None


@asynccontextmanager
async def leading(registry: RedisRegistry) -> AsyncIterator[None]:
    """Run a controller that leads until the end of the block."""
    config = ControllerConfig("leader", 2, launch_timeout_s=5, lease_ttl_s=2)
    controller = Controller(
        config, registry, ExternalProvisioner(), NoResources(), well, Instances(), SystemClock(), Notes()
    )
    task = asyncio.create_task(controller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_policy_is_changed_only_on_its_newest_version(redis_url: str) -> None:
    """Of two changes made from the same version one is refused; every reader, audit and history show the other."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        other = RedisRegistry(redis, environment, ring(environment), SystemClock())
        assert await registry.policy() == Policy() == (await registry.snapshot()).policy
        wanted = (await registry.policy()).with_limit("k", TenantLimit(5, 2, 1))
        entry = AuditEntry(1, "me", "limit", "", "k")
        async with leading(registry):
            assert await other.change_policy(wanted, entry)
            assert not await other.change_policy(wanted.with_limit("k", None), entry)
        for reader in (registry, other):
            assert (await reader.snapshot()).policy.limit_of("k") == TenantLimit(5, 2, 1)
            assert (await reader.snapshot()).policy.version == 1
        assert [e for e in await registry.audit(10) if e.who == "me"] == [entry]
        assert await registry.history() == [PolicyVersion(replace(wanted, version=1), entry)]
        await redis.delete(protocol.redis_key(environment, "policy"))
        assert (await other.snapshot()).policy == Policy()

    on_registry(redis_url, story)


def test_simultaneous_changes_of_the_policy_are_all_made(redis_url: str) -> None:
    """Six people quarantine a key each at the same time: six keys are in quarantine, with six entries in the audit."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        async def person(number: int) -> None:
            own = RedisRegistry(redis, environment, ring(environment), SystemClock())
            quarantine = Quarantine("by hand", 1)
            audit = AuditEntry(1, f"p{number}", "quarantine", "", f"k{number}")
            await change(own, lambda policy: policy.with_quarantine(f"k{number}", quarantine, 1), audit)

        async with leading(registry):
            await asyncio.gather(*(person(number) for number in range(6)))
        assert set((await registry.policy()).quarantined) == {f"k{number}" for number in range(6)}
        assert len([e for e in await registry.audit(100) if e.action == "quarantine"]) == 6

    on_registry(redis_url, story)


def test_a_change_that_makes_no_sense_is_refused_with_every_reason(redis_url: str) -> None:
    """It changes nothing, and faults that were there before are no reason."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        entry = AuditEntry(1, "me", "pin", "", "k")
        async with leading(registry):
            for _ in range(2):
                wanted = (await registry.policy()).with_pin("k", "cell-0009").with_weight("cell-0001", 1000)
                with pytest.raises(PolicyRefusedError, match=r"'k' is pinned to cell-0009(.|\n)*cell-0001: a weight"):
                    await registry.change_policy(wanted, entry)
            assert await registry.policy() == Policy()

    on_registry(redis_url, story)


def test_without_a_leader_nothing_is_changed_and_nothing_is_left(redis_url: str) -> None:
    """The caller is told, and a leader that comes later does not find the old proposal."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        with pytest.raises(NoLeaderError, match="no controller leads"):
            await registry.change_policy(Policy().with_pin("k", "cell-0000"), AuditEntry(1, "me", "pin", "", "k"))
        assert (await registry.petitions()).proposals == ()
        assert await registry.policy() == Policy()

    on_registry(redis_url, story)


def test_an_unreadable_policy_raises_registry_unavailable_error(redis_url: str) -> None:
    """Routers go on with the last policy that they read."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        await redis.hset(protocol.redis_key(environment, "policy"), mapping={"version": 1, "blob": "garbage"})
        with pytest.raises(RegistryUnavailableError):
            await registry.policy()
        with pytest.raises(RegistryUnavailableError):
            await registry.snapshot()

    on_registry(redis_url, story)


def test_generations_only_grow(redis_url: str) -> None:
    """The controller gives them out or a worker claims them. Each is above the admitted one and the hint."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        epoch = await registry.lead("a", 5, 0)
        assert epoch is not None
        assert await registry.next_generation(epoch, "cell-0000") == 1
        assert await claim_generation(redis, environment, "cell-0000", 0) == 2
        await registry.write(epoch, Change([CellRecord("cell-0000", 7)]))
        assert await registry.next_generation(epoch, "cell-0000") == 8
        assert await claim_generation(redis, environment, "cell-0000", 20) == 21

    on_registry(redis_url, story)


def test_a_lease_is_seen_alive_and_then_ended(redis_url: str) -> None:
    """It is read as the instance wrote it, and ends by the server's clock when the heartbeat stops."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        mine = record(environment)
        heartbeat = Heartbeat(redis, mine, lease_key(mine), 0.5)
        heartbeat.ready = True
        beating = asyncio.create_task(heartbeat.run())

        async def alive() -> bool:
            return any(lease.live and lease.ready for lease in (await registry.snapshot()).leases)

        async def ended() -> bool:
            return not await alive()

        await until(alive, "the lease is alive")
        (lease,) = (await registry.snapshot()).leases
        assert (lease.cell_id, lease.generation, lease.instance_id) == ("cell-0000", 1, mine.instance_id)
        beating.cancel()
        await until(ended, "the lease has ended")
        await heartbeat.release()
        (lease,) = (await registry.snapshot()).leases
        assert lease.released

    on_registry(redis_url, story)


def test_a_second_instance_of_one_generation_is_turned_away(redis_url: str) -> None:
    """An instance is turned away, too, when a higher generation of its cell is admitted."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        first = Heartbeat(redis, record(environment), lease_key(record(environment)), 5)
        beating = asyncio.create_task(first.run())

        async def there() -> bool:
            return bool((await registry.snapshot()).leases)

        await until(there, "the first has its lease")
        with pytest.raises(LeaseLostError, match="another live instance"):
            await Heartbeat(redis, record(environment), lease_key(record(environment)), 5).run()
        beating.cancel()
        epoch = await registry.lead("a", 5, 0)
        assert epoch is not None
        await registry.write(epoch, Change([CellRecord("cell-0000", 2)]))
        with pytest.raises(LeaseLostError, match="higher generation"):
            await first.run()

    on_registry(redis_url, story)


def test_a_heartbeat_learns_that_its_generation_is_admitted(redis_url: str) -> None:
    """Only the generation in the cell's record tells it so: neither a missing record nor its own launch does."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        heartbeat = Heartbeat(redis, record(environment, 2), lease_key(record(environment, 2)), 0.5)
        beating = asyncio.create_task(heartbeat.run())
        epoch = await registry.lead("a", 5, 0)
        assert epoch is not None

        async def beats(count: int) -> None:
            enough = heartbeat._beats + count

            async def counted() -> bool:
                return heartbeat._beats >= enough

            await until(counted, "it has beaten")

        await beats(2)
        await registry.write(epoch, Change([CellRecord("cell-0000", 1, launching=2, launched=2)]))
        await beats(2)
        assert not heartbeat.admitted.is_set()
        await registry.write(epoch, Change([CellRecord("cell-0000", 2, launched=2, fence=7)]))
        await beats(2)
        assert heartbeat.admitted.is_set()
        assert heartbeat._fence.epoch == 7
        beating.cancel()

    on_registry(redis_url, story)


def test_leases_with_a_wrong_signature_or_environment_are_not_seen(redis_url: str) -> None:
    """Garbage is not seen either, and the honest lease is still read."""

    async def story(registry: RedisRegistry, redis: Redis, environment: str) -> None:
        beats = [
            Heartbeat(redis, record(environment, 1), lease_key(record(environment, 1)), 5),
            Heartbeat(redis, record(environment, 2), lease_key(record(environment, 2), OTHER_SECRET), 5),
        ]
        tasks = [asyncio.create_task(beat.run()) for beat in beats]
        leases = protocol.redis_key(environment, "leases")
        foreign = protocol.sign_record(record("elsewhere", 3), lease_key(record("elsewhere", 3)))
        lease = protocol.Lease(9_000_000_000_000, ready=True, record=foreign)
        places = [field_of(environment, "cell-0000", generation) for generation in (3, 4)]
        await redis.hset(leases, mapping=dict(zip(places, (msgspec.json.encode(lease), b"garbage"), strict=True)))

        async def all_there() -> bool:
            return int(await redis.hlen(leases)) == 4

        await until(all_there, "all four are written")
        assert [lease.generation for lease in (await registry.snapshot()).leases] == [1]
        for task in tasks:
            task.cancel()

    on_registry(redis_url, story)


def test_an_unreachable_registry_raises_registry_unavailable_error() -> None:
    """Every call raises RegistryUnavailableError."""

    async def story() -> None:
        async with connect("redis://127.0.0.1:1") as redis:
            registry = RedisRegistry(redis, "test", ring("test"), SystemClock())
            for call in (registry.snapshot(), registry.lead("a", 1, 0), registry.audit(1), registry.write(1, Change())):
                with pytest.raises(RegistryUnavailableError):
                    await call

    run(story())


@pytest.mark.parametrize("who", ["worker", "router"])
def test_a_cancellation_is_never_lost(redis_url: str, who: str) -> None:
    """It may come at any step of a call. A loop that outlived its cancellation would keep a process from stopping."""

    async def story(registry: RedisRegistry, _redis: Redis, environment: str) -> None:
        async def ask() -> None:
            for _ in range(1000):  # ends the loop even if the cancellation is lost
                await (claim_generation(redis, environment, "cell-0000", 0) if who == "worker" else registry.snapshot())

        async with connect(redis_url) as redis:
            for steps in range(200):
                task = asyncio.create_task(ask())
                for _ in range(steps):
                    await asyncio.sleep(0)  # noqa: TID251 - one step of the event loop
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled(), f"cancelled after {steps} steps of the event loop"

    on_registry(redis_url, story)
