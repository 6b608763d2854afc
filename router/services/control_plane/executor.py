"""Does what core has decided, as the leader of one epoch. Each action is in the audit stream with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from router.core.control import records
from router.core.control.actions import (
    Action,
    Admit,
    Adopt,
    ChangeCells,
    CreateCell,
    DismissTwin,
    EndScaling,
    GiveUpLaunch,
    Launch,
    MoveSlot,
    PublishMap,
    RaiseFence,
    Retire,
    StepRelease,
    Stop,
    Treat,
    Verify,
)
from router.core.control.moves import after_scaling, in_next_epoch, with_change
from router.core.control.records import Transition
from router.core.errors import NotYetError, ProvisionError
from router.core.lanes.backoff import backoff
from router.core.models import CellRecord, Reason, Treatment
from router.core.registry import AuditEntry, Change, ScalingAction, Snapshot
from router.core.slot_map.placement import moving_to
from router.core.slot_map.slots import NO_MOVE
from router.core.telemetry import ActionTaken
from router.ports import CellRegistry, CellResources, Clock, Observer
from router.services.canary import QUICK_S, Canary
from router.services.control_plane.fleet import Fleet
from router.services.control_plane.treater import Treater

CREATE_AGAIN_S: Final = 5.0  # until a cell's components are looked at again, after that failed once
LAST_CREATE_AGAIN_S: Final = 60.0  # at most, however often it has failed
VERIFY_AGAIN_S: Final = 2.0  # until the next canary, after one that was not answered well
END_AGAIN_S: Final = 5.0  # until an instance is asked to end again


@dataclass(frozen=True, slots=True)
class Tick:
    """One look of the leader at the registry, and the cells' records as they are after what it has written since."""

    epoch: int
    snapshot: Snapshot
    records: dict[str, CellRecord]


