"""Bad values in the registry, on a real server: each is passed over, told once, and costs only its own part."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cell_worker.contract import protocol
from cell_worker.lease import LeaseLostError, claim_generation
from router.adapters.redis.records import WireProposal
from router.core.detection.samples import RouterSample
from router.core.models import CellRecord, RouterReport, Traffic
from router.core.policy import Policy, TenantLimit
from router.core.registry import AuditEntry, Change
from router.core.slot_map.slots import SlotMap, assign
from router.core.telemetry import BadInput
from tests.support.aio import until
from tests.support.bad_registry import CELL, OTHER, World, on
from tests.support.keys import OTHER_SECRET, SECRET, lease_key

DEEP = b'{"x":' + b"[" * 7000 + b"]" * 7000 + b"}"
POISONED = b'{"cell_id":"cell-0002","generation":9223372036854775807,"fence":1e300}'
GARBAGE = [b"{", b"[]", b"null", b"\xff", b"", DEEP, POISONED]


@pytest.mark.parametrize("value", GARBAGE)
def test_a_bad_cell_record_costs_that_cell_and_is_told_once(redis_url: str, value: bytes) -> None:
    """The other cells are read; the leader finds none there, and goes on from sane generations."""

    async def story(world: World) -> None:
        epoch = await world.lead()
        await world.registry.write(epoch, Change([CellRecord(OTHER, 3), CellRecord(CELL, 7, launched=7)]))
        assert [await world.registry.next_generation(epoch, CELL) for _ in range(2)] == [8, 9]
        await world.put("cells", CELL, value)
        for _ in range(3):
            assert set((await world.registry.snapshot()).cells) == {OTHER}
        assert [(bad.source, bad.name) for bad in world.told if isinstance(bad, BadInput)] == [("cell record", CELL)]
        assert await world.registry.next_generation(epoch, CELL) == 10
        assert await claim_generation(world.redis, world.environment, CELL, 20) == 21

    on(redis_url, story)


@pytest.mark.parametrize("value", [b"9223372036854775807", b"1e300", b"nan", b"-5", b"\xff"])
def test_a_poisoned_generation_is_no_generation(redis_url: str, value: bytes) -> None:
    """The next one is above what the cell's record and the caller know."""

    async def story(world: World) -> None:
        epoch = await world.lead()
        await world.registry.write(epoch, Change([CellRecord(CELL, 7, launched=9)]))
        await world.put("generations", CELL, value)
        assert await world.registry.next_generation(epoch, CELL) == 10
        await world.put("generations", CELL, value)
        claim = asyncio.create_task(claim_generation(world.redis, world.environment, CELL, 30))

        async def claimed() -> bool:
            await world.lead()  # a controller mends what a worker may not
            return claim.done()

        await until(claimed, "a generation is claimed")
        assert await claim == 31

    on(redis_url, story)


@pytest.mark.parametrize("value", GARBAGE)
def test_an_instance_renews_its_lease_whatever_lies_beside_it(redis_url: str, value: bytes) -> None:
    """Neither the cell's record, nor another lease of the cell, nor what lies in its own field is in its way."""

    async def story(world: World) -> None:
        heartbeat = world.heartbeat(3)
        for place, field in (
            ("cells", CELL),
            ("leases", world.field(1)),
            ("leases", world.field(3)),
            ("leases", b"\xff"),
        ):
            await world.put(place, field, value)
        beating = asyncio.create_task(heartbeat.run())

        async def read() -> bool:
            return [lease.generation for lease in (await world.registry.snapshot()).leases] == [3]

        await until(read, "the lease is renewed and believed")
        assert not beating.done()
        assert heartbeat._fence.epoch == 0
        beating.cancel()
        await heartbeat.release()
        assert [lease.released for lease in (await world.registry.snapshot()).leases] == [True]

    on(redis_url, story)


def test_a_bad_proposal_blocks_none_after_it(redis_url: str) -> None:
    """Neither one that can't be read, nor one under an id that is no text."""

    async def story(world: World) -> None:
        audit = AuditEntry(1, "a person", "limit", "", "")
        good = msgspec.json.encode(WireProposal(Policy(limits={"k": TenantLimit(concurrency=1)}), audit))
        bad = good.replace(b'"at_ms":1', b'"at_ms":18446744073709551616')
        for name, value in ((b"\xff", good), (b"i" * 5000, good), (b"deep", DEEP), (b"late", bad), (b"good", good)):
            await world.put("proposals", name, value)
        for _ in range(2):
            assert [each.proposal_id for each in (await world.registry.petitions()).proposals] == ["good"]
        names = [told.name for told in world.told if isinstance(told, BadInput)]
        assert sorted(names) == ["\\xff", "deep", "i" * 200, "late"]

    on(redis_url, story)


