"""The instance's lease in Redis, renewed by one round trip for each heartbeat.

Guarantees: a lease is renewed only while no higher generation of the cell is admitted, and while no other live instance
has the same generation. When Redis can't be reached or takes no writes, the worker goes on, also past the end of its
lease. It ends only when Redis says that another instance has the cell; the script says so before it writes, so a Redis
that refuses writes still says it. Should the worker hear nothing at all, its store refuses its commits as soon as a
higher generation has taken it: never do two instances commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

from cell_worker import clock
from cell_worker.contract import protocol
from cell_worker.contract.keys import Key
from cell_worker.contract.redis_client import BOUNDS, ENTRIES, NEXT_GENERATION, NOW, READ, RedisHealth
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.fence import Fence

# KEYS: leases, cells. ARGV: cell, field, instance id, ttl in ms, the lease as JSON without its end, a false lease.
# Renews a lease. Returns 'fenced' when another instance has the cell, and 'taken' with the other's lease when one lies
# in this one's place that is live and not known to be false. Otherwise returns the epoch below
# which it shall take no batch, and 'admitted' or 'standby': whether the cell's traffic is for this generation.
_HEARTBEAT: Final = (
    NOW
    + READ
    + BOUNDS
    + ENTRIES
    + """
local cell = read(redis.call('HGET', KEYS[2], ARGV[1]))
local admitted = number(cell.generation, highest_generation)
local mine = tonumber(string.match(ARGV[2], '/(%d+)$'))
if admitted > mine then return 'fenced' end
local text = string.sub(redis.call('HGET', KEYS[1], ARGV[2]) or '', 1, 65537)
local lease = read(text)
if whole(lease.expires_at_ms) > now and type(lease.record) == 'string' and text ~= ARGV[6] then
  if not string.find(lease.record, '"' .. ARGV[3] .. '"', 1, true) then return 'taken ' .. text end
end
local ends = '{"expires_at_ms":' .. string.format('%.0f', now + ARGV[4]) .. ','
redis.call('HSET', KEYS[1], ARGV[2], ends .. string.sub(ARGV[5], 2))
for _, field in ipairs(overfull(KEYS[1]) and {} or redis.call('HKEYS', KEYS[1])) do
  if string.match(field, '^(.*)/%d+$') == ARGV[1] and field ~= ARGV[2] then
    local ended = whole(read(redis.call('HGET', KEYS[1], field)).expires_at_ms)
    if ended > 0 and ended < now - 60000 then redis.call('HDEL', KEYS[1], field) end
  end
end
return string.format('%.0f', number(cell.fence, highest_epoch)) .. (admitted == mine and ' admitted' or ' standby')
"""
)

# KEYS: generations, cells. ARGV: cell, hint.
_CLAIM: Final = NEXT_GENERATION + "return next_generation(KEYS[1], KEYS[2], ARGV[1], ARGV[2])"

# KEYS: leases. ARGV: field, instance id.
_RELEASE: Final = (
    READ
    + """
local record = read(redis.call('HGET', KEYS[1], ARGV[1])).record
if type(record) == 'string' and string.find(record, '"' .. ARGV[2] .. '"', 1, true) then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""
)

_CALL_TIMEOUT_S: Final = 2.0
_TAKEN: Final = b"taken "
_MAX_DIGITS: Final = 16  # of an epoch
_REDIS_ERRORS: Final = (RedisError, RedisClusterException, OSError, TimeoutError, ValueError, RecursionError)
"""The last two are what redis-py raises for an answer that is none of Redis' protocol, or is nested too deeply."""


UNTOLD: Final = RedisHealth(lambda _fault, _why: None)
"""Tells nobody."""


class LeaseLostError(Exception):
    """Another instance has the cell; the text says which kind of instance."""


async def _answer(call: Awaitable[Any]) -> Any:
    """Await a call of Redis. Raises TimeoutError when the answer takes too long."""
    async with asyncio.timeout(_CALL_TIMEOUT_S):
        return await call


