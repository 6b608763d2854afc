"""Keeps the dispatcher's routing as the registry has it, and tells the registry of this router.

Guarantees: without the registry, a router goes on with what it knows; one that starts goes on with what the router
before it remembered. A router never goes back to an older slot map: when the registry has lost the newest one, the
router offers it to the leader. A lease that seems to have ended takes a cell's target away only while there is no
doubt that its instance could have renewed it; one that has really died is found by the calls that fail.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from router.core.control.lease_trust import NO_DOUBT, Doubt
from router.core.control.twins import twin_of
from router.core.errors import RegistryUnavailableError
from router.core.models import CellRecord, RouterReport, Rung, Target
from router.core.registry import Snapshot
from router.core.slot_map.routing import KnownRouting, Routing
from router.ports import Clock, Observer, RouterRegistry
from router.services.data_plane.depths import DepthWatch
from router.services.data_plane.dispatcher import Dispatcher
from router.services.leases import Leases
from router.services.prober import SeenCells
from router.services.unforeseen import Unforeseen

POLL_S: Final = 0.25
REPORT_EVERY_S: Final = 1.0
TRAFFIC_EVERY_S: Final = 10.0
ROUTER_TTL_S: Final = 5.0  # a move waits so long for a router that has died


class RoutingMemory(Protocol):
    """Keeps what a router knew last where a restart finds it."""

    def load(self) -> KnownRouting | None:
        """Return what was saved last; None when there is nothing that can be used."""
        ...

    def save(self, known: KnownRouting) -> None:
        """Save what the router knows now. Never raises."""
        ...


def routing_of(snapshot: Snapshot, last: Routing | None, doubted: Doubt = NO_DOUBT) -> Routing | None:
    """Return the routing that a snapshot of the registry describes; None when it has no slot map.

    A cell of `doubted` keeps the target that its ended lease names, or that `last` has for it.
    """
    if snapshot.slot_map is None:
        return None
    targets: dict[str, Target] = {}
    for cell in snapshot.cells.values():
        lease = snapshot.lease(cell.cell_id, cell.generation)
        if lease is not None and cell.address not in ("", lease.address):
            continue  # the controller has sent no canary there: its engine says otherwise, or it will soon
        kept = cell.cell_id in doubted.cells
        if lease is not None and (lease.live or kept):
            targets[cell.cell_id] = lease.target(snapshot.slot_map.epoch)
        elif lease is None and kept and (before := _before(last, cell)):
            targets[cell.cell_id] = before
    cells, policy = snapshot.cells, snapshot.policy
    return Routing(
        snapshot.slot_map,
        targets,
        cells=frozenset(snapshot.cells),
        ejected=frozenset(cell_id for cell_id, record in cells.items() if policy.ejects(record)),
        abandoned=frozenset(cell_id for cell_id, record in cells.items() if policy.ejected_by_ladder(record)),
        cushioned=snapshot.cushioned,
        tried=frozenset(cell_id for cell_id, record in cells.items() if twin_of(record, snapshot)),
        routers=max(1, sum(router.live for router in snapshot.routers)),
        unwell=frozenset(cell_id for cell_id, record in cells.items() if record.treatment.rung is not Rung.WELL),
    )


def _before(last: Routing | None, cell: CellRecord) -> Target | None:
    """The target that the cell's admitted instance had in the last routing."""
    target = last.targets.get(cell.cell_id) if last is not None else None
    return target if target is not None and target.generation == cell.generation else None


class RoutingWatcher:
    """Polls the registry, and has the dispatcher apply what is new."""

    def __init__(
        self,
        mine: RouterReport,
        registry: RouterRegistry,
        memory: RoutingMemory,
        dispatcher: Dispatcher,
        depths: DepthWatch,
        clock: Clock,
        unforeseen: Unforeseen,
        observer: Observer,
        lease_ttl_s: float,
    ) -> None:
        self._mine = mine  # what this router reports at its end
        self._registry = registry
        self._memory = memory
        self._dispatcher = dispatcher
        self._depths = depths
        self._clock = clock
        self._unforeseen = unforeseen
        self._leases = Leases(lease_ttl_s, observer)
        self._last: KnownRouting | None = None
        self._reported: tuple[float, RouterReport] | None = None  # when (monotonic), and what
        self._traffic_at = 0.0
        self.seen: SeenCells | None = None  # the newest

    async def run(self) -> None:
        """Poll until cancelled; then tell the registry that this router leaves."""
        try:
            while True:
                await self._once()
                await self._changed()
        finally:
            with suppress(RegistryUnavailableError):
                await self._registry.report(self._mine, 0)

    async def _once(self) -> None:
        try:
            await self._read(await self._registry.snapshot())
            await self._report()
        except RegistryUnavailableError:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - what is known already stays in force, whatever the registry holds
            self._unforeseen.note("routing", error)
            self._go_on()

    def _go_on(self) -> None:
        """Go on without the registry."""
        try:
            self._recall()
        except Exception as error:  # noqa: BLE001 - a router that can't use what was saved waits for the registry
            self._unforeseen.note("saved routing", error)

    async def _changed(self) -> None:
        """Wait for the next look at the registry."""
        try:
            await self._registry.changed(POLL_S)
        except Exception as error:  # noqa: BLE001 - without notifications, the next look comes in its time
            self._unforeseen.note("notifications", error)
            await self._clock.sleep(POLL_S)

    async def _read(self, snapshot: Snapshot) -> None:
        now, epoch = self._clock.monotonic(), snapshot.slot_map.epoch if snapshot.slot_map else -1
        if epoch < 0:
            self._recall()
        last = self._last
        whole = epoch >= 0 and (last is None or epoch >= last.routing.slot_map.epoch)
        doubted = self._leases.read(now, snapshot, whole=whole)
        if not whole:
            if last is not None:
                await self._registry.offer(last.routing.slot_map, last.policy)
            return
        routing = routing_of(snapshot, last.routing if last else None, doubted)
        assert routing is not None, "a whole snapshot has a slot map"
        self.seen = SeenCells(snapshot, routing.targets)
        policy = snapshot.policy
        if last is not None and last.policy.version > policy.version:
            policy = last.policy
        known = KnownRouting(routing, policy)
        if known != last:
            self._use(known)
            self._memory.save(known)
        if self._dispatcher.aside is not None:
            self._dispatcher.aside.confirm()

    async def _report(self) -> None:
        epoch = self._last.routing.slot_map.epoch if self._last else 0
        quiet, now = self._dispatcher.quiet(), self._clock.monotonic()
        report = replace(self._mine, epoch=epoch, quiet=quiet, queues=self._depths.newest, ages=self._depths.ages)
        if self._reported is None or self._reported[1] != report or now - self._reported[0] >= REPORT_EVERY_S:
            await self._registry.report(report, ROUTER_TTL_S)
            self._reported = (now, report)
        if now - self._traffic_at >= TRAFFIC_EVERY_S:
            await self._registry.note_traffic(self._mine.router_id, self._dispatcher.traffic())
            self._traffic_at = now

    def _recall(self) -> None:
        """Go by what the router before this one knew, when this one has just started and can't ask."""
        if self._last is None and (known := self._memory.load()) is not None:
            self._use(known)

    def _use(self, known: KnownRouting) -> None:
        self._dispatcher.apply(known.routing, known.policy)
        self._last = known  # only now: what can't be applied is tried again
