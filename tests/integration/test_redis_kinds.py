"""Registry and heartbeat behave the same on every kind of Redis that is supported."""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cell_worker.contract import protocol
from cell_worker.contract.keys import cell_secret
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat, claim_generation
from cell_worker.settings import WorkerSettings
from router.adapters.clock import SystemClock
from router.adapters.redis import scripts
from router.adapters.redis.registry import RedisRegistry
from router.core.detection.assessment import Assessment
from router.core.detection.samples import RouterSample
from router.core.errors import RegistryUnavailableError
from router.core.models import CellRecord, RouterReport
from router.core.policy import Ruling, TenantLimit
from router.core.registry import AuditEntry, Change, Condition, PolicyVersion
from router.core.slot_map.slots import SlotMap, assign
from router.settings import check
from tests.support import redis_kinds as kinds
from tests.support.aio import run, until
from tests.support.keys import SECRET, lease_key, ring

CELL: Final = "cell-0000"
ENTRY: Final = AuditEntry(1, "me", "a change", CELL, "why not")
CALL: Final = re.compile(r"redis\.call\('(\w+)'")
LIMIT_S: Final = 2.5
"""How long a call may take, with a margin: the registry gives up after 2 s."""

SERVERS: Final = (kinds.valkey, kinds.redis_6_2, kinds.redis_7)
REFUSED: Final = {
    "router": ("HSET :cells f v", "HSET :map f v", "HSET :policy f v", "HSET :leader f v", "HSET :rulings f v"),
    "controller": ("HSET :leases f v", "HSET :routers f v", "HSET :samples f v", "DEL :map", "DEL :audit"),
    "cell": ("HSET :map f v", "HSET :policy f v", "HSET :leader f v", "HSET :cells f v", "HGET :policy f"),
    "operator": ("HSET :policy f v", "HSET :cells f v", "HSET :leader f v", "XADD :audit * f v", "DEL :policy"),
}
"""A word that begins with a colon stands for a key of the environment."""
REFUSED_ALL: Final = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "ACL LIST",
    "KEYS *",
    "SCRIPT FLUSH",
    "HGET other f",
    "GET x",
)


@dataclass
class World:
    """An environment as each part of the system sees it, each part on its own connection."""

    environment: str
    router: RedisRegistry
    controller: RedisRegistry
    operator: RedisRegistry
    cell: Redis

    def key(self, name: str) -> str:
        """The name of a key of the environment."""
        return protocol.redis_key(self.environment, name)


@asynccontextmanager
async def world(url_of: Callable[[str], str], environment: str = "") -> AsyncIterator[World]:
    """Connect every part by its URL."""
    environment = environment or f"test-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        redis = {part: connect(url_of(part)) for part in ("router", "controller", "operator")}
        redis["cell"] = connect(url_of("cell"))
        for each in redis.values():
            stack.push_async_callback(each.aclose)
        registries = {
            part: RedisRegistry(redis[part], environment, ring(environment), SystemClock())
            for part in ("router", "controller", "operator")
        }
        yield World(environment, **registries, cell=redis["cell"])


async def story(world: World) -> None:
    """Do everything that the parts do."""
    await life(world)
    await notices(world)


async def life(world: World) -> None:
    """Lead, write a cell, a router and a change of the policy by an operator, and resign."""
    for registry in (world.controller, world.router, world.operator):
        await back(registry)  # its first call may be too late on a busy machine: TLS, and what the cluster is
    epoch = await world.controller.lead("a", 30, 0)
    assert epoch is not None
    given = await world.controller.next_generation(epoch, CELL)
    generation = await claim_generation(world.cell, world.environment, CELL, 0)
    assert generation == given + 1
    slot_map = SlotMap(epoch, assign(None, {CELL: 1}))
    await world.controller.write(epoch, Change(cells=[CellRecord(CELL, generation)], slot_map=slot_map, audit=[ENTRY]))
    async with beating(world, generation):
        await world.router.report(RouterReport("r", epoch, quiet=True), 30)
        snapshot = await world.controller.snapshot()
        assert [(view.live, view.report.epoch) for view in snapshot.routers] == [(True, epoch)]
        assert (snapshot.slot_map, snapshot.cells[CELL].generation, snapshot.leader) == (slot_map, generation, "a")
        await policy_change(world, epoch)
        await dashboard(world, epoch)
        await world.router.offer(SlotMap(epoch + 1, slot_map.owners), await world.router.policy())
        offered = (await world.controller.petitions()).slot_map
        assert offered is not None
        assert offered.epoch == epoch + 1
        await world.controller.write(epoch, Change(slot_map=slot_map))
        assert (await world.controller.petitions()).slot_map is None
    await world.router.report(RouterReport("r", epoch, quiet=True), 0)
    snapshot = await world.router.snapshot()
    assert {(lease.live, lease.released) for lease in snapshot.leases} == {(False, True)}
    assert snapshot.routers == ()
    await world.controller.resign("a")
    assert (await world.operator.snapshot()).leader == ""
    assert (await world.operator.audit(1))[-1].action == "limit"