class Executor:
    """Carries out the core's actions, one at a time, and writes down what each came to."""

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
        self._not_created: dict[str, tuple[int, Reason]] = {}  # by cell: how often in a row, and why last
        self._not_before: dict[tuple[str, str], float] = {}  # (what failed, cell) → when it may be tried again
        self.moved_at: float | None = None  # when the last move ended, in monotonic seconds

    async def do(self, tick: Tick, action: Action) -> None:
        """Carry out one action. Raises NotLeaderError, RegistryUnavailableError."""
        match action:
            case PublishMap():
                await self._publish(tick, action)
            case ChangeCells() | MoveSlot() | EndScaling() | StepRelease():
                await self._decide(tick, action)
            case Stop():
                await self._stop(tick, action)
            case CreateCell(cell_id):
                await self._create(tick, cell_id)
            case Launch():
                await self._launch(tick, action)
            case Admit(cell_id, generation, shown):
                await self._admit(tick, tick.records[cell_id], generation, shown)
            case Verify(cell_id):
                await self._verify(tick, tick.records[cell_id])
            case Treat(cell_id, treatment):
                await self._treat(tick, cell_id, treatment)
            case _:
                record = tick.records.get(action.cell_id, CellRecord(action.cell_id))
                await self._record(tick, _noted(action, record, tick.snapshot.now_ms))

    async def _decide(self, tick: Tick, action: ChangeCells | MoveSlot | EndScaling | StepRelease) -> None:
        """Change the policy as a person would, or note in it how far something has come."""
        policy = tick.snapshot.policy
        match action:
            case ChangeCells(cells, now, why):
                name = ScalingAction.OUT if cells > now else ScalingAction.IN
                change = Change(policy=with_change(policy, action))
                await self.write(tick, change, "", name, f"{now} → {cells} cells: {why}")
            case MoveSlot(slot, cell_id, why):
                change, why = Change(policy=with_change(policy, action)), f"slot {slot} to {cell_id}: {why}"
                await self.write(tick, change, cell_id, ScalingAction.MOVE, why)
            case EndScaling(cells, why):
                await self.write(tick, Change(policy=after_scaling(policy, cells)), "", ScalingAction.END, why)
            case StepRelease(release, image, name, why):
                policy = replace(policy, version=policy.version + 1, image=image, release=release)
                await self.write(tick, Change(policy=policy), "", name, why)

    async def write(self, tick: Tick, change: Change, cell_id: str, action: str, why: Reason) -> None:
        """Write a change with its reason to the registry; the tick's records are up to date after that."""
        entry = AuditEntry(self._clock.time_ms(), self._who, action, cell_id, why)
        await self._registry.write(tick.epoch, replace(change, audit=[entry]))
        tick.records.update({record.cell_id: record for record in change.cells})
        self._observer.observe(ActionTaken(cell_id, action, why))

    async def _record(self, tick: Tick, transition: Transition) -> None:
        change = Change(cells=[transition.record])
        await self.write(tick, change, transition.record.cell_id, transition.action, transition.why)

    async def _stop(self, tick: Tick, action: Stop) -> None:
        if self._fleet.can_launch:
            await self._fleet.stop(action.cell_id, action.generation, action.why)
        elif not self._too_soon("end", action.cell_id):
            # The worker ends itself, and whatever has started it starts it again.
            self._put_off("end", action.cell_id, END_AGAIN_S)
            why_not = await self._treater.end(action.cell_id, action.generation, tick.snapshot)
            why = "; ".join(filter(None, [action.why, why_not]))
            self._observer.observe(ActionTaken(action.cell_id, "stop", why))

    async def _create(self, tick: Tick, cell_id: str) -> None:
        if self._too_soon("create", cell_id):
            return
        try:
            await self._resources.ensure(cell_id)
        except NotYetError as error:
            self._create_waits(cell_id, str(error))
            return
        except ProvisionError as error:
            self._create_failed(cell_id, str(error))
            return
        self._not_created.pop(cell_id, None)
        await self._record(tick, records.created(cell_id, retired=tick.records.get(cell_id)))

    def _create_waits(self, cell_id: str, why: Reason) -> None:
        """Tell once how far the cell's components are, and look again soon: that is no failure."""
        failures, told = self._not_created.get(cell_id, (0, None))
        self._not_created[cell_id] = (failures, why)
        self._put_off("create", cell_id, CREATE_AGAIN_S)
        if why != told:
            self._observer.observe(ActionTaken(cell_id, "create waits", why))

    def _create_failed(self, cell_id: str, why: Reason) -> None:
        """Tell of a reason once, and leave more and more time until the next try: AWS may refuse for days."""
        failures, told = self._not_created.get(cell_id, (0, None))
        self._not_created[cell_id] = (failures + 1, why)
        self._put_off("create", cell_id, backoff(CREATE_AGAIN_S, LAST_CREATE_AGAIN_S, failures + 1))
        if why != told:
            self._observer.observe(ActionTaken(cell_id, "create failed", why))

    async def _launch(self, tick: Tick, action: Launch) -> None:
        cell_id, image, now_ms = action.cell_id, action.image, tick.snapshot.now_ms
        generation = await self._registry.next_generation(tick.epoch, cell_id, action.above)
        # Written first: if this controller dies in between, the next one knows what may be running.
        await self._record(tick, records.launched(tick.records[cell_id], generation, now_ms, action.why, image))
        try:
            await self._fleet.launch(cell_id, generation, image or None)
        except ProvisionError as error:
            await self._record(tick, records.launch_failed(tick.records[cell_id], str(error)))

    async def _admit(self, tick: Tick, record: CellRecord, generation: int, shown: Reason | None) -> None:
        """Send a canary through the candidate first: until it is answered, whoever has the traffic keeps it."""
        if self._too_soon("admit", record.cell_id):
            return
        why_not = await self._canary(replace(record, generation=generation), tick.snapshot, QUICK_S)
        if why_not is not None:
            self._put_off("admit", record.cell_id, VERIFY_AGAIN_S)
        address = _address(tick, record.cell_id, generation)
        await self._record(tick, records.tried(record, generation, address, tick.snapshot.now_ms, why_not, shown))

    async def _publish(self, tick: Tick, action: PublishMap) -> None:
        for cell_id in sorted(moving_to(action.slot_map)):
            if not await self._verify(tick, tick.records[cell_id]):
                return
        slot_map = in_next_epoch(action.slot_map, tick.snapshot.slot_map, tick.epoch)
        await self.write(tick, Change(slot_map=slot_map), "", action.action, action.why)
        if slot_map.move is NO_MOVE:
            self.moved_at = self._clock.monotonic()

    async def _verify(self, tick: Tick, record: CellRecord) -> bool:
        """Send a canary through the admitted instance, unless one failed just now; whether it was answered well."""
        if self._too_soon("verify", record.cell_id):
            return False
        why_not = await self._canary(record, tick.snapshot, QUICK_S)
        if why_not is not None:
            self._put_off("verify", record.cell_id, VERIFY_AGAIN_S)
        address = _address(tick, record.cell_id, record.generation)
        if (transition := records.verified(record, address, why_not)) is not None:
            await self._record(tick, transition)
        return why_not is None

    async def _treat(self, tick: Tick, cell_id: str, treatment: Treatment) -> None:
        """Put the cell on a rung and do its work; a rung that is no use is followed by the next one at once."""
        following: Treatment | None = treatment
        while following is not None:
            await self._record(tick, records.put_on_rung(tick.records[cell_id], following, tick.snapshot.now_ms))
            result = await self._treater.treat(tick.records[cell_id], tick.snapshot)
            if result.written is not None:
                await self._record(tick, result.written)
            following = result.then

    def _too_soon(self, what: str, cell_id: str) -> bool:
        return self._clock.monotonic() < self._not_before.get((what, cell_id), 0.0)

    def _put_off(self, what: str, cell_id: str, seconds: float) -> None:
        self._not_before[what, cell_id] = self._clock.monotonic() + seconds


def _address(tick: Tick, cell_id: str, generation: int) -> str:
    """The address to which the instance's canaries go, by its lease; empty without one."""
    lease = tick.snapshot.lease(cell_id, generation)
    return lease.address if lease is not None else ""


def _noted(
    action: Adopt | DismissTwin | GiveUpLaunch | Retire | RaiseFence, record: CellRecord, now_ms: int
) -> Transition:
    """The transition of an action that changes nothing but its cell's record."""
    match action:
        case Adopt(_, generation, image):
            return records.adopted(record, generation, now_ms, image)
        case DismissTwin(_, generation, why):
            return records.twin_dismissed(record, generation, now_ms, why)
        case GiveUpLaunch(_, generation, why):
            return records.launch_given_up(record, generation, why)
        case Retire():
            return records.retired(record)
        case RaiseFence(_, epoch):
            return records.fenced(record, epoch)
