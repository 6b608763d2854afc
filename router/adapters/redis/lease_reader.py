"""Leases as they lie in Redis → what is believed of them. Whoever can write to Redis can write anything there.

Guarantees: a lease counts only when an instance that has the environment's secret said so, of this environment and of
the very place where it lies, at an address in the networks of the cells, and newer than what it said before. A lease
put back after it was replaced, or kept alive from outside, is no longer live after MAX_AGE_MS.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

import msgspec

from cell_worker import protocol
from router.core.models import LeaseView
from router.core.telemetry import LeaseRefused

MAX_AGE_MS: Final = 60_000  # no lease lives longer without a heartbeat: the longest `cells.lease_ttl_s`

Network = IPv4Network | IPv6Network


class _LeaseRefusedError(Exception):
    """The reason, in one word."""


@dataclass(slots=True)
class _Believed:
    """The newest that an instance has said."""

    record: protocol.InstanceRecord
    lease: protocol.Lease
    read_at_ms: int

    def view(self, now_ms: int) -> LeaseView:
        record, lease = self.record, self.lease
        return LeaseView(
            cell_id=record.cell_id,
            generation=record.generation,
            instance_id=record.instance_id,
            address=record.address,
            concurrency=record.concurrency,
            ready=lease.ready,
            live=lease.expires_at_ms > now_ms and now_ms - self.read_at_ms <= MAX_AGE_MS,
            ended_ms=max(0, now_ms - lease.expires_at_ms),
            fenced=lease.fenced,
            zone=record.zone,
            region=record.region,
        )


class LeaseReader:
    """Remembers what it has read: each value is checked once, and told of once when it is refused."""

    def __init__(
        self, environment: str, secret: str, networks: Sequence[Network], tell: Callable[[LeaseRefused], None]
    ) -> None:
        self._environment = environment
        self._secret = secret
        self._networks = networks
        self._tell = tell
        self._values: dict[str, bytes] = {}
        self._believed: dict[str, _Believed] = {}

    def read(self, now_ms: int, values: Mapping[str, bytes]) -> tuple[LeaseView, ...]:
        """All that are believed, whether live or not."""
        for field, value in values.items():
            if self._values.get(field) != value:
                try:
                    self._believed[field] = self._checked(field, value, now_ms)
                except _LeaseRefusedError as refused:
                    self._tell(LeaseRefused(field, str(refused)))
        self._values = dict(values)
        self._believed = {field: found for field, found in self._believed.items() if field in values}
        return tuple(found.view(now_ms) for found in self._believed.values())

    def _checked(self, field: str, value: bytes, now_ms: int) -> _Believed:
        try:
            lease = msgspec.json.decode(value, type=protocol.Lease)
        except msgspec.DecodeError as error:
            raise _LeaseRefusedError("garbage") from error
        before = self._believed.get(field)
        record = before.record if before and before.lease.record == lease.record else self._record(field, lease)
        if not hmac.compare_digest(lease.proof.encode(), protocol.beat_proof(lease, self._secret).encode()):
            raise _LeaseRefusedError("unsigned")
        if before and before.record.instance_id == record.instance_id and lease.beat <= before.lease.beat:
            raise _LeaseRefusedError("replayed")
        return _Believed(record, lease, now_ms)

    def _record(self, field: str, lease: protocol.Lease) -> protocol.InstanceRecord:
        record = protocol.verify_record(lease.record, self._secret)
        if record is None:
            raise _LeaseRefusedError("unsigned")
        if record.environment != self._environment:
            raise _LeaseRefusedError("foreign")
        if field != protocol.lease_field(record.cell_id, record.generation):
            raise _LeaseRefusedError("misplaced")
        if not self._is_ours(record.address):
            raise _LeaseRefusedError("network")
        return record

    def _is_ours(self, address: str) -> bool:
        try:
            host = ip_address(address.rpartition(":")[0].strip("[]"))
        except ValueError:
            return False
        return any(host in network for network in self._networks if network.version == host.version)