async def dashboard(world: World, epoch: int) -> None:
    """A router and a controller read what their dashboards show."""
    condition = Condition(1, 1, Assessment(CELL))
    await world.controller.note_conditions(epoch, {CELL: condition})
    await world.router.note_sample("r", RouterSample(1, 0.0, {}))
    for reader in (world.router, world.controller):
        found = await reader.conditions()  # which are of the moment that they were written
        assert {cell_id: replace(each, at_ms=condition.at_ms) for cell_id, each in found.items()} == {CELL: condition}
        assert set(await reader.samples()) == {"r"}
        assert await reader.audit(1)


@asynccontextmanager
async def beating(world: World, generation: int) -> AsyncIterator[None]:
    """A ready instance takes its lease, and releases it at the end."""
    record = protocol.InstanceRecord(world.environment, CELL, generation, uuid.uuid4().hex, "127.0.0.1:1", 16, 0)
    heartbeat = Heartbeat(world.cell, record, lease_key(record), 30)
    heartbeat.ready = True
    beats = asyncio.create_task(heartbeat.run())

    async def alive() -> bool:
        leases = (await world.router.snapshot()).leases
        return any(lease.live and lease.ready and lease.generation == generation for lease in leases)

    await until(alive, "the lease is alive")
    yield
    beats.cancel()
    await asyncio.wait([beats])
    await heartbeat.release()


async def policy_change(world: World, epoch: int) -> None:
    """An operator wants a limit, the leader puts it in force, and routers see it."""
    before = await world.operator.policy()
    wanted = before.with_limit("k", TenantLimit(5, 2, before.version + 1))
    entry = AuditEntry(2, "operator", "limit", "", "k")
    change = asyncio.create_task(world.operator.change_policy(wanted, entry))

    async def asked() -> bool:
        return bool((await world.controller.petitions()).proposals)

    await until(asked, "the proposal is there")
    (proposal,) = (await world.controller.petitions()).proposals
    ruling = Ruling(proposal.proposal_id, accepted=True)
    in_force = replace(proposal.policy, version=before.version + 1)
    await world.controller.write(epoch, Change(policy=in_force, rulings=[ruling], audit=[entry]))
    assert await change
    assert (await world.router.snapshot()).policy.version == in_force.version
    assert (await world.operator.history())[-1] == PolicyVersion(in_force, entry)


async def notices(world: World) -> None:
    """Routers and controllers hear of a change immediately, by a channel."""
    for listener in (world.router, world.controller):
        await listener.changed(0.2)  # the first time it subscribes
        waiting = asyncio.create_task(listener.changed(60))

        async def told(waiting: asyncio.Task[None] = waiting) -> bool:
            await world.controller._redis.publish(world.key("changes"), "x")
            return waiting.done()

        await until(told, "the change is heard of")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server in a container can see."""
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        yield Path(name)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_single_server(kind: kinds.Kind, folder: Path) -> None:
    """An address alone is enough to connect."""
    with kind(folder) as port:
        kinds.until_answers(kinds.url_of(port))
        on_world(by(kinds.url_of(port)), story)


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_tls_with_client_certificates(folder: Path, scheme: str) -> None:
    """The URL's parameters name the files; without the authority or the client's certificate nobody can connect."""
    certificates = kinds.make_certificates(folder)
    parameters = kinds.tls_parameters(certificates)
    options = [*kinds.tls_options(certificates), *(kinds.CLUSTER_OF_ONE if "cluster" in scheme else ())]
    with kinds.redis_7(folder, *options) as port:
        kinds.until_answers(kinds.url_of(port, "rediss", parameters=parameters))
        if "cluster" in scheme:
            kinds.take_every_slot(kinds.url_of(port, "rediss", parameters=parameters))
        on_world(by(kinds.url_of(port, scheme, parameters=parameters)), story)
        nothing: dict[str, Path] = {}
        for wrong in (nothing, {"ssl_ca_certs": parameters["ssl_ca_certs"]}):
            on_world(by(kinds.url_of(port, scheme, parameters=wrong)), is_out_of_reach)
        on_world(by(kinds.url_of(port, scheme.replace("rediss", "redis"))), is_out_of_reach)


@pytest.mark.parametrize(("kind", "scheme"), [*((kind, "redis") for kind in SERVERS), (kinds.valkey, "redis+cluster")])
def test_each_user_may_do_its_part_and_no_more(kind: kinds.Kind, scheme: str, folder: Path) -> None:
    """The users are those of the very file that is shipped."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    options = ["--aclfile", str(kinds.users_file(folder, environment))]
    with kind(folder, *options, *(kinds.CLUSTER_OF_ONE if "cluster" in scheme else ())) as port:
        admin = kinds.url_of(port, user=kinds.ADMIN)
        kinds.until_answers(admin)
        if "cluster" in scheme:
            kinds.take_every_slot(admin)
        on_world(lambda part: kinds.url_of(port, scheme, f"cellrouter-{part}"), story, environment)
        on_world(by(kinds.url_of(port, scheme)), is_out_of_reach)
        run(refusals(lambda part: kinds.url_of(port, user=f"cellrouter-{part}"), environment))


