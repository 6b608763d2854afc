"""RouterRegistry and CellRegistry on Redis 6.2 and later, and on Valkey.

Each write of a leader is one Lua script that compares the leader's epoch first: a controller that has lost the lead
without knowing it changes nothing. All keys of an environment share a hash tag, so that the scripts run on a cluster
too.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final, TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import RedisHealth, why_unusable
from router.adapters.keyring import Keyring
from router.adapters.redis import records, scripts
from router.adapters.redis.entries import EntryReader, as_read, name_of
from router.adapters.redis.lease_reader import LeaseReader, Network
from router.adapters.redis.lifetimes import Lifetimes
from router.adapters.redis.notifications import Notifications
from router.core.detection.samples import RouterSample
from router.core.errors import NoLeaderError, NotLeaderError, PolicyRefusedError, RegistryUnavailableError
from router.core.models import RouterReport, RouterView, Traffic
from router.core.policy import Policy, Ruling, to_blob
from router.core.registry import AuditEntry, Change, Condition, Petitions, PolicyVersion, Snapshot, worth_telling
from router.core.slot_map.slots import SlotMap
from router.core.telemetry import BadInput, LeaseRefused, RegistryFaulty, RegistryWell
from router.ports import Clock

T = TypeVar("T")
Told = LeaseRefused | BadInput | RegistryFaulty | RegistryWell

_AUDIT_ENTRIES: Final = 10_000
_HISTORY_VERSIONS: Final = 100
_REDIS_ERRORS: Final = (RedisError, RedisClusterException, OSError, TimeoutError, ValueError, TypeError, RecursionError)
"""The last three are what redis-py and we raise for an answer of another shape than Redis', or nested too deeply."""
_RULING_POLL_S: Final = 0.1
_CALL_TIMEOUT_S: Final = 2.0
_TRAFFIC_MS: Final = 600_000  # how long a router's traffic is kept after its last word
_SAMPLES_MS: Final = 60_000  # how long its sample is kept
_FRESH_MS: Final = 3_000  # an older sample says nothing about now
LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
RULING_WAIT_S: Final = 5.0
"""How long a proposed policy waits for a leader's ruling."""

_TIDY_NAMES: Final = (  # in the order in which the script that takes the lead wants them
    *("leader", "audit", "map", "policy", "generations", "cells", "leases", "history"),
    *("routers", "proposals", "rulings", "offers", "traffic", "samples", "conditions"),
)
_NAMES: Final = (*_TIDY_NAMES, "changes")
_WRITE_NAMES: Final = ("leader", "cells", "map", "audit", "policy", "history", "proposals", "rulings", "offers")
_SCRIPTS: Final = {
    "lead": scripts.LEAD,
    "resign": scripts.RESIGN,
    "next_generation": scripts.NEXT_GENERATION,
    "write": scripts.WRITE,
    "snapshot": scripts.SNAPSHOT,
    "leases": scripts.LEASES,
    "report": scripts.REPORT,
    "offer": scripts.OFFER,
    "petitions": scripts.PETITIONS,
    "listed": scripts.LISTED,
    "note": scripts.NOTE,
    "samples": scripts.SAMPLES,
    "note_conditions": scripts.NOTE_CONDITIONS,
}