async def claim_generation(
    redis: Redis, environment: str, cell_id: str, hint: int, health: RedisHealth = UNTOLD
) -> int:
    """The next generation of a cell, above all before it and above `hint`. Waits for Redis as long as it takes."""
    keys = [protocol.redis_key(environment, name) for name in ("generations", "cells")]
    script = redis.register_script(_CLAIM)
    while True:
        try:
            return int(await _answer(script(keys=keys, args=[cell_id, hint])))
        except _REDIS_ERRORS as error:
            health.failed(clock.monotonic(), error)
            await clock.sleep(1.0)


class _WireLease(msgspec.Struct, frozen=True):
    """What the worker sends of a protocol.Lease. Redis adds the time at which the lease ends."""

    ready: bool
    record: str
    fenced: int
    beat: int
    proof: str
    note: str


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
    ) -> None:
        self._keys = [protocol.redis_key(record.environment, name) for name in ("leases", "cells")]
        self._field = protocol.lease_field(record.cell_id, record.generation)
        self._record = record
        self._signed = protocol.sign_record(record, key)
        self._key = key
        self._beats = 0
        self._false = b""  # the last lease in this one's place that no instance can have written
        self._ttl_s = ttl_s
        self._fence = fence or Fence()
        self._health = health
        self._why_unwell = why_unwell
        self._beat = redis.register_script(_HEARTBEAT)
        self._release = redis.register_script(_RELEASE)
        self.ready = False
        self.admitted = asyncio.Event()  # Redis has said that the cell's traffic is for this instance

    async def run(self) -> None:
        """Renew the lease every quarter of its time, until cancelled. Raises LeaseLostError."""
        while True:
            try:
                answer = await self._renew()
                if answer.startswith(_TAKEN) and not self._is_genuine(answer.removeprefix(_TAKEN)):
                    self._false = answer.removeprefix(_TAKEN)
                    structlog.get_logger("lease").error("writes over a false lease in the place of its own")
                    answer = await self._renew()
            except _REDIS_ERRORS as error:
                self._health.failed(clock.monotonic(), error)
            else:
                self._heed(answer)
                self._health.answered(clock.monotonic())
            await clock.sleep(self._ttl_s / 4)

    def _heed(self, answer: bytes) -> None:
        if answer == b"fenced":
            raise LeaseLostError("a higher generation of this cell is admitted")
        if answer.startswith(_TAKEN):
            raise LeaseLostError("another live instance has this cell's generation")
        epoch, _, state = answer.partition(b" ")
        if epoch.isdigit() and len(epoch) <= _MAX_DIGITS:
            self._fence.raise_to(int(epoch))
        if state == b"admitted":
            self.admitted.set()

    def _is_genuine(self, other: bytes) -> bool:
        """Whether an instance with this cell's secret has written this lease, for the place where it lies.

        Whatever else reaches Redis can write there, and must not end this instance.
        """
        lease = protocol.LEASE.read(other)
        if isinstance(lease, Unreadable) or not protocol.is_proven(lease, self._key):
            return False
        if (record := protocol.verify_record(lease.record, self._key)) is None:
            return False
        place = (record.environment, protocol.lease_field(record.cell_id, record.generation))
        return place == (self._record.environment, self._field)

    async def release(self) -> None:
        """End the lease now, so that nobody has to wait until it expires. An unreachable Redis is no error."""
        try:
            await _answer(self._release(keys=self._keys[:1], args=[self._field, self._record.instance_id]))
        except _REDIS_ERRORS:
            return  # the lease expires by itself

    async def _renew(self) -> bytes:
        self._beats += 1
        note = (self._why_unwell() or "")[: protocol.MAX_NOTE_CHARS].encode(errors="replace").decode()
        lease = protocol.Lease(0, self.ready, self._signed, self._fence.reached(), self._beats, note=note)
        proof = protocol.beat_proof(lease, self._key)
        wire = _WireLease(lease.ready, lease.record, lease.fenced, lease.beat, proof, lease.note)
        record, ttl_ms = self._record, round(self._ttl_s * 1000)
        args: list[str | bytes | int] = [
            record.cell_id,
            self._field,
            record.instance_id,
            ttl_ms,
            msgspec.json.encode(wire),
            self._false,
        ]
        answer: bytes = await _answer(self._beat(keys=self._keys, args=args))
        return answer
