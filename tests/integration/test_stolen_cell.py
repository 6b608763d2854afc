"""What somebody can do to Redis with the cells' user of the ACL file that is shipped, tried with every command."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import _NAMES, RedisRegistry
from router.core.models import CellRecord
from router.core.registry import Change
from router.core.slot_map.slots import SlotMap, assign
from router.services.data_plane.routing import routing_of
from router.services.leases import Leases
from tests.support import redis_kinds as kinds
from tests.support.aio import run, until
from tests.support.keys import field_of, lease_key, ring
from tests.support.router_world import Notes

SECRET: Final = "a-secret-for-tests"
VICTIM, OTHERS = "cell-0000", ("cell-0001", "cell-0002")
TTL_S: Final = 0.5
LOOKS: Final = 40
ANYBODY: Final = {"auth", "hello", "quit", "reset"}
"""These need no permission, since who has not logged in yet uses them."""
HARMLESS: Final = {"ping", "time", "command", "cluster|slots", "asking"}
ITS_OWN: Final = {
    *(("hget", "leases"), ("hstrlen", "leases"), ("hset", "leases")),
    *(("hget", "cells"), ("hstrlen", "cells"), ("hincrby", "generations")),
}
"""All that a cell can do with keys. SECURITY.md has the same list."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server in a container can see."""
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        yield Path(name)


def commands_of(redis: Redis) -> Iterator[tuple[str, list[str], int]]:
    """Every command of the server and every part of one: its name, its words, and how many more it needs."""
    connection = redis.connection_pool.get_connection()  # for the answer as it is
    connection.send_command("COMMAND")  # type: ignore[no-untyped-call] # of redis-py
    for info in connection.read_response():
        parts: list[Any] = info[9] if len(info) > 9 else []
        for name, arity in [(info[0], info[1]), *((part[0], part[1]) for part in parts)]:
            text = name.decode()
            yield text, text.split("|"), abs(arity) - len(text.split("|"))
    yield "cluster|slots", ["cluster", "slots"], 0  # Redis 6.2 doesn't list the parts of commands


def allowed(port: int, words: list[str]) -> bool:
    """Whether the server executes the command for the cells' user, if only to find a fault in its words."""
    with Redis.from_url(kinds.url_of(port, user="cellrouter-cell"), socket_timeout=10) as redis:
        try:
            connection = redis.connection_pool.get_connection()
            connection.send_command(*words)
            connection.read_response()
        except NoPermissionError:
            return False
        except RedisError as error:
            # Nobody may load modules or debug, and what comes after a name that has parts is looked at first.
            return not any(said in str(error) for said in ("NOPERM", "command not allowed", "unknown subcommand"))
    return True


@pytest.mark.parametrize("kind", [kinds.valkey, kinds.redis_6_2, kinds.redis_7])
def test_every_command_on_every_key_is_refused_but_a_few(kind: kinds.Kind, folder: Path) -> None:
    """No script, no function, no listing, no channel, and nothing that takes longer than a moment."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    with kind(folder, "--aclfile", str(kinds.users_file(folder, environment))) as port:
        admin = kinds.url_of(port, user=kinds.ADMIN)
        kinds.until_answers(admin)
        with Redis.from_url(admin) as redis:
            commands = list(commands_of(redis))
        assert len(commands) > 200
        keys = {name: protocol.redis_key(environment, name) for name in (*_NAMES, "other")} | {"foreign": "foreign"}
        free, keyed = set(), set()
        for name, words, wanted in commands:
            if not wanted and allowed(port, words):
                free.add(name)
            keyed |= {(name, key) for key, full in keys.items() if wanted and allowed(port, words + [full] * wanted)}
        # A command whose permission doesn't depend on the key is free.
        free |= {name for name, _ in keyed if {key for n, key in keyed if n == name} == keys.keys()}
        keyed = {(name, key) for name, key in keyed if name not in free}
        assert {name for name in free if not name.startswith("command|")} <= ANYBODY | HARMLESS
        assert keyed == ITS_OWN


def test_who_takes_a_lease_away_takes_no_target_away(folder: Path) -> None:
    """Somebody who knows its field writes over a lease all the time: routers keep sending that cell its events."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    leases, field = protocol.redis_key(environment, "leases"), field_of(environment, VICTIM, 1)

    async def story(port: int) -> None:
        url = kinds.url_of(port, user="cellrouter-cell")
        async with connect(url) as cell, connect(url) as thief, connect(kinds.url_of(port, user=kinds.ADMIN)) as redis:
            registry = RedisRegistry(redis, environment, ring(environment), SystemClock())
            epoch = await registry.lead("a", 60, 0)
            assert epoch is not None
            slot_map = SlotMap(epoch, assign(None, {VICTIM: 1}))
            await registry.write(epoch, Change([CellRecord(c, 1) for c in (VICTIM, *OTHERS)], slot_map))
            beating = [asyncio.create_task(beat(cell, environment, c).run()) for c in (VICTIM, *OTHERS)]
            trust, routing = Leases(TTL_S, Notes()), None

            async def look() -> bool:
                nonlocal routing
                snapshot = await registry.snapshot()
                doubted = trust.read(SystemClock().monotonic(), snapshot, whole=True)
                routing = routing_of(snapshot, routing, doubted)
                return trust.trusted and routing is not None and len(routing.targets) == 3

            await until(look, "all three are targets")

            async def steal() -> None:
                while True:
                    await thief.hset(leases, field, b"x")
                    await SystemClock().sleep(0.002)

            stealing = asyncio.create_task(steal())
            for _ in range(LOOKS):
                await look()
                assert routing is not None
                assert VICTIM in routing.targets
                await SystemClock().sleep(0.05)
            for task in (stealing, *beating):
                assert not task.done()
                task.cancel()

    with kinds.valkey(folder, "--aclfile", str(kinds.users_file(folder, environment))) as port:
        run(story(port))


def beat(redis: Any, environment: str, cell_id: str) -> Heartbeat:
    """The heartbeat of a cell's first instance."""
    record = protocol.InstanceRecord(environment, cell_id, 1, uuid.uuid4().hex, "127.0.0.1:1", 16, 0)
    heartbeat = Heartbeat(redis, record, lease_key(record), TTL_S)
    heartbeat.ready = True
    return heartbeat
