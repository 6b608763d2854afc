"""Reads leases as they lie in Redis and decides which to trust: anything that reaches Redis can write there.

A lease is trusted only when all of this holds: it is signed with the cell's own secret, which is derived from one of
the environment's, for this environment and for the field where it lies; the name of that field follows from the same
secret; its address is in the cells' networks; and its heartbeat is newer than the last one. A lease that somebody puts
back or keeps alive from outside stops counting as live after LONGEST_MS.

No instance takes its lease away: it says that it ends. So a lease that is gone, or in whose place something false lies,
says nothing about its instance. It is remembered as it was, and called missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import msgspec

from cell_worker.contract import protocol
from cell_worker.contract.keys import Key
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.keyring import Keyring
from router.adapters.redis.entries import MAX_TOLD
from router.adapters.redis.lifetimes import Lifetimes
from router.core.addresses import host_of
from router.core.models import CellRecord, LeaseView, Vitals
from router.core.plausible import highest_count, why_epoch_impossible
from router.core.telemetry import LeaseRefusal, LeaseRefused

Network = IPv4Network | IPv6Network

MAX_MISSING: Final = 4096  # leases that are remembered though they are gone; those that went last


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

    def view(self, left_ms: int, *, missing: bool) -> LeaseView:
        record, lease = self.record, self.lease
        return LeaseView(
            cell_id=record.cell_id,
            generation=record.generation,
            instance_id=record.instance_id,
            address=record.address,
            concurrency=record.concurrency,
            ready=lease.ready,
            live=left_ms > 0 and not lease.ended,
            ended_ms=max(0, -left_ms),
            fenced=lease.fenced,
            zone=record.zone,
            region=record.region,
            beat=lease.beat,
            note=lease.note or None,
            secret_id=self.secret_id,
            released=lease.ended,
            missing=missing and not lease.ended,
            vitals=None if lease.vitals is None else Vitals(**msgspec.structs.asdict(lease.vitals)),
            rehearses=record.rehearses,
        )


class LeaseReader:
    """Checks each value once, tells once of one that it refuses, of MAX_TOLD a look, and remembers what it has read."""

    def __init__(
        self, environment: str, keyring: Keyring, networks: Sequence[Network], tell: Callable[[LeaseRefused], None]
    ) -> None:
        self._environment = environment
        self._keyring = keyring
        self._networks = networks
        self._tell = tell
        self._values: dict[str, bytes] = {}
        self._false: set[str] = set()  # fields whose value is refused
        self._trusted: dict[str, _TrustedLease] = {}
        self._lifetimes = Lifetimes()

    def read(self, now_ms: int, own_ms: int, values: Mapping[str, bytes]) -> tuple[LeaseView, ...]:
        """Return the trusted leases among `values` (field → JSON), live or not.

        `now_ms` is Redis' time, and `own_ms` that of a clock which never jumps.
        """
        refused: list[LeaseRefused] = []
        for field, value in values.items():
            if self._values.get(field) != value:
                self._false.discard(field)
                try:
                    self._trusted[field] = self._checked(field, value, now_ms)
                except _LeaseRefusedError as error:
                    self._false.add(field)
                    refused.append(LeaseRefused(protocol.instance_of_field(field), error.reason))
        for each in refused[:MAX_TOLD]:
            self._tell(each)
        self._values = dict(values)
        self._false &= values.keys()
        missing = self._forget(values)
        ends = {name: (found.lease.proof, found.lease.expires_at_ms) for name, found in self._trusted.items()}
        left = self._lifetimes.left(now_ms, own_ms, ends)
        return _one_each(found.view(left[name], missing=name in missing) for name, found in self._trusted.items())

    def fields_of(self, cells: Iterable[CellRecord]) -> list[str]:
        """List where the leases lie of all instances that the cells' records tell of, by each valid secret."""
        return [
            protocol.lease_field(protocol.instance_name(cell.cell_id, generation), keys.lease)
            for cell in cells
            for generation in {cell.generation, cell.launching, cell.launched} - {0}
            for keys in self._keyring.cell(cell.cell_id)
        ]

    def _forget(self, values: Mapping[str, bytes]) -> set[str]:
        """Forget the leases that went first, where there are too many, and return those of the others that are gone."""
        gone = [field for field in self._trusted if field not in values]
        for field in gone[:-MAX_MISSING]:
            del self._trusted[field]
        return {*gone[-MAX_MISSING:], *self._false}

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
        cell_keys = self._keyring.cell(protocol.instance_of_field(field).rpartition("/")[0])
        for keys, secret_id in zip(cell_keys, self._keyring.ids, strict=True):
            if protocol.is_lease_field(field, keys.lease) and protocol.is_proven(lease, keys.lease):
                return keys.lease, secret_id
        raise _LeaseRefusedError(LeaseRefusal.UNSIGNED)

    def _record(self, field: str, lease: protocol.Lease, key: Key, now_ms: int) -> protocol.InstanceRecord:
        record = protocol.verify_record(lease.record, key)
        if record is None:
            raise _LeaseRefusedError(LeaseRefusal.UNSIGNED)
        if record.environment != self._environment:
            raise _LeaseRefusedError(LeaseRefusal.FOREIGN)
        if protocol.instance_of_field(field) != protocol.instance_name(record.cell_id, record.generation):
            raise _LeaseRefusedError(LeaseRefusal.MISPLACED)
        if record.generation > highest_count(now_ms):
            raise _LeaseRefusedError(LeaseRefusal.IMPOSSIBLE)
        if not self._is_ours(record.address):
            raise _LeaseRefusedError(LeaseRefusal.NETWORK)
        return record

    def _is_ours(self, address: str) -> bool:
        host = host_of(address)
        return host is not None and any(host in net for net in self._networks if net.version == host.version)


def _one_each(views: Iterable[LeaseView]) -> tuple[LeaseView, ...]:
    """Take one lease of each instance: one that was started again with a newer secret has its old lease beside it."""
    found: dict[tuple[str, int], LeaseView] = {}
    for view in views:
        other = found.setdefault((view.cell_id, view.generation), view)
        if (view.live, -view.ended_ms) > (other.live, -other.ended_ms):
            found[view.cell_id, view.generation] = view
    return tuple(found.values())
