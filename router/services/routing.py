"""Keeps the dispatcher's routing as the registry has it.

Guarantees: without the registry, routers go on with what they know. A lease that seems ended takes a cell's target
away only when the registry can be trusted about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.core.errors import RegistryUnavailableError
from router.core.models import LeaseView, Target
from router.core.policy import Policy
from router.core.trust import LeaseTrust
from router.ports import Clock, RegistryReader, Snapshot
from router.services.dispatcher import Routing

POLL_S: Final = 0.25


def routing_of(snapshot: Snapshot, *, trusted: bool) -> Routing | None:
    """The routing that a snapshot says; None without a slot map. `trusted`: ended leases count as gone."""
    if snapshot.slot_map is None:
        return None
    leases = {(lease.cell_id, lease.generation): lease for lease in snapshot.leases}
    targets: dict[str, Target] = {}
    for cell in snapshot.cells.values():
        lease = leases.get((cell.cell_id, cell.generation))
        if lease is not None and (lease.live or not trusted):
            targets[cell.cell_id] = _target(lease, snapshot.slot_map.epoch)
    return Routing(snapshot.slot_map, targets)


def _target(lease: LeaseView, epoch: int) -> Target:
    return Target(lease.cell_id, lease.generation, lease.address, lease.concurrency, epoch)


class RoutingWatcher:
    """Polls the registry and applies what is new."""

    def __init__(
        self, registry: RegistryReader, apply: Callable[[Routing, Policy], None], clock: Clock, lease_ttl_s: float
    ) -> None:
        self._registry = registry
        self._apply = apply
        self._clock = clock
        self._trust = LeaseTrust(lease_ttl_s)
        self._last: tuple[Routing, Policy] | None = None
        self.reachable = False

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self._once()
            await self._clock.sleep(POLL_S)

    async def _once(self) -> None:
        try:
            snapshot = await self._registry.snapshot()
        except RegistryUnavailableError:
            self.reachable = False
            return
        self.reachable = True
        now = self._clock.monotonic()
        self._trust.read(now, whole=snapshot.slot_map is not None)
        routing = routing_of(snapshot, trusted=self._trust.trusted(now))
        if routing is not None and (routing, snapshot.policy) != self._last:
            self._last = (routing, snapshot.policy)
            self._apply(routing, snapshot.policy)
