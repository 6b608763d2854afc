"""Does what the core has decided, as the leader of one epoch. Each deed is in the audit stream with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from router.core.control.actions import (
    Action,
    Admit,
    Adopt,
    CreateCell,
    EndScaling,
    GiveUpLaunch,
    Launch,
    PublishMap,
    RaiseFence,
    Retire,
    Stop,
    Treat,
    Verify,
)
from router.core.control.ladder import admitted
from router.core.errors import ProvisionError
from router.core.models import CellRecord, Rung
from router.core.registry import AuditEntry, Change, Snapshot
from router.core.slot_map.placement import targets
from router.core.slot_map.slots import NO_MOVE
from router.core.telemetry import ActionTaken
from router.ports import CellRegistry, CellResources, Clock, Observer
from router.services.control_plane.canary import QUICK_S
from router.services.control_plane.fleet import Fleet
from router.services.control_plane.health import Canary
from router.services.control_plane.treatment import Treater

CREATE_AGAIN_S: Final = 5.0  # after a failure to make a cell's components
VERIFY_AGAIN_S: Final = 2.0  # after a canary that got no good answer
END_AGAIN_S: Final = 5.0  # after an instance was asked to end

NAMES: Final[Mapping[Rung, str]] = {  # of the audit
    Rung.WELL: "recovered",
    Rung.GUARDED: "hold back",
    Rung.MENDING: "treat",
    Rung.RESTARTING: "restart instance",
    Rung.REPLACING: "replace",
    Rung.REPROVISIONING: "reprovision",
    Rung.GIVEN_UP: "give up",
}


@dataclass(frozen=True, slots=True)
class Tick:
    """One look at the registry, as the leader, and what was written since."""

    epoch: int
    snapshot: Snapshot
    records: dict[str, CellRecord]


class Executor:
    """The controller's hands."""

    def __init__(
        self,
        who: str,
        registry: CellRegistry,
        fleet: Fleet,
        resources: CellResources,
        canary: Canary,
        treater: Treater,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._who = who
        self._registry = registry
        self._fleet = fleet
        self._resources = resources
        self._canary = canary
        self._treater = treater
        self._clock = clock
        self._observer = observer
        self._not_before: dict[tuple[str, str], float] = {}  # what failed for a cell isn't tried again at once
        self.moved_at: float | None = None  # when the last move ended

    async def do(self, tick: Tick, action: Action) -> None:
        """One action. Raises NotLeaderError, RegistryUnavailableError."""
        match action:
            case PublishMap():
                await self._publish(tick, action)
            case EndScaling(count, why):
                policy = tick.snapshot.policy
                policy = replace(policy, version=policy.version + 1, cells=count, scaling_from=0)
                await self.write(tick, Change(policy=policy), "", "end scaling", why)
            case Stop():
                await self._stop(tick, action)
            case CreateCell(cell_id):
                await self._create(tick, cell_id)
            case Launch(cell_id, why, above):
                await self._launch(tick, tick.records[cell_id], why, above)
            case Admit(cell_id, generation):
                await self._admit(tick, tick.records[cell_id], generation)
            case Verify(cell_id):
                await self._verify(tick, tick.records[cell_id])
            case Treat():
                await self._treat(tick, action)
            case _:
                await self._note(tick, action, tick.records[action.cell_id])

    async def write(self, tick: Tick, change: Change, cell_id: str, action: str, why: str) -> None:
        """Write it with its reason; from now on it is so."""
        entry = AuditEntry(self._clock.time_ms(), self._who, action, cell_id, why)
        await self._registry.write(tick.epoch, replace(change, audit=[entry]))
        tick.records.update({record.cell_id: record for record in change.cells})
        self._observer.observe(ActionTaken(cell_id, action, why))

    async def _stop(self, tick: Tick, action: Stop) -> None:
        if self._fleet.can_launch:
            await self._fleet.stop(action.cell_id, action.generation, action.why)
        elif not self._too_soon("end", action.cell_id):  # it ends itself, and what has started it starts it again
            self._put_off("end", action.cell_id, END_AGAIN_S)
            record = replace(tick.records[action.cell_id], generation=action.generation)
            fault = await self._treater.end(record, tick.snapshot)
            self._observer.observe(ActionTaken(action.cell_id, "stop", "; ".join(filter(None, [action.why, fault]))))

    async def _note(self, tick: Tick, action: Adopt | GiveUpLaunch | Retire | RaiseFence, record: CellRecord) -> None:
        """What changes nothing but the cell's record."""
        match action:
            case Adopt(_, generation):
                now_ms = tick.snapshot.now_ms
                record = replace(record, launching=generation, launched=generation, launched_at_ms=now_ms)
                name, why = "adopt", f"generation {generation} runs already"
            case GiveUpLaunch(_, generation, why):
                failures = record.launch_failures + 1
                record = replace(record, launching=0, launch_failures=failures, candidate_failures=0)
                name, why = "give up launch", f"generation {generation}: {why}"
            case Retire():
                record = replace(record, retired=True, launching=0)
                name, why = "retire", "not one of the cells any more, and nothing belongs to it"
            case RaiseFence(_, fence):
                record = replace(record, fence=fence)
                name, why = "raise fence", f"what moves away must not begin again: epoch {fence}"
        await self.write(tick, Change(cells=[record]), record.cell_id, name, why)

    async def _create(self, tick: Tick, cell_id: str) -> None:
        if self._too_soon("create", cell_id):
            return
        try:
            await self._resources.ensure(cell_id)
        except ProvisionError as error:
            self._put_off("create", cell_id, CREATE_AGAIN_S)
            self._observer.observe(ActionTaken(cell_id, "create failed", str(error)))
            return
        retired = tick.records.get(cell_id)
        record = replace(retired, retired=False) if retired is not None else CellRecord(cell_id)
        await self.write(tick, Change(cells=[record]), cell_id, "create", "desired and not there")

    async def _launch(self, tick: Tick, record: CellRecord, why: str, above: int) -> None:
        generation = await self._registry.next_generation(tick.epoch, record.cell_id, above)
        # Written first: if this controller dies in between, the next one knows what may be running.
        record = replace(record, launching=generation, launched=generation, launched_at_ms=tick.snapshot.now_ms)
        await self.write(tick, Change(cells=[record]), record.cell_id, "launch", f"generation {generation}: {why}")
        try:
            await self._fleet.launch(record.cell_id, generation)
        except ProvisionError as error:
            record = replace(record, launching=0, launch_failures=record.launch_failures + 1)
            await self.write(tick, Change(cells=[record]), record.cell_id, "give up launch", str(error))

    async def _admit(self, tick: Tick, record: CellRecord, generation: int) -> None:
        """Verified before it gets the traffic: until then, whoever has it keeps it."""
        if self._too_soon("admit", record.cell_id):
            return
        if fault := await self._canary(replace(record, generation=generation), tick.snapshot, QUICK_S):
            self._put_off("admit", record.cell_id, VERIFY_AGAIN_S)
            why = f"generation {generation} gets no traffic yet: {fault}"
            record = replace(record, candidate_failures=record.candidate_failures + 1)
            await self.write(tick, Change(cells=[record]), record.cell_id, "verify failed", why)
            return
        after = admitted(record, generation, tick.snapshot.now_ms)
        why = f"generation {generation} is ready, and has answered a canary"
        await self.write(tick, Change(cells=[after]), record.cell_id, "admit", why)

    async def _publish(self, tick: Tick, action: PublishMap) -> None:
        for cell_id in sorted(targets(action.slot_map)):
            if not await self._verify(tick, tick.records[cell_id]):
                return
        current = tick.snapshot.slot_map
        slot_map = replace(action.slot_map, epoch=max(tick.epoch, current.epoch + 1 if current else 0))
        await self.write(tick, Change(slot_map=slot_map), "", action.action, action.why)
        if slot_map.move is NO_MOVE:
            self.moved_at = self._clock.monotonic()

    async def _verify(self, tick: Tick, record: CellRecord) -> bool:
        """Send a canary, unless one failed just now; whether it was answered well."""
        if self._too_soon("verify", record.cell_id):
            return False
        generation, known = record.generation, record.verified == record.generation
        if fault := await self._canary(record, tick.snapshot, QUICK_S):
            self._put_off("verify", record.cell_id, VERIFY_AGAIN_S)
            record = replace(record, canary_failures=record.canary_failures + 1)
            await self.write(tick, Change(cells=[record]), record.cell_id, "verify failed", fault)
            return False
        if not known or record.canary_failures:
            record, why = replace(record, verified=generation, canary_failures=0), f"generation {generation} answered"
            await self.write(tick, Change(cells=[record]), record.cell_id, "verify", why)
        return True

    async def _treat(self, tick: Tick, action: Treat) -> None:
        """Write the rung down first: whoever leads next goes on from there. Rungs that can't help are passed over."""
        treat: Treat | None = action
        while treat is not None:
            record = replace(tick.records[treat.cell_id], treatment=treat.treatment)
            await self.write(tick, Change(cells=[record]), record.cell_id, NAMES[treat.treatment.rung], treat.why)
            outcome = await self._treater.treat(record, tick.snapshot)
            if outcome.done:
                changed = outcome.record if outcome.record is not None else record
                await self.write(tick, Change(cells=[changed]), record.cell_id, outcome.action, outcome.done)
            treat = outcome.then

    def _too_soon(self, what: str, cell_id: str) -> bool:
        return self._clock.monotonic() < self._not_before.get((what, cell_id), 0.0)

    def _put_off(self, what: str, cell_id: str, seconds: float) -> None:
        self._not_before[what, cell_id] = self._clock.monotonic() + seconds
