"""CellRegistry on Redis (6.2 and later, Valkey).

Every write is one Lua script that compares the leader's epoch first, so a controller that has lost the lead without
knowing changes nothing. All keys of an environment share a hash tag, so that the scripts run on a cluster too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cell_worker import protocol
from router.core.errors import NotLeaderError, RegistryUnavailableError
from router.core.models import CellRecord, LeaseView
from router.core.policy import Policy, from_blob, to_blob
from router.core.slots import SlotMap
from router.ports import AuditEntry, Snapshot

T = TypeVar("T")

_AUDIT_ENTRIES: Final = 10_000
_CALL_TIMEOUT_S: Final = 2.0

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

_LEAD: Final = (
    _NOW
    + """
local owner, expires, stored = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms', 'epoch'))
local epoch = tonumber(stored) or 0
local live = owner and tonumber(expires) > now
if live and owner ~= ARGV[1] then return false end
if not live or epoch <= tonumber(ARGV[3]) - 1 then
  epoch = math.max(epoch + 1, now, tonumber(ARGV[3]) + 1)
end
local text = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', text, 'expires_at_ms', string.format('%.0f', now + ARGV[2]))
return text
"""
)

_RESIGN: Final = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('HSET', KEYS[1], 'expires_at_ms', '0') end
"""

_FENCE: Final = (
    "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('NOTLEADER another leads') end\n"
)

_WRITE: Final = (
    _FENCE
    + """
local change = cjson.decode(ARGV[2])
for id, record in pairs(change.cells) do redis.call('HSET', KEYS[2], id, record) end
if change.map_epoch then redis.call('HSET', KEYS[3], 'epoch', change.map_epoch, 'blob', change.map) end
for _, entry in ipairs(change.audit) do redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'entry', entry) end
"""
)

_NEXT_GENERATION: Final = (
    _FENCE
    + """
local record = redis.call('HGET', KEYS[3], ARGV[2])
local admitted = record and cjson.decode(record).generation or 0
local next_one = math.max(tonumber(redis.call('HGET', KEYS[2], ARGV[2])) or 0, admitted) + 1
redis.call('HSET', KEYS[2], ARGV[2], next_one)
return next_one
"""
)

_SNAPSHOT: Final = (
    _NOW
    + """
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local blob = epoch and epoch ~= ARGV[1] and redis.call('HGET', KEYS[2], 'blob')
local owner, expires = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms'))
local leader = owner and tonumber(expires) > now and owner or ''
local cells, leases = redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])
local version = redis.call('HGET', KEYS[5], 'version')
local policy = version and version ~= ARGV[2] and redis.call('HGET', KEYS[5], 'blob')
return {string.format('%.0f', now), epoch or '', blob or '', leader, cells, leases, version or '', policy or ''}
"""
)

_CHANGE_POLICY: Final = """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'blob', ARGV[3])
for i = 5, #ARGV do redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'entry', ARGV[i]) end
return 1
"""


def connect(url: str) -> Redis:
    """Redis as the registry uses it: no retries, since the loops that ask ask again.

    No socket_timeout: redis-py would write within asyncio.wait_for, which before Python 3.12 may lose a cancellation,
    and then a process that stops would wait for that loop for ever. The registry limits each call instead.
    """
    return Redis.from_url(url, socket_timeout=None, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))


