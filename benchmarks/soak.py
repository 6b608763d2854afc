"""One part's fault stays its own: faults of every kind, one after the other, beside a steady load.

Real processes run on MiniStack and Valkey: routers, two controllers, and two routers whose log nobody reads. The faults
are aimed at one cell, at Redis, at the run directory and at the leader. What counts is the others: nothing lost or done
twice, no key moved, no process ended that was not attacked, and their latency beside that of the quiet times between.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis

from benchmarks.figures import p99
from benchmarks.processes import BenchError
from benchmarks.world import Options, pause
from cell_worker.contract.protocol import Fault, FaultKind, redis_key
from router.core.errors import CellUnavailableError
from router.core.models import Draft
from tests.support.servers import free_port, ministack, valkey
from tests.support.sick_system import SickSystem, now_ms
from tests.support.system import System

Spans: TypeAlias = dict[str, list[tuple[int, int]]]
"""From when to when something was done, in milliseconds, by its name."""

VICTIM: Final = "cell-0000"
QUIET: Final = "quiet"
QUIET_S: Final = 40.0  # before each round of faults, to compare with: what the machine does changes within minutes
FAULT_S: Final = 8.0  # how long a fault lasts that has a length
PAUSE_S: Final = 4.0  # between two faults
GARBAGE: Final = (b"{", b"\xff", b'{"x":' + b"[" * 7000 + b"]" * 7000 + b"}", b'{"generation":9223372036854775807}')
HASHES: Final = ("leases", "cells", "routers", "samples", "generations")
SETTLE_S: Final = 120.0  # for everything to be done, before keys that are still in quarantine are released by hand
RELEASED_S: Final = 120.0  # for what waited in quarantine then, and again for what was redriven
LOOKED_S: Final = 6.0  # for which a dead letter that was read stays out of sight
P99_GOAL: Final = 1.2
SETTINGS: Final = {
    "CELLROUTER_SOURCE_POLLERS": "10",  # MiniStack looks for messages for a long poll only every 100 ms
    "CELLROUTER_RETRY_QUARANTINE_S": "20",
}


class Soak:
    """A system under load, and all that is done to hurt it."""

    def __init__(self, world: SickSystem, redis: Redis) -> None:
        self.world = world
        self.number = 0  # of faults so far
        self.sent_evil: set[str] = set()
        self._redis = redis
        self._run_folder = world.system.directory / "data" / "run"

    async def garbage(self) -> None:
        """Write what can't be read into the registry, as anybody can who reaches Redis."""
        for value in GARBAGE:
            for name in HASHES:
                await self._redis.hset(redis_key(self.world.system.name, name), f"bad-{self.number}", value)

    async def killer(self) -> None:
        """Send an event that kills each instance that works on it."""
        await self._send_evil("die")

    async def hanger(self) -> None:
        """Send an event that stops the whole process of each instance that works on it, and locks its store."""
        await self._send_evil("hang")

    async def crash(self) -> None:
        """Kill the victim's instance."""
        self.world.system.kill(VICTIM)

    async def malformed(self) -> None:
        """Let the victim's instance answer with garbage."""
        await self._inject(Fault(FaultKind.GARBAGE, FAULT_S))

    async def slow(self) -> None:
        """Make the victim's instance slow."""
        await self._inject(Fault(FaultKind.SLOW, FAULT_S, factor=5))

    async def out_of_memory(self) -> None:
        """Let Redis refuse writes because its memory is used up."""
        await self._configure("maxmemory", "1")

    async def no_replicas(self) -> None:
        """Let Redis refuse writes because it has too few replicas."""
        await self._configure("min-replicas-to-write", "1")

    async def read_only(self) -> None:
        """Let Redis refuse writes because it is a replica, as after a failover."""
        await self._redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        await pause(FAULT_S)
        await self._redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]

    async def run_directory(self) -> None:
        """Put what can't be read among the files that tell of running instances."""
        (self._run_folder / f"backup-{self.number}.pid").mkdir()
        (self._run_folder / f"cell-9999.{self.number}.pid").write_bytes(os.urandom(100))

    def clear_run_directory(self) -> None:
        """Take out again what can't be read."""
        for path in self._run_folder.glob("backup-*.pid"):
            path.rmdir()
        for path in self._run_folder.glob("cell-9999.*"):
            path.unlink()

    async def leader_dies(self) -> None:
        """Kill a controller and start another."""
        system = self.world.system
        system.leader.process.kill()
        system.leader = await system.controller()

    async def _inject(self, fault: Fault) -> None:
        with suppress(CellUnavailableError, AssertionError):  # the victim is down just now
            await self.world.inject(VICTIM, fault)

    async def _send_evil(self, deed: str) -> None:
        slot_map, system = await self.world.map(), self.world.system
        names = (f"evil-{self.number}-{i}" for i in range(1000))
        key = next(name for name in names if slot_map.cell_of(name) == VICTIM)
        self.sent_evil.add(key)
        body = json.dumps({"key": key, "do": deed, "event_id": key, "tenant": key})
        await system.queue(system.source).send([Draft(body)])

    async def _configure(self, name: str, value: str) -> None:
        await self._redis.config_set(name, value)
        await pause(FAULT_S)
        await self._redis.config_set(name, "0")


FAULTS: Final[tuple[Callable[[Soak], Awaitable[None]], ...]] = (
    Soak.garbage,
    Soak.killer,
    Soak.out_of_memory,
    Soak.run_directory,
    Soak.crash,
    Soak.no_replicas,
    Soak.malformed,
    Soak.leader_dies,
    Soak.read_only,
    Soak.hanger,
    Soak.slow,
)


