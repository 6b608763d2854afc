"""Reads leases as they lie in Redis and decides which to trust: anything that reaches Redis can write there.

A lease is trusted only when all of this holds: it is signed with the cell's own secret, which is derived from one of
the environment's, for this environment and for the field where it lies; its address is in the cells' networks; and its
heartbeat is newer than the last one. A lease that somebody puts back or keeps alive from outside stops counting as live
after LONGEST_MS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from cell_worker.contract import protocol
from cell_worker.contract.keys import Key
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.keyring import Keyring
from router.adapters.redis.lifetimes import Lifetimes
from router.core.models import LeaseView
from router.core.plausible import highest_count, why_epoch_impossible
from router.core.telemetry import LeaseRefusal, LeaseRefused

Network = IPv4Network | IPv6Network


class _LeaseRefusedError(Exception):
    """A lease is not trusted, for this reason."""

    def __init__(self, reason: LeaseRefusal) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(slots=True)
class _TrustedLease:
    """The newest lease of an instance that passed every check."""

    record: protocol.InstanceRecord
    lease: protocol.Lease
    secret_id: str  # of the secret that proves it

    def view(self, left_ms: int) -> LeaseView:
        record, lease = self.record, self.lease
        return LeaseView(
            cell_id=record.cell_id,
            generation=record.generation,
            instance_id=record.instance_id,
            address=record.address,
            concurrency=record.concurrency,
            ready=lease.ready,
            live=left_ms > 0,
            ended_ms=max(0, -left_ms),
            fenced=lease.fenced,
            zone=record.zone,
            region=record.region,
            beat=lease.beat,
            note=lease.note or None,
            secret_id=self.secret_id,
        )


class LeaseReader:
    """Checks each value once, and tells once of one that it refuses; remembers what it has read."""

    def __init__(
        self, environment: str, keyring: Keyring, networks: Sequence[Network], tell: Callable[[LeaseRefused], None]
    ) -> None:
        self._environment = environment
        self._keyring = keyring
        self._networks = networks
        self._tell = tell
        self._values: dict[str, bytes] = {}
        self._trusted: dict[str, _TrustedLease] = {}
        self._lifetimes = Lifetimes()

    def read(self, now_ms: int, own_ms: int, values: Mapping[str, bytes]) -> tuple[LeaseView, ...]:
        """Return the trusted leases among `values` (field → JSON), live or not.

        `now_ms` is Redis' time, and `own_ms` that of a clock which never jumps.
        """
        for field, value in values.items():
            if self._values.get(field) != value:
                try:
                    self._trusted[field] = self._checked(field, value, now_ms)
                except _LeaseRefusedError as refused:
                    self._tell(LeaseRefused(field, refused.reason))
        self._values = dict(values)
        self._trusted = {field: found for field, found in self._trusted.items() if field in values}
        ends = {name: (found.lease.proof, found.lease.expires_at_ms) for name, found in self._trusted.items()}
        left = self._lifetimes.left(now_ms, own_ms, ends)
        return tuple(found.view(left[name]) for name, found in self._trusted.items())

    def _checked(self, field: str, value: bytes, now_ms: int) -> _TrustedLease:
        lease = protocol.LEASE.read(value)
        if isinstance(lease, Unreadable):
            raise _LeaseRefusedError(LeaseRefusal.GARBAGE)
        if why_epoch_impossible(lease.fenced, now_ms) is not None:
            raise _LeaseRefusedError(LeaseRefusal.IMPOSSIBLE)
        key, secret_id = self._key_of(field, lease)
        before = self._trusted.get(field)
        if before and (before.lease.record, before.secret_id) == (lease.record, secret_id):
            record = before.record
        else:
            record = self._record(field, lease, key, now_ms)
        if before and before.record.instance_id == record.instance_id and lease.beat <= before.lease.beat:
            raise _LeaseRefusedError(LeaseRefusal.REPLAYED)
        return _TrustedLease(record, lease, secret_id)

    def _key_of(self, field: str, lease: protocol.Lease) -> tuple[Key, str]:
        """Return the key that a lease in this field is proven by, and the name of the secret that it comes from."""
        cell_keys = self._keyring.cell(field.rpartition("/")[0])
        for keys, secret_id in zip(cell_keys, self._keyring.ids, strict=True):
            if protocol.is_proven(lease, keys.lease):
                return keys.lease, secret_id
        raise _LeaseRefusedError(LeaseRefusal.UNSIGNED)

    def _record(self, field: str, lease: protocol.Lease, key: Key, now_ms: int) -> protocol.InstanceRecord:
        record = protocol.verify_record(lease.record, key)
        if record is None:
            raise _LeaseRefusedError(LeaseRefusal.UNSIGNED)
        if record.environment != self._environment:
            raise _LeaseRefusedError(LeaseRefusal.FOREIGN)
        if field != protocol.lease_field(record.cell_id, record.generation):
            raise _LeaseRefusedError(LeaseRefusal.MISPLACED)
        if record.generation > highest_count(now_ms):
            raise _LeaseRefusedError(LeaseRefusal.IMPOSSIBLE)
        if not self._is_ours(record.address):
            raise _LeaseRefusedError(LeaseRefusal.NETWORK)
        return record

    def _is_ours(self, address: str) -> bool:
        try:
            host = ip_address(address.rpartition(":")[0].strip("[]"))
        except ValueError:
            return False
        return any(host in network for network in self._networks if network.version == host.version)