async def refusals(url_of: Callable[[str], str], environment: str) -> None:
    """Check that a script can't do either what the user may not do."""
    for part, commands in REFUSED.items():
        async with connect(url_of(part)) as redis:
            for command in (*commands, *REFUSED_ALL):
                words = [
                    protocol.redis_key(environment, word[1:]) if word.startswith(":") else word
                    for word in command.split()
                ]
                with pytest.raises(ResponseError, match=r"(?i)permission"):
                    await redis.execute_command(*words)  # type: ignore[no-untyped-call]
                if len(words) > 2:
                    script = redis.register_script("return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))")
                    with pytest.raises(ResponseError, match=r"(?i)permission|can't run this command"):
                        await script(keys=words[1:2], args=[words[0], *words[2:]])


def test_a_cluster_whose_scripts_are_forgotten() -> None:
    """Scripts are sent again, as after a restart. A server that is no cluster raises RegistryUnavailableError."""
    with kinds.cluster() as cluster:

        async def twice(world: World) -> None:
            for _ in range(2):
                await story(world)
                cluster.forget_scripts()

        on_world(by(cluster.url), twice)
    on_world(by("redis+cluster://127.0.0.1:1"), is_out_of_reach)


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_a_cluster_that_fails_over(how: str) -> None:
    """The replica has the data but no script. No call exceeds its limit, and clients find the replica."""
    with kinds.cluster() as cluster:

        async def failover(world: World) -> None:
            await life(world)
            owner = cluster.owner_of(world.key("map"))
            replica = cluster.copy(owner)
            before = await world.router.snapshot()
            owner.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            await asyncio.gather(*(back(registry) for registry in (world.router, world.controller, world.operator)))
            assert replica.say("ROLE")[0] == "master"
            assert (await world.router.snapshot()).slot_map == before.slot_map
            await story(world)

        on_world(by(cluster.url), failover)


async def back(registry: RedisRegistry) -> None:
    """Wait until the registry answers again."""
    clock = SystemClock()

    async def answers() -> bool:
        began = clock.monotonic()
        try:
            await registry.snapshot()
        except RegistryUnavailableError:
            assert clock.monotonic() - began < LIMIT_S
            return False
        return True

    await until(answers, "the registry is back", 40)


def test_a_cancellation_is_never_lost_in_a_cluster() -> None:
    """A cancelled call ends, as on a single server, and no answer is mistaken for that of another call."""
    with kinds.cluster() as cluster:

        async def cancellations(world: World) -> None:
            highest = 0

            async def claims() -> None:
                nonlocal highest
                for _ in range(1000):  # ends the loop even if the cancellation is lost
                    generation = await claim_generation(world.cell, world.environment, CELL, 0)
                    assert generation > highest
                    highest = generation

            for steps in range(0, 200, 2):
                task = asyncio.create_task(claims())
                for _ in range(steps):
                    await asyncio.sleep(0)  # noqa: TID251 - one step of the event loop
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled(), f"cancelled after {steps} steps of the event loop"

        on_world(by(cluster.url), cancellations)


def on_world(url_of: Callable[[str], str], tale: Callable[[World], Awaitable[None]], environment: str = "") -> None:
    """Run a story with every part connected by its URL."""

    async def main() -> None:
        async with world(url_of, environment) as made:
            await tale(made)

    run(main(), 120)


def by(url: str) -> Callable[[str], str]:
    """Give every part the same URL."""
    return lambda _: url


async def is_out_of_reach(world: World) -> None:
    """Check that every call raises RegistryUnavailableError."""
    with pytest.raises(RegistryUnavailableError):
        await world.router.snapshot()


def test_no_script_needs_more_than_6_2() -> None:
    """Redis 6.2 may be missing here, so this test checks that it knows every command that the scripts use."""
    old = {"TIME", "HGET", "HMGET", "HGETALL", "HKEYS", "HLEN", "HSCAN", "HSET", "HDEL", "DEL", "XADD", "PUBLISH"}
    old |= {"TYPE", "UNLINK"}
    assert set(CALL.findall(inspect.getsource(scripts))) <= old


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("redis://host:1/0", True),
        ("rediss://user:password@host:1?ssl_ca_certs=/ca.crt", True),
        ("unix:///run/redis.sock", True),
        ("redis+cluster://host:1", True),
        ("rediss+cluster://user:password@host:1?ssl_ca_certs=/ca.crt", True),
        ("unix+cluster:///run/redis.sock", False),
        ("http://user:password@host", False),
    ],
)
def test_both_settings_take_the_same_addresses(url: str, good: bool) -> None:
    """A fault never shows the password."""
    router, faults = check({"CELLROUTER_SECRET": SECRET, "CELLROUTER_REDIS_URL": url})
    worker = {
        "id": CELL,
        "secret": cell_secret(SECRET, "live", CELL),
        "handler": "tests.support.trivial:handle",
        "redis_url": url,
    }
    try:
        WorkerSettings.model_validate(worker)
    except ValidationError as error:
        faults += [details["msg"] for details in error.errors()]
    assert (router is not None, len(faults)) == (good, 0 if good else 2), faults
    assert "password@" not in str(faults)
