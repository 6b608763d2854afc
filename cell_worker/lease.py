"""The instance's lease in Redis, renewed with each heartbeat by plain commands: cells may run no scripts there.

Guarantees: a lease is renewed only while no higher generation of the cell is admitted, and while no other live instance
has the same generation. When Redis can't be reached or takes no writes, the worker goes on, also past the end of its
lease. It ends only when Redis says that another instance has the cell, which is read before anything is written: a
Redis that refuses writes still says it. Should the worker hear nothing at all, its store refuses its commits as soon as
a higher generation has taken it: never do two instances commit.

Between what is read and what is written, anything may happen in Redis. None of it does harm:

- A higher generation is admitted: this lease is written once more, and nobody heeds it, since traffic follows the
  cell's record. The next heartbeat says so.
- Two instances of one generation find the place empty: both write, and the one whose lease is written over finds the
  other's at its next heartbeat, and ends. Never do both: the field holds one lease, and who finds its own goes on.
- The server's time was read before the lease was written: the lease ends earlier by as much, 2 s at most. Readers count
  down by their own clocks from when they first see it.
- The lease is written after its release: it isn't, since the heartbeat has ended by then.
- Two workers claim a generation: HINCRBY gives no number twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

from cell_worker import clock
from cell_worker.contract import protocol
from cell_worker.contract.keys import Key
from cell_worker.contract.redis_client import RedisHealth, time_ms, value_of
from cell_worker.contract.strict_reader import StrictReader, Unreadable, Whole
from cell_worker.fence import Fence

_CALL_TIMEOUT_S: Final = 2.0
"""How long a heartbeat or a claim may take, all its commands together."""
_MAX_EPOCH_AHEAD_MS: Final = 31_536_000_000  # a year, as for routers: whatever lies higher, no leader has given out
_REDIS_ERRORS: Final = (
    *(RedisError, RedisClusterException, OSError, TimeoutError),
    *(ValueError, TypeError, IndexError, RecursionError),
)
"""The second line is what comes of an answer that is none of Redis' protocol, or of another shape than Redis'."""


UNTOLD: Final = RedisHealth(lambda _fault, _why: None)
"""Tells nobody."""


class LeaseLostError(Exception):
    """Another instance has the cell; the text says which kind of instance."""


class _CellRecord(msgspec.Struct, frozen=True):
    """What an instance needs to know of its cell's record."""

    generation: Whole = 0  # the admitted one
    launched: Whole = 0  # the highest that was ever launched
    fence: Whole = 0


_record: Final = StrictReader[_CellRecord]("cell's record", _CellRecord, 256 * 1024)
_NO_RECORD: Final = _CellRecord()


async def _record_of(redis: Redis, cells: str, cell_id: str, now_ms: int) -> _CellRecord:
    """Read the cell's record. What can't be read, or can't be true at this time, is as lost: it fences nobody."""
    found = _record.read(await value_of(redis, cells, cell_id, _record.max_bytes))
    if isinstance(found, Unreadable) or max(found.generation, found.launched) > now_ms:
        return _NO_RECORD
    return found if found.fence <= now_ms + _MAX_EPOCH_AHEAD_MS else _NO_RECORD


async def claim_generation(
    redis: Redis, environment: str, cell_id: str, hint: int, health: RedisHealth = UNTOLD
) -> int:
    """The next generation of a cell, above all before it and above `hint`. Waits for Redis as long as it takes.

    It also waits until a controller has taken away a count that is no number, or one that nobody can have reached.
    """
    while True:
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                return await _claimed(redis, environment, cell_id, hint)
        except _REDIS_ERRORS as error:
            health.failed(clock.monotonic(), error)
            await clock.sleep(1.0)


async def _claimed(redis: Redis, environment: str, cell_id: str, hint: int) -> int:
    generations, cells = [protocol.redis_key(environment, name) for name in ("generations", "cells")]
    now_ms = await time_ms(redis, generations)
    record = await _record_of(redis, cells, cell_id, now_ms)
    floor = max(record.generation, record.launched, hint)
    claimed = int(await redis.hincrby(generations, cell_id, 1))
    if claimed <= floor:
        claimed = int(await redis.hincrby(generations, cell_id, floor + 1 - claimed))
    if not floor < claimed <= now_ms:
        raise ValueError(f"the generation {claimed} of {cell_id} is none that there can be; a controller mends that")
    return claimed


