"""Keeps the dispatcher's routing as the registry has it, and the registry informed of this router.

Guarantees: without the registry, routers go on with what they know, also from a start, when they knew something before.
They never go back to an older map: when the registry has lost the newest, they offer it to the leader. A lease that
seems ended takes a cell's target away only when the registry can be trusted about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from router.core.control.lease_trust import LeaseTrust
from router.core.errors import RegistryUnavailableError
from router.core.models import CellRecord, LeaseView, RouterReport, Rung, Target, Traffic
from router.core.policy import Policy
from router.core.registry import Snapshot
from router.core.slot_map.routing import Known, Routing
from router.ports import Clock, RouterRegistry

POLL_S: Final = 0.25
REPORT_EVERY_S: Final = 1.0
TRAFFIC_EVERY_S: Final = 10.0
ROUTER_TTL_S: Final = 5.0  # a planned move waits so long for a router that has died


class RoutingMemory(Protocol):
    """What a router knew last, kept where a restart finds it."""

    def load(self) -> Known | None:
        """None when there is nothing that can be used."""
        ...

    def save(self, known: Known) -> None:
        """Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Applied:
    """Where the routing goes, whether what it moves has come to rest there, and what went where."""

    apply: Callable[[Routing, Policy], None]
    quiet: Callable[[], bool]
    traffic: Callable[[], Mapping[str, Traffic]]


def routing_of(snapshot: Snapshot, last: Routing | None, *, trusted: bool) -> Routing | None:
    """The routing that a snapshot says; None without a slot map. `trusted`: leases that ended or are gone count."""
    if snapshot.slot_map is None:
        return None
    targets: dict[str, Target] = {}
    for cell in snapshot.cells.values():
        lease = snapshot.lease(cell.cell_id, cell.generation)
        if lease is not None and (lease.live or not trusted):
            targets[cell.cell_id] = _target(lease, snapshot.slot_map.epoch)
        elif lease is None and not trusted and (before := _before(last, cell)):
            targets[cell.cell_id] = before
    cells, policy = snapshot.cells, snapshot.policy
    return Routing(
        snapshot.slot_map,
        targets,
        cells=frozenset(snapshot.cells),
        ejected=frozenset(cell_id for cell_id, record in cells.items() if policy.ejects(record)),
        useless=frozenset(cell_id for cell_id, record in cells.items() if policy.ejected_by_ladder(record)),
        suspect=frozenset(cell_id for cell_id, record in cells.items() if record.treatment.rung is not Rung.WELL),
    )


def _target(lease: LeaseView, epoch: int) -> Target:
    return Target(lease.cell_id, lease.generation, lease.address, lease.concurrency, epoch)


def _before(last: Routing | None, cell: CellRecord) -> Target | None:
    """Where the cell's admitted instance was."""
    target = last.targets.get(cell.cell_id) if last is not None else None
    return target if target is not None and target.generation == cell.generation else None


class RoutingWatcher:
    """Polls the registry and applies what is new."""

    def __init__(
        self,
        router_id: str,
        registry: RouterRegistry,
        memory: RoutingMemory,
        applied: Applied,
        clock: Clock,
        lease_ttl_s: float,
    ) -> None:
        self._router_id = router_id
        self._registry = registry
        self._memory = memory
        self._applied = applied
        self._clock = clock
        self._trust = LeaseTrust(lease_ttl_s)
        self._last: Known | None = None
        self._reported: tuple[float, RouterReport] | None = None
        self._traffic_at = 0.0
        self.reachable = False

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            while True:
                await self._once()
                await self._registry.changed(POLL_S)
        finally:
            with suppress(RegistryUnavailableError):
                await self._registry.report(RouterReport(self._router_id, 0, quiet=True), 0)

    async def _once(self) -> None:
        try:
            await self._read(await self._registry.snapshot())
            await self._report()
            self.reachable = True
        except RegistryUnavailableError:
            self.reachable = False
            self._recall()

    async def _read(self, snapshot: Snapshot) -> None:
        now, epoch = self._clock.monotonic(), snapshot.slot_map.epoch if snapshot.slot_map else -1
        if epoch < 0:
            self._recall()
        last = self._last
        whole = epoch >= 0 and (last is None or epoch >= last[0].slot_map.epoch)
        self._trust.read(now, whole=whole)
        if not whole:
            if last is not None:
                await self._registry.offer(last[0].slot_map, last[1])
            return
        routing = routing_of(snapshot, last[0] if last else None, trusted=self._trust.trusted(now))
        assert routing is not None, "whole, so there is a map"
        policy = last[1] if last is not None and last[1].version > snapshot.policy.version else snapshot.policy
        if (routing, policy) != last:
            self._use(routing, policy)
            self._memory.save((routing, policy))

    async def _report(self) -> None:
        epoch = self._last[0].slot_map.epoch if self._last else 0
        report, now = RouterReport(self._router_id, epoch, self._applied.quiet()), self._clock.monotonic()
        if self._reported is None or self._reported[1] != report or now - self._reported[0] >= REPORT_EVERY_S:
            await self._registry.report(report, ROUTER_TTL_S)
            self._reported = (now, report)
        if now - self._traffic_at >= TRAFFIC_EVERY_S:
            await self._registry.note_traffic(self._router_id, self._applied.traffic())
            self._traffic_at = now

    def _recall(self) -> None:
        """A router that has just started, and can't ask, goes by what the one before it knew."""
        if self._last is None and (known := self._memory.load()) is not None:
            self._use(*known)

    def _use(self, routing: Routing, policy: Policy) -> None:
        self._last = (routing, policy)
        self._applied.apply(routing, policy)
