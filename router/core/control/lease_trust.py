"""When a missing lease means a dead instance, when it only means that the registry was away, and which lease is false.

After an outage, a hang or a loss of data every lease looks ended, though every cell is well. A lease's end counts
only after the registry has been read without a gap for as long as a lease lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.core.models import InstanceView, LeaseView
from router.core.telemetry import LeaseRefusal


class LeaseTrust:
    """Whether missing leases count, by every attempt to read the registry; times are monotonic seconds."""

    def __init__(self, lease_ttl_s: float) -> None:
        self._ttl_s = lease_ttl_s
        self._since: float | None = None
        self._last = 0.0

    def read(self, now: float, *, whole: bool) -> None:
        """Note that the registry answered; `whole` tells whether it had everything that it should hold."""
        gap = now - self._last > self._ttl_s / 2
        if self._since is None or gap or not whole:
            self._since = now
        self._last = now

    def trusted(self, now: float) -> bool:
        """Tell whether a lease that has ended means an instance that is gone."""
        return self._since is not None and now - self._since >= self._ttl_s


def refused_leases(
    leases: Iterable[LeaseView], instances: Mapping[tuple[str, int], InstanceView]
) -> dict[LeaseView, LeaseRefusal]:
    """Pick the leases that the provisioner contradicts by its `instances`, by cell and generation.

    A provisioner that knows no addresses contradicts nobody.
    """
    if not any(instance.address for instance in instances.values()):
        return {}
    found = {lease: why_refused(lease, instances.get((lease.cell_id, lease.generation))) for lease in leases}
    return {lease: fault for lease, fault in found.items() if fault is not None}


def why_refused(lease: LeaseView, instance: InstanceView | None) -> LeaseRefusal | None:
    """Say why a live lease is not that of the instance which was launched for it; None when nothing is against it.

    A provisioner that has addresses knows where it has put an instance. A lease from elsewhere, or of an instance that
    the provisioner never started, is false though its signature is right.
    """
    if not lease.live:
        return None
    if instance is None:
        return LeaseRefusal.UNKNOWN
    return LeaseRefusal.ADDRESS if instance.address not in ("", lease.address) else None