class RedisRegistry:
    """The registry of one environment."""

    def __init__(self, redis: Redis, environment: str, secret: str) -> None:
        self._redis = redis
        self._secret = secret
        self._environment = environment
        self._leader, self._map, self._cells, self._leases, self._generations, self._audit, self._policy_key = (
            protocol.redis_key(environment, name)
            for name in ("leader", "map", "cells", "leases", "generations", "audit", "policy")
        )
        self._slot_map: SlotMap | None = None
        self._policy = Policy()
        self._verified: dict[str, protocol.InstanceRecord | None] = {}
        self._lead_script = redis.register_script(_LEAD)
        self._resign_script = redis.register_script(_RESIGN)
        self._write_script = redis.register_script(_WRITE)
        self._generation_script = redis.register_script(_NEXT_GENERATION)
        self._snapshot_script = redis.register_script(_SNAPSHOT)
        self._policy_script = redis.register_script(_CHANGE_POLICY)

    async def snapshot(self) -> Snapshot:
        """One script; slot map and policy travel only when they have changed."""
        known: list[str | int] = [str(self._slot_map.epoch) if self._slot_map else "", self._policy.version]
        keys = [self._leader, self._map, self._cells, self._leases, self._policy_key]
        answer = await self._call(self._snapshot_script(keys=keys, args=known))
        try:
            return self._decode(*answer)
        except ValueError as error:
            raise RegistryUnavailableError(f"what Redis holds can't be read: {error}") from error

    async def lead(self, owner: str, ttl_s: float, hint: int) -> int | None:
        """Take or renew."""
        epoch = await self._call(self._lead_script(keys=[self._leader], args=[owner, round(ttl_s * 1000), hint]))
        return int(epoch) if epoch else None

    async def resign(self, owner: str) -> None:
        """End the lease now."""
        await self._call(self._resign_script(keys=[self._leader], args=[owner]))

    async def next_generation(self, epoch: int, cell_id: str) -> int:
        """Count up."""
        keys = [self._leader, self._generations, self._cells]
        return int(await self._call(self._generation_script(keys=keys, args=[epoch, cell_id])))

    async def write(
        self,
        epoch: int,
        *,
        cells: Sequence[CellRecord] = (),
        slot_map: SlotMap | None = None,
        audit: Sequence[AuditEntry] = (),
    ) -> None:
        """One script: all or nothing."""
        change: dict[str, Any] = {
            "cells": {cell.cell_id: msgspec.json.encode(cell).decode() for cell in cells},
            "audit": [msgspec.json.encode(entry).decode() for entry in audit],
        }
        if slot_map is not None:
            change["map_epoch"] = str(slot_map.epoch)
            change["map"] = msgspec.json.encode(slot_map.to_wire()).decode()
        keys = [self._leader, self._cells, self._map, self._audit]
        args: list[int | bytes] = [epoch, msgspec.json.encode(change), _AUDIT_ENTRIES]
        await self._call(self._write_script(keys=keys, args=args))

    async def audit(self, limit: int) -> list[AuditEntry]:
        """The newest, oldest first."""
        entries = await self._call(self._redis.xrevrange(self._audit, count=limit))
        return [msgspec.json.decode(fields[b"entry"], type=AuditEntry) for _, fields in reversed(entries)]

    async def policy(self) -> Policy:
        """The one in force."""
        version, blob = await self._call(self._redis.hmget(self._policy_key, ["version", "blob"]))
        if not version:
            return Policy()
        try:
            return replace(from_blob(blob), version=int(version))
        except ValueError as error:
            raise RegistryUnavailableError(f"the policy in Redis can't be read: {error}") from error

    async def change_policy(self, policy: Policy, audit: Sequence[AuditEntry]) -> bool:
        """One script that compares the version."""
        entries = [msgspec.json.encode(entry) for entry in audit]
        args: list[int | bytes] = [policy.version, policy.version + 1, to_blob(policy), _AUDIT_ENTRIES, *entries]
        return bool(await self._call(self._policy_script(keys=[self._policy_key, self._audit], args=args)))

    def _decode(
        self,
        now: bytes,
        epoch: bytes,
        blob: bytes,
        leader: bytes,
        cells: list[bytes],
        leases: list[bytes],
        version: bytes,
        policy: bytes,
    ) -> Snapshot:
        if not epoch:
            self._slot_map = None
        elif blob:
            self._slot_map = SlotMap.from_wire(msgspec.json.decode(blob))
        if not version:
            self._policy = Policy()
        elif policy:
            self._policy = replace(from_blob(policy), version=int(version))
        return Snapshot(
            now_ms=int(now),
            slot_map=self._slot_map,
            cells={k.decode(): msgspec.json.decode(v, type=CellRecord) for k, v in _pairs(cells)},
            leases=self._lease_views(int(now), [value for _, value in _pairs(leases)]),
            leader=leader.decode(),
            policy=self._policy,
        )

    def _lease_views(self, now_ms: int, values: Sequence[bytes]) -> tuple[LeaseView, ...]:
        leases = [lease for value in values if (lease := _lease(value)) is not None]
        self._verified = {lease.record: self._verify(lease.record) for lease in leases}
        return tuple(
            LeaseView(
                cell_id=record.cell_id,
                generation=record.generation,
                instance_id=record.instance_id,
                address=record.address,
                concurrency=record.concurrency,
                ready=lease.ready,
                live=lease.expires_at_ms > now_ms,
            )
            for lease in leases
            if (record := self._verified[lease.record]) is not None
        )

    def _verify(self, signed: str) -> protocol.InstanceRecord | None:
        """Checked once for each record; a heartbeat repeats it many times."""
        if signed in self._verified:
            return self._verified[signed]
        record = protocol.verify_record(signed, self._secret)
        return record if record is not None and record.environment == self._environment else None

    async def _call(self, call: Awaitable[T] | Any) -> Any:
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                return await cast("Awaitable[Any]", call)
        except ResponseError as error:
            if str(error).startswith("NOTLEADER"):
                raise NotLeaderError(str(error)) from error
            raise RegistryUnavailableError(str(error)) from error
        except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as error:
            raise RegistryUnavailableError(f"Redis can't be used: {type(error).__name__}: {error}") from error


def _lease(value: bytes) -> protocol.Lease | None:
    """None for garbage: one bad record must not hide the others."""
    try:
        return msgspec.json.decode(value, type=protocol.Lease)
    except msgspec.DecodeError:
        return None


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
