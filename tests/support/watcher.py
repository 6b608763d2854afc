"""Watches an environment in Redis while a test runs, and notes what must never happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
from redis.asyncio import Redis

from cell_worker.contract import protocol
from router.core.models import CellRecord
from router.core.registry import AuditEntry
from tests.support.keys import ring

POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Leadership:
    """What the watcher knows of one leadership."""

    owner: str
    epoch: int
    since_ms: int  # by this time of the server's clock it had begun


class Watcher:
    """Reads an environment in Redis again and again, each time at one moment, and notes violations of these rules.

    At most one leader has a live lease. Epochs and generations never go back. A generation of a cell belongs to one
    instance. Whoever no longer leads writes no line of the audit.
    """

    def __init__(self, redis: Redis, environment: str, secret: str) -> None:
        self.violations: list[str] = []
        self.leaderships: list[Leadership] = []
        self.instances: dict[str, str] = {}  # "cell/generation" → the first instance with a lease of it
        self.audit: list[AuditEntry] = []  # entries since the first look
        self.strangers: set[str] = set()  # authors of entries who never led: people, and routers by their proposals
        self.looks = 0
        self.may_resign = False  # set it before a leader is asked to stop, which ends its lease early
        self._redis = redis
        self._keyring = ring(environment, secret)
        names = ("leader", "cells", "leases", "map", "generations", "audit")
        self._key = {name: protocol.redis_key(environment, name) for name in names}
        self._highest: dict[str, int] = {}  # the last value of each number that must only grow
        self._ends_ms = 0  # when the leader's lease ended, as of the last look
        self._read = "-"  # the audit is read up to this entry

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_S)  # noqa: TID251 - a poll of a real server

    async def look(self) -> None:
        """Read the environment once, and note what is wrong."""
        key = self._key
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            for name in ("leader", "cells", "leases", "generations"):
                pipe.hgetall(key[name])
            pipe.hget(key["map"], "epoch")
            pipe.xrange(key["audit"], min=self._read)
            now, leader, cells, leases, generations, epoch, entries = await pipe.execute()
        self._see_leader(leader, now[0] * 1000 + now[1] // 1000)
        self._see_numbers({} if epoch is None else {"the map's epoch": int(epoch)})
        self._see_numbers({f"{cell.decode()} given": int(number) for cell, number in generations.items()})
        for value in cells.values():
            cell = msgspec.json.decode(value, type=CellRecord)
            self._see_numbers({f"{cell.cell_id} {name}": getattr(cell, name) for name in ("generation", "launched")})
        for field, value in leases.items():
            self._see_lease(field.decode(), msgspec.json.decode(value, type=protocol.Lease))
        self._see_audit(entries)
        self.looks += 1

    def _see_leader(self, leader: Mapping[bytes, bytes], now_ms: int) -> None:
        if not leader:
            return
        owner, epoch, ends_ms = leader[b"owner"].decode(), int(leader[b"epoch"]), int(leader[b"expires_at_ms"])
        self._see_numbers({"the leader's epoch": epoch})
        last = self.leaderships[-1] if self.leaderships else None
        if last is not None and last.owner != owner:
            if epoch == last.epoch:
                self.violations.append(f"{last.owner} and {owner} both led in epoch {epoch}")
            if (
                min(epoch, now_ms) < self._ends_ms and not self.may_resign
            ):  # an epoch is never below the time at which it begins
                self.violations.append(f"{owner} led from {epoch}, and the lease of {last.owner} to {self._ends_ms}")
        if last is None or last.epoch != epoch:
            self.leaderships.append(Leadership(owner, epoch, min(epoch, now_ms)))
        self._ends_ms = ends_ms

    def _see_numbers(self, numbers: Mapping[str, int]) -> None:
        for name, number in numbers.items():
            highest = self._highest.setdefault(name, number)
            if number < highest:
                self.violations.append(f"{name} went back from {highest} to {number}")
            self._highest[name] = max(number, highest)

    def _see_lease(self, field: str, lease: protocol.Lease) -> None:
        name = protocol.instance_of_field(field)
        record = protocol.verify_record(lease.record, self._keyring.cell(name.rpartition("/")[0])[0].lease)
        instance = record.instance_id if record is not None else "nobody who has the secret"
        if self.instances.setdefault(name, instance) != instance:
            self.violations.append(f"{name} was {self.instances[name]} and then {instance}")

    def _see_audit(self, entries: list[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        owners = [leadership.owner for leadership in self.leaderships]
        for name, fields in entries:
            at_ms, entry = int(name.split(b"-")[0]), msgspec.json.decode(fields[b"entry"], type=AuditEntry)
            if self.looks:  # older entries may be by earlier leaders
                self.audit.append(entry)
                leading = owners[-2:] if at_ms <= self.leaderships[-1].since_ms else owners[-1:]
                if entry.who not in owners:
                    self.strangers.add(entry.who)
                elif entry.who not in leading:
                    self.violations.append(f"{entry} was written at {at_ms}, when {leading} led")
        if entries:
            self._read = f"({entries[-1][0].decode()}"


@asynccontextmanager
async def watching(redis: Redis, environment: str, secret: str) -> AsyncIterator[Watcher]:
    """Watch the environment during the block, and check at its end that no rule was violated."""
    watcher = Watcher(redis, environment, secret)
    await watcher.look()
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
        await watcher.look()
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert watcher.violations == []
    assert watcher.looks > 2