@pytest.mark.parametrize("value", [*GARBAGE, b'{"at_ms":1,"said":{}}', b'{"expires_at_ms":1e300,"report":{}}'])
def test_a_bad_word_of_a_router_costs_only_that_router(redis_url: str, value: bytes) -> None:
    """Its report, its sample and its traffic are passed over; the others' are written and read."""

    async def story(world: World) -> None:
        for name in ("routers", "samples", "traffic"):
            await world.put(name, "bad", value)
            await world.put(name, b"\xff", value)
        await world.registry.report(RouterReport("good", 5, quiet=True), 30)
        await world.registry.note_sample("good", RouterSample(1, 0.0, {}))
        await world.registry.note_traffic("good", {CELL: Traffic(1, 1)})
        assert [each.report.router_id for each in (await world.registry.snapshot()).routers] == ["good"]
        assert set(await world.registry.samples()) == {"good"}
        assert await world.registry.traffic() == [{CELL: Traffic(1, 1)}]

    on(redis_url, story)


@pytest.mark.parametrize("signed_by", ["nobody", "another secret", "another place", "another environment"])
def test_a_false_lease_in_the_place_of_its_own_ends_no_instance(redis_url: str, signed_by: str) -> None:
    """A cell's Redis user may write it. The instance writes over it; a true one, of a twin, ends it."""

    async def story(world: World) -> None:
        heartbeat = world.heartbeat(3)
        record = protocol.InstanceRecord(world.environment, CELL, 3, "other", "127.0.0.1:1", 16, 0)
        if signed_by == "another place":
            record = msgspec.structs.replace(record, generation=4)
        if signed_by == "another environment":
            record = msgspec.structs.replace(record, environment="other")
        secret = OTHER_SECRET if signed_by == "another secret" else SECRET
        await world.put("leases", world.field(3), signed_lease(record, secret, signed=signed_by != "nobody"))
        renewing = asyncio.create_task(heartbeat.run())

        async def is_ours() -> bool:
            return bool((await world.registry.snapshot()).leases)

        await until(is_ours, "its own lease is there")
        assert not renewing.done()
        twin = protocol.InstanceRecord(world.environment, CELL, 3, "twin", "127.0.0.1:1", 16, 0)
        await world.put("leases", world.field(3), signed_lease(twin, SECRET))
        with pytest.raises(LeaseLostError, match="another live instance"):
            await renewing

    on(redis_url, story)


def signed_lease(record: protocol.InstanceRecord, secret: str, *, signed: bool = True) -> bytes:
    """Make a live lease, as an instance or a forger writes it."""
    key = lease_key(record, secret)
    lease = protocol.Lease(2**52, ready=True, record=protocol.sign_record(record, key), beat=1)
    proof = protocol.beat_proof(lease, key) if signed else "none"
    return msgspec.json.encode(msgspec.structs.replace(lease, proof=proof))


@pytest.mark.parametrize("value", GARBAGE)
def test_a_bad_leader_map_or_policy_counts_as_lost(redis_url: str, value: bytes) -> None:
    """Then whoever remembers it writes it again, as after the loss of Redis; the lead is taken above the old epoch."""

    async def story(world: World) -> None:
        epoch = await world.lead()
        slot_map = SlotMap(epoch, assign(None, {CELL: 1}))
        change = Change(slot_map=slot_map, policy=Policy(version=3), audit=[AuditEntry(1, "a", "b", "", "c")])
        await world.registry.write(epoch, change)
        assert (await world.registry.snapshot()).slot_map == slot_map
        for name in ("map", "policy"):
            await world.put(name, "blob", value)
            await world.put(name, "epoch" if name == "map" else "version", b"9223372036854775807")
        for field in ("epoch", "expires_at_ms", "owner"):
            await world.put("leader", field, value)
        for _ in range(2):
            snapshot = await world.registry.snapshot()
            assert (snapshot.slot_map, snapshot.policy.version) == (None, 0)
        again = await world.registry.lead("b", 30, epoch)
        assert again is not None
        assert again > epoch
        await world.registry.write(again, change)
        assert (await world.registry.snapshot()).slot_map == slot_map

    on(redis_url, story)


@pytest.mark.parametrize("value", GARBAGE)
def test_what_people_ask_for_is_read_without_what_is_bad(redis_url: str, value: bytes) -> None:
    """The audit stream, the policy's history and the cells' conditions."""

    async def story(world: World) -> None:
        epoch = await world.lead()
        entry = AuditEntry(1, "a", "b", "", "c")
        await world.registry.write(epoch, Change(policy=Policy(version=1), audit=[entry]))
        await world.redis.xadd(world.key("audit"), {"entry": value})
        await world.redis.xadd(world.key("audit"), {"other": value})
        await world.put("history", "2", value)
        await world.put("conditions", CELL, value)
        await world.put("conditions", "at", value)
        assert await world.registry.audit(10) == [entry]
        assert [each.policy.version for each in await world.registry.history()] == [1]
        assert await world.registry.conditions() == {}

    on(redis_url, story)