class Heartbeat:
    """Keeps one instance's lease alive, and tells the fence and the worker what Redis answers."""

    def __init__(
        self,
        redis: Redis,
        record: protocol.InstanceRecord,
        key: Key,
        ttl_s: float,
        fence: Fence | None = None,
        health: RedisHealth = UNTOLD,
        why_unwell: Callable[[], protocol.Reason | None] = lambda: None,
        vitals: Callable[[], protocol.Vitals | None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._leases, self._cells = [protocol.redis_key(record.environment, name) for name in ("leases", "cells")]
        self._field = protocol.lease_field(protocol.instance_name(record.cell_id, record.generation), key)
        self._record = record
        self._signed = protocol.sign_record(record, key)
        self._key = key
        self._beats = 0
        self._written = b""  # the lease as it should lie in Redis
        self._told = False  # somebody else writes in its place
        self._ttl_s = ttl_s
        self._fence = fence or Fence()
        self._health = health
        self._why_unwell = why_unwell
        self._vitals = vitals
        self.ready = False
        self.admitted = asyncio.Event()  # Redis has said that the cell's traffic is for this instance

    async def run(self) -> None:
        """Renew the lease every quarter of its time, until cancelled. Raises LeaseLostError."""
        while True:
            try:
                await self._beat()
            except _REDIS_ERRORS as error:
                self._health.failed(clock.monotonic(), error)
            else:
                self._health.answered(clock.monotonic())
            await clock.sleep(self._ttl_s / 4)

    async def _beat(self) -> None:
        """Read whether another instance has the cell; if none has, renew the lease. Raises LeaseLostError."""
        mine = self._record
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            now_ms = await time_ms(self._redis, self._leases)
            record = await _record_of(self._redis, self._cells, mine.cell_id, now_ms)
            if record.generation > mine.generation:
                raise LeaseLostError("a higher generation of this cell is admitted")
            self._check(await value_of(self._redis, self._leases, self._field, protocol.LEASE.max_bytes), now_ms)
            self._fence.raise_to(record.fence)
            await self._write(now_ms + round(self._ttl_s * 1000))
        if record.generation == mine.generation:
            self.admitted.set()

    def _check(self, found: bytes, now_ms: int) -> None:
        """Look at what lies in this lease's place. Raises LeaseLostError when it is the live lease of another."""
        if not found or found == self._written:
            self._told = False
            return
        lease = protocol.LEASE.read(found)
        if not isinstance(lease, Unreadable) and (lease.expires_at_ms <= now_ms or lease.ended):
            return
        if (other := self._instance_of(lease)) is None:
            if not self._told:
                structlog.get_logger("lease").error("writes over a false lease in the place of its own")
            self._told = True
        elif other != self._record.instance_id:
            raise LeaseLostError("another live instance has this cell's generation")

    def _instance_of(self, lease: protocol.Lease | Unreadable) -> str | None:
        """Return which instance has written this lease, for the place where it lies; None when none has.

        Whatever else reaches Redis can write there, and must not end this instance.
        """
        if isinstance(lease, Unreadable) or not protocol.is_proven(lease, self._key):
            return None
        if (record := protocol.verify_record(lease.record, self._key)) is None:
            return None
        mine = self._record
        its, own = [(each.environment, each.cell_id, each.generation) for each in (record, mine)]
        return record.instance_id if its == own else None

    async def release(self) -> None:
        """Say that the instance has ended, so that nobody has to wait until its lease does.

        An unreachable Redis is no error. Whoever has the lease's place by now keeps it.
        """
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                found = await value_of(self._redis, self._leases, self._field, protocol.LEASE.max_bytes)
                if self._instance_of(protocol.LEASE.read(found)) == self._record.instance_id:
                    await self._write(0, ended=True)
        except _REDIS_ERRORS:
            return  # the lease expires by itself

    async def give_up(self) -> None:
        """Say that the instance has ended before it had a lease; the note says why. Another's lease stays as it is."""
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                if not await value_of(self._redis, self._leases, self._field, protocol.LEASE.max_bytes):
                    await self._write(0, ended=True)
        except _REDIS_ERRORS:
            return  # its log says why, too

    async def _write(self, ends_ms: int, *, ended: bool = False) -> None:
        self._beats += 1
        note = (self._why_unwell() or "")[: protocol.MAX_NOTE_CHARS].encode(errors="replace").decode()
        fenced, vitals = self._fence.reached(), self._vitals()
        lease = protocol.Lease(ends_ms, self.ready, self._signed, fenced, self._beats, "", note, ended, vitals)
        lease = msgspec.structs.replace(lease, proof=protocol.beat_proof(lease, self._key))
        self._written = msgspec.json.encode(lease)
        await self._redis.hset(self._leases, self._field, self._written)