class RedisRegistry:
    """The registry of one environment.

    What can't be read counts as not there, and costs nothing else: whoever remembers it writes it again, as after the
    loss of Redis. `tell` gets a record for each lease that is refused, for each entry that can't be read, and for each
    change of whether Redis can be used.
    """

    def __init__(
        self,
        redis: Redis,
        environment: str,
        keyring: Keyring,
        clock: Clock,
        networks: Sequence[Network] = LOOPBACK,
        tell: Callable[[Told], None] = lambda _: None,
    ) -> None:
        self._redis = redis
        self._health = RedisHealth(lambda fault, why: tell(RegistryFaulty(fault, why) if fault else RegistryWell()))
        self._clock = clock
        self._key = {name: protocol.redis_key(environment, name) for name in _NAMES}
        self._slot_map: SlotMap | None = None
        self._policy = Policy()
        self._knew_policy = False
        self._stood_in_for: tuple[bytes, bytes] | None = None  # the unreadable policy, in whose place an old one stands
        self._entries = EntryReader(tell)
        self._samples: Mapping[str, tuple[records.WireSample, RouterSample]] = {}  # as last read, by router
        self._told: tuple[int, Mapping[str, Condition]] = 0, {}  # how the cells were as said last, in which epoch
        self._turn = 0  # counts how often that was said
        self._leases = LeaseReader(environment, keyring, networks, tell)
        self._lifetimes = Lifetimes()  # of routers' reports
        self._notifications = Notifications(redis, self._key["changes"])
        self._scripts = {name: redis.register_script(text) for name, text in _SCRIPTS.items()}

    async def snapshot(self) -> Snapshot:
        """Read all that routing depends on; slot map and policy travel only when they have changed."""
        known: list[str | int] = [str(self._slot_map.epoch) if self._slot_map else "", self._policy.version]
        names = ("leader", "map", "cells", "leases", "policy", "routers")
        return await self._decode(*await self._run("snapshot", names, *known))

    async def lead(self, owner: str, ttl_s: float, hint: int) -> int | None:
        """Take or renew the leadership for `ttl_s` seconds, by the Redis server's clock, and tidy the registry."""
        epoch, tidied = await self._run("lead", _TIDY_NAMES, owner, round(ttl_s * 1000), hint)
        self._entries.tell_of("registry key", {name_of(key): name_of(why) for key, why in records.pairs(tidied)})
        return int(epoch) if epoch else None

    async def resign(self, owner: str) -> bool:
        """End this owner's leadership now, and return whether no controller is left; another's leadership stays."""
        return bool(await self._run("resign", ("leader",), owner))

    async def next_generation(self, epoch: int, cell_id: str, above: int = 0) -> int:
        """Give out the cell's next generation, in one script with the worker's own claim."""
        return int(await self._run("next_generation", ("leader", "generations", "cells"), epoch, cell_id, above))

    async def write(self, epoch: int, change: Change) -> None:
        """Write the whole change in one script, and publish that something has changed."""
        channel = self._key["changes"]
        limits = (_AUDIT_ENTRIES, _HISTORY_VERSIONS)
        await self._run("write", _WRITE_NAMES, epoch, records.encoded_change(change), *limits, channel)

    async def report(self, report: RouterReport, ttl_s: float) -> None:
        """Say that this router lives for `ttl_s` seconds more; 0 takes its report away."""
        await self._run("report", ("routers",), report.router_id, msgspec.json.encode(report), round(ttl_s * 1000))

    async def note_traffic(self, router_id: str, traffic: Mapping[str, Traffic]) -> None:
        """Say what this router has seen of each cell; kept for ten minutes."""
        await self._run("note", ("traffic",), router_id, msgspec.json.encode(traffic), _TRAFFIC_MS)

    async def note_sample(self, router_id: str, sample: RouterSample) -> None:
        """Say what this router saw in the last second; kept for a minute."""
        await self._run("note", ("samples",), router_id, records.packed(sample), _SAMPLES_MS)

    async def samples(self) -> Mapping[str, RouterSample]:
        """Read the samples of the last 3 s, each once however often it is asked; passes over what can't be read."""
        found = records.pairs(await self._run("samples", ("samples",), _FRESH_MS))
        self._samples = self._entries.read(records.PACKED_SAMPLE, found, self._sample)
        return {router_id: sample for router_id, (_, sample) in self._samples.items()}

    def _sample(self, router_id: str, wire: records.WireSample) -> tuple[records.WireSample, RouterSample]:
        known = self._samples.get(router_id)
        return known if known is not None and known[0] == wire else (wire, records.unpacked(wire))

    async def note_conditions(self, epoch: int, conditions: Mapping[str, Condition]) -> None:
        """Say how every cell is, in place of what was said before; what has hardly changed is written in turns."""
        told = self._told[1] if self._told[0] == epoch else {}
        self._turn += 1
        news = {cell_id: msgspec.json.encode(c) for cell_id, c in worth_telling(told, conditions, self._turn).items()}
        news |= dict.fromkeys(told.keys() - conditions.keys(), b"")
        cushioned = " ".join(cell_id for cell_id, condition in conditions.items() if condition.cushion is not None)
        flat = [part for pair in news.items() for part in pair]
        await self._run("note_conditions", ("leader", "conditions"), epoch, cushioned, int(not told), *flat)
        self._told = epoch, conditions

    async def conditions(self) -> Mapping[str, Condition]:
        """Read what the leader last said of every cell; empty when none has said anything."""
        _, found = await self._run("listed", ("conditions",))
        entries = dict(records.pairs(found))
        at = entries.pop(b"at", b"")
        return self._entries.read(records.CONDITION, entries.items(), records.said_at(at))

    async def traffic(self) -> list[Mapping[str, Traffic]]:
        """Read each router's traffic by cell, of routers that said something in the last ten minutes."""
        _, found = await self._run("listed", ("traffic",))
        return list(self._entries.read(records.TRAFFIC, records.pairs(found), lambda _, wire: wire.said).values())

    async def offer(self, slot_map: SlotMap, policy: Policy) -> None:
        """Offer a map and a policy; the newest offer is kept until the leader writes a map."""
        wire = msgspec.json.encode(slot_map.to_wire())
        await self._run("offer", ("offers",), slot_map.epoch, wire, to_blob(policy))

    async def changed(self, within_s: float) -> None:
        """Wait for a message on the environment's channel."""
        await self._notifications.wait(within_s)

    async def petitions(self) -> Petitions:
        """Read proposals and the newest offer in one round trip; passes over what can't be read."""
        now, proposals, slot_map, policy = await self._run("petitions", ("proposals", "offers"))
        found = self._entries.read(records.PROPOSAL, records.pairs(proposals), records.proposal_of)
        return Petitions(
            tuple(sorted(found.values(), key=lambda proposal: proposal.audit.at_ms)),
            self._entries.read_one(records.SLOT_MAP, "offer", slot_map, records.map_at(int(now))),
            self._entries.read_one(records.POLICY, "offer", policy, records.plausible_policy(int(now))),
        )

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Read the newest `limit` entries, oldest first; about 10,000 are kept."""
        entries = await self._call(self._redis.xrevrange(self._key["audit"], count=limit))
        raw = ((entry_id, fields.get(b"entry", b"")) for entry_id, fields in reversed(entries))
        return list(self._entries.read(records.AUDIT, raw, as_read).values())

    async def history(self) -> list[PolicyVersion]:
        """Read the last 100 versions of the policy, oldest first."""
        now, found = await self._run("listed", ("history",))
        versions = self._entries.read(records.VERSION, records.pairs(found), records.version_at(int(now)))
        return sorted(versions.values(), key=lambda version: version.policy.version)

    async def policy(self) -> Policy:
        """Read the policy in force; the empty one when none was ever made."""
        now, found = await self._run("listed", ("policy",))
        kept = dict(records.pairs(found))
        version, blob = kept.get(b"version", b""), kept.get(b"blob", b"")
        if not version:
            return Policy()
        return self._policy_of(version, blob, int(now)) or await self._newest_of_history()

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        """Propose the policy, wait up to RULING_WAIT_S for the leader's ruling, and withdraw it when none comes."""
        proposal_id = uuid.uuid4().hex
        proposal = msgspec.json.encode(records.WireProposal(policy, audit))
        await self._call(self._redis.hset(self._key["proposals"], proposal_id, proposal))
        give_up_at = self._clock.monotonic() + RULING_WAIT_S
        while self._clock.monotonic() < give_up_at:
            await self._clock.sleep(_RULING_POLL_S)
            if (ruling := await self._ruling(proposal_id)) is not None:
                return _accepted(ruling)
        if await self._call(self._redis.hdel(self._key["proposals"], proposal_id)):
            raise NoLeaderError("no controller leads, so nothing was changed: see whether one runs and reaches Redis")
        if (ruling := await self._ruling(proposal_id)) is not None:  # it came in the last moment
            return _accepted(ruling)
        raise RegistryUnavailableError("what became of the change is not known: see cellrouter policy")

    async def _ruling(self, proposal_id: str) -> Ruling | None:
        found = await self._call(self._redis.hget(self._key["rulings"], proposal_id))
        if found is None:
            return None
        await self._call(self._redis.hdel(self._key["rulings"], proposal_id))
        ruling = self._entries.read_one(records.RULING, proposal_id, found, as_read)
        if ruling is None:
            raise RegistryUnavailableError("the leader's ruling can't be read: see cellrouter policy")
        return cast("Ruling", ruling)

    async def _decode(
        self,
        now: bytes,
        epoch: bytes,
        blob: bytes,
        leader: bytes,
        cells: list[bytes],
        leases: list[bytes] | None,
        version: bytes,
        policy: bytes,
        routers: list[bytes],
        cushioned: bytes,
    ) -> Snapshot:
        now_ms = int(now)
        if not epoch:
            self._slot_map = None
        elif self._slot_map is None or epoch != b"%d" % self._slot_map.epoch:
            self._slot_map = self._entries.read_one(records.SLOT_MAP, "map", blob, records.map_at(now_ms))
        await self._take_policy(version, policy, now_ms)
        own_ms = round(self._clock.monotonic() * 1000)
        reports = self._entries.read(records.ROUTER, records.pairs(routers), as_read)
        ends = {name: (wire.expires_at_ms, wire.expires_at_ms) for name, wire in reports.items()}
        left = self._lifetimes.left(now_ms, own_ms, ends)
        read = self._entries.read(records.CELL, records.pairs(cells), records.cells_at(now_ms))
        if leases is None:
            leases = await self._run("leases", ("leases",), *self._leases.fields_of(read.values()))
        return Snapshot(
            now_ms=now_ms,
            slot_map=self._slot_map,
            cells=read,
            leases=self._leases.read(now_ms, own_ms, {name_of(field): value for field, value in records.pairs(leases)}),
            leader=name_of(leader),
            policy=self._policy,
            routers=tuple(RouterView(wire.report, live=left[name] > 0) for name, wire in reports.items()),
            cushioned=frozenset(map(name_of, cushioned.split())) & read.keys(),
        )

    async def _take_policy(self, version: bytes, blob: bytes, now_ms: int) -> None:
        """Take the policy in force; there is none without a version, and no blob where it is known.

        For one that can't be read, the newest of the history stands where this process never knew another. Who knew one
        takes it for lost, so that the leader writes again what it remembers.
        """
        if not version:
            self._policy = Policy()
        elif version != b"%d" % self._policy.version and (version, blob) != self._stood_in_for:
            found = self._policy_of(version, blob, now_ms)
            if found is None and not self._knew_policy:
                found, self._stood_in_for = await self._newest_of_history(), (version, blob)
            self._policy = found or Policy()
        self._knew_policy = True

    def _policy_of(self, version: bytes, blob: bytes, now_ms: int) -> Policy | None:
        return self._entries.read_one(records.POLICY, "policy", blob, records.with_version(version, now_ms))

    async def _newest_of_history(self) -> Policy:
        """Return the policy that stands for one that can't be read. Raises RegistryUnavailableError without any."""
        versions = await self.history()
        if not versions:
            raise RegistryUnavailableError(
                "neither the policy in Redis nor its history can be read: see docs/how-to/redis.md"
            )
        return versions[-1].policy

    async def _run(self, script: str, names: Sequence[str], *args: str | bytes | float) -> Any:
        return await self._call(self._scripts[script](keys=[self._key[name] for name in names], args=args))

    async def _call(self, call: Awaitable[T] | Any) -> Any:
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                answer = await cast("Awaitable[Any]", call)
        except _REDIS_ERRORS as error:
            if isinstance(error, ResponseError) and str(error).startswith("NOTLEADER"):
                raise NotLeaderError(str(error)) from error
            self._health.failed(self._clock.monotonic(), error)
            raise RegistryUnavailableError(f"Redis can't be used: {why_unusable(error)}") from error
        self._health.answered(self._clock.monotonic())
        return answer


def _accepted(ruling: Ruling) -> bool:
    if ruling.reasons:
        raise PolicyRefusedError("\n".join(ruling.reasons))
    return ruling.accepted
