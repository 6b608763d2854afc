"""The control plane of one controller process: observe, let the core decide, do it.

Guarantees: only the leader acts; every write is fenced by its epoch; the leader takes itself for deposed before its
lease can end. Each action is in the audit stream with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from router.core.errors import NotLeaderError, ProvisionError, RegistryUnavailableError
from router.core.models import CellRecord
from router.core.reconcile import (
    Action,
    Admit,
    CreateCell,
    Desired,
    GiveUpLaunch,
    Launch,
    Observed,
    PublishMap,
    Stop,
    reconcile,
)
from router.core.slots import SlotMap
from router.core.telemetry import ActionTaken, LeadershipChanged
from router.core.trust import LeaseTrust
from router.ports import AuditEntry, CellRegistry, CellResources, Clock, Observer, Provisioner, Snapshot

TICK_S: Final = 0.25
CREATE_AGAIN_S: Final = 5.0  # after a failure to make a cell's components


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """What this controller wants and who it is."""

    owner: str
    cells: tuple[str, ...]
    launch_timeout_s: float
    lease_ttl_s: float  # of instances
    leader_ttl_s: float = 5.0


class Controller:
    """One of several; the one with the lead acts."""

    def __init__(
        self,
        config: ControllerConfig,
        registry: CellRegistry,
        provisioner: Provisioner,
        resources: CellResources,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._config = config
        self._registry = registry
        self._provisioner = provisioner
        self._resources = resources
        self._clock = clock
        self._observer = observer
        self._desired = Desired(config.cells, provisioner.can_launch, config.launch_timeout_s)
        self._trust = LeaseTrust(config.lease_ttl_s)
        self._create_at = 0.0
        self._highest_epoch = 0  # ever seen, so that an emptied registry can't turn the epoch back
        self.epoch: int | None = None  # while it leads
        self.reachable = False

    async def run(self) -> None:
        """Tick until cancelled, then give the lead up."""
        try:
            while True:
                await self.tick()
                await self._clock.sleep(TICK_S)
        finally:
            await self._resign()

    async def tick(self) -> None:
        """Lead if possible, and as the leader bring the cells one step nearer to what is desired."""
        try:
            deadline = self._clock.monotonic() + self._config.leader_ttl_s * 0.8
            self._lead(await self._registry.lead(self._config.owner, self._config.leader_ttl_s, self._highest_epoch))
            snapshot = await self._registry.snapshot()
            self.reachable = True
            self._trust.read(self._clock.monotonic(), whole=bool(snapshot.cells))
            if self.epoch is not None:
                await self._act(self.epoch, snapshot, deadline)
        except RegistryUnavailableError:
            self.reachable = False  # without the registry nothing is decided
        except NotLeaderError:
            self._lead(None)

    def _lead(self, epoch: int | None) -> None:
        if epoch != self.epoch:
            self._observer.observe(LeadershipChanged(leads=epoch is not None, epoch=epoch or 0))
        self.epoch = epoch
        self._highest_epoch = max(self._highest_epoch, epoch or 0)

    async def _act(self, epoch: int, snapshot: Snapshot, deadline: float) -> None:
        if snapshot.slot_map is not None:
            self._highest_epoch = max(self._highest_epoch, snapshot.slot_map.epoch)
        observed = Observed(
            now_ms=snapshot.now_ms,
            cells=snapshot.cells,
            leases=snapshot.leases,
            instances=tuple(await self._provisioner.observe()),
            slot_map=snapshot.slot_map,
            leases_trusted=self._trust.trusted(self._clock.monotonic()),
        )
        for action in reconcile(self._desired, observed):
            if self._clock.monotonic() >= deadline:
                return  # the lease must be renewed before anything more is done
            await self._do(epoch, action, snapshot)

    async def _do(self, epoch: int, action: Action, snapshot: Snapshot) -> None:
        cells = snapshot.cells
        match action:
            case CreateCell(cell_id):
                await self._create(epoch, cell_id)
            case Launch(cell_id, why):
                await self._launch(epoch, cells[cell_id], why, snapshot.now_ms)
            case Admit(cell_id, generation):
                record = CellRecord(cell_id, generation)
                await self._write(epoch, record, "admit", f"generation {generation} is ready")
            case GiveUpLaunch(cell_id, generation, why):
                failures = cells[cell_id].launch_failures + 1
                record = replace(cells[cell_id], launching=0, launch_failures=failures)
                await self._write(epoch, record, "give up launch", f"generation {generation}: {why}")
            case Stop(cell_id, generation, why):
                await self._provisioner.stop(cell_id, generation)
                self._observer.observe(ActionTaken(cell_id, "stop", why))
            case PublishMap(owners):
                await self._publish(epoch, owners, snapshot.slot_map)

    async def _create(self, epoch: int, cell_id: str) -> None:
        if self._clock.monotonic() < self._create_at:
            return
        try:
            await self._resources.ensure(cell_id)
        except ProvisionError as error:
            self._create_at = self._clock.monotonic() + CREATE_AGAIN_S
            self._observer.observe(ActionTaken(cell_id, "create failed", str(error)))
            return
        await self._write(epoch, CellRecord(cell_id), "create", "desired and not there")

    async def _launch(self, epoch: int, record: CellRecord, why: str, now_ms: int) -> None:
        generation = await self._registry.next_generation(epoch, record.cell_id)
        # Written first: if this controller dies in between, the next one knows what may be running.
        record = replace(record, launching=generation, launched_at_ms=now_ms)
        await self._write(epoch, record, "launch", f"generation {generation}: {why}")
        try:
            await self._provisioner.launch(record.cell_id, generation)
        except ProvisionError as error:
            record = replace(record, launching=0, launch_failures=record.launch_failures + 1)
            await self._write(epoch, record, "give up launch", str(error))

    async def _publish(self, epoch: int, owners: tuple[str, ...], current: SlotMap | None) -> None:
        slot_map = SlotMap(max(epoch, current.epoch + 1 if current else 0), owners)
        shares = ", ".join(f"{cell} {count}" for cell, count in sorted(slot_map.counts().items()))
        await self._registry.write(epoch, slot_map=slot_map, audit=[self._entry("", "publish map", shares)])

    async def _write(self, epoch: int, record: CellRecord, action: str, why: str) -> None:
        await self._registry.write(epoch, cells=[record], audit=[self._entry(record.cell_id, action, why)])
        self._observer.observe(ActionTaken(record.cell_id, action, why))

    def _entry(self, cell_id: str, action: str, why: str) -> AuditEntry:
        return AuditEntry(self._clock.time_ms(), self._config.owner, action, cell_id, why)

    async def _resign(self) -> None:
        try:
            await self._registry.resign(self._config.owner)
        except RegistryUnavailableError:
            return  # the lease ends by itself


def cell_ids(count: int) -> tuple[str, ...]:
    """cell-0000 … for a number of cells."""
    return tuple(f"cell-{i:04d}" for i in range(count))