async def run(options: Options) -> dict[str, Any]:
    """Hurt one system for `options.seconds`, print what became of it, and return the figures."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
    with tempfile.TemporaryDirectory(prefix="cellrouter-soak-") as folder, valkey() as url, ministack() as endpoint:
        world = SickSystem(System(url, endpoint, Path(folder), cells=max(options.cells, 3), fifo=False))
        world.system.environ |= SETTINGS
        async with Redis.from_url(url) as redis, world.open():
            soak = Soak(world, redis)
            try:
                figures = await _hurt(soak, options.seconds)
            except AssertionError as error:
                raise BenchError(str(error)) from error
            finally:
                soak.clear_run_directory()
    print("\n".join(f"{name:26} {value}" for name, value in figures.items()))
    return figures


async def _hurt(soak: Soak, seconds: float) -> dict[str, Any]:
    world = soak.world
    spare, owners = await world.system.controller(), (await world.map()).owners
    with _unheard(world.system.environ) as unheard:
        spans: Spans = {}
        began_ms, before = now_ms(), await world.generations()
        for fault in cycle(FAULTS):
            if now_ms() - began_ms >= 1000 * seconds:
                break
            if soak.number % len(FAULTS) == 0:
                with _noted(spans, QUIET):
                    await pause(QUIET_S)
            soak.number += 1
            print(f"{(now_ms() - began_ms) / 1000:6.1f} s  {fault.__name__}", flush=True)
            with _noted(spans, fault.__name__):
                await fault(soak)
                await pause(PAUSE_S)
        ended_ms, after = now_ms(), await world.generations()
        released, redriven, lost = await _not_done(world, list(world.system.sent))
        settled_ms = now_ms()
        roles = {"router": world.routers[0], "router 2": world.routers[1], "spare controller": spare}
        roles["controller"] = world.system.leader
        processes = {name: role.process for name, role in roles.items()} | unheard
        ended = [name for name, process in processes.items() if process.poll() is not None]
    quiet = _p99_of_others(world, spans.pop(QUIET))
    hurt = _p99_of_others(world, [span for found in spans.values() for span in found])
    return {
        "faults": soak.number,
        "events": len(world.system.sent),
        "lost": len(lost),
        "keys released by hand": released,
        "events redriven by hand": redriven,
        "last done, s after faults": round((settled_ms - ended_ms) / 1000),
        "done twice": sum(times > 1 for times in world.committed().values()),
        "processes ended": ended or "none",
        "keys moved": sum(a != b for a, b in zip(owners, (await world.map()).owners, strict=True)),
        "victim's instances": after[VICTIM] - before[VICTIM],
        "others' instances": sum(after[cell] - before[cell] for cell in before if cell != VICTIM),
        "dead letters": len(await world.system.dead_letters()),
        "evil events": len(soak.sent_evil),
        "quiet p99, ms": quiet,
        "others' p99, ms": hurt,
        f"ratio (goal {P99_GOAL:g})": round(hurt / quiet, 3),
        **{f"during {name}, ms": _p99_of_others(world, found) for name, found in spans.items()},
    }


@contextmanager
def _noted(spans: Spans, name: str) -> Iterator[None]:
    """Note from when to when the block ran."""
    since_ms = now_ms()
    yield
    spans.setdefault(name, []).append((since_ms, now_ms()))


@contextmanager
def _unheard(environ: Mapping[str, str]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run two more routers: nobody reads the log of one, and the pipe of the other's is broken."""
    processes = {}
    for name, broken in (("router with a full pipe", False), ("router with a broken pipe", True)):
        process = subprocess.Popen(
            [sys.executable, "-m", "router", "router"],
            env={**environ, "CELLROUTER_API_PORT": str(free_port()), "CELLROUTER_LOG_LEVEL": "debug"},
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        if broken:
            process.stderr.close()
        processes[name] = process
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


async def _not_done(world: SickSystem, names: list[str]) -> tuple[int, int, set[str]]:
    """Wait until all these events are committed.

    Return how many keys were released and how many dead letters redriven for it, and what is still missing. Each death
    of an instance doubles the quarantine of a key that had events there, up to hours, and an event that was there at
    too many of them becomes a dead letter. A person who knows that it is not their fault does this.
    """
    missing = await world.not_committed(names, SETTLE_S)
    keys = sorted((await world.snapshot()).policy.quarantined) if missing else []
    for key in keys:
        await world.cli("apply", "release", key)
    if keys:
        missing = await world.not_committed(names, RELEASED_S)
    letters = [letter for letter in await world.system.dead_letters() if letter.event_id in missing] if missing else []
    await pause(LOOKED_S if letters else 0)
    for letter in letters:
        print(f"dead though innocent: {letter}", flush=True)
        await world.cli("dlq", "redrive", "--event", str(letter.event_id))
    return len(keys), len(letters), await world.not_committed(names, RELEASED_S) if letters else missing


def _p99_of_others(world: SickSystem, spans: list[tuple[int, int]]) -> float:
    """Return the p99 latency in milliseconds of the other cells' events that were sent in these times."""
    world.look()
    sent_at_ms = world.system.sent_at_ms
    done = {d["event"]: d["at_ms"] for d in reversed(world.deeds) if d["cell"] != VICTIM and d["event"] in sent_at_ms}
    times = [(sent_at_ms[name], at_ms) for name, at_ms in done.items()]
    return p99([at_ms - sent for sent, at_ms in times if any(since <= sent < until for since, until in spans)])
