"""The control plane of one controller process: observe, let the core decide, do it.

Guarantees: only the leader acts; every write is fenced by its epoch; the leader takes itself for deposed before its
lease can end. Each action is in the audit stream with its reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from router.core.actions import (
    Action,
    Admit,
    Adopt,
    CreateCell,
    Desired,
    EndScaling,
    GiveUpLaunch,
    Launch,
    Observed,
    PublishMap,
    RaiseFence,
    Retire,
    Stop,
    Verify,
)
from router.core.errors import NotLeaderError, ProvisionError, RegistryUnavailableError
from router.core.models import CellRecord, cell_ids
from router.core.placement import targets
from router.core.policy import Policy, new_faults
from router.core.recollection import Recollection
from router.core.reconcile import reconcile
from router.core.slots import NO_MOVE
from router.core.telemetry import ActionTaken, LeadershipChanged
from router.core.trust import LeaseTrust
from router.ports import (
    AuditEntry,
    CellRegistry,
    CellResources,
    Change,
    Clock,
    Observer,
    Petitions,
    Proposal,
    Provisioner,
    Snapshot,
    Verdict,
)

TICK_S: Final = 0.25
CREATE_AGAIN_S: Final = 5.0  # after a failure to make a cell's components
VERIFY_AGAIN_S: Final = 2.0  # after a canary that got no good answer
MOVE_PAUSE_S: Final = 2.0  # after a move: what is wrong with a cell that has taken slots shows by then
FOUND_AFTER_S: Final = 1.5  # with an empty registry: so long routers may say that they remember a map


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """What this controller wants and who it is."""

    owner: str
    cells: int  # until the policy says otherwise
    launch_timeout_s: float
    lease_ttl_s: float  # of instances
    leader_ttl_s: float = 5.0


Canary = Callable[[CellRecord, Snapshot], Awaitable[str]]
"""Sends a canary through a cell's admitted instance; says what is wrong, nothing when it was answered well."""


class Controller:
    """One of several; the one with the lead acts."""

    def __init__(
        self,
        config: ControllerConfig,
        registry: CellRegistry,
        provisioner: Provisioner,
        resources: CellResources,
        canary: Canary,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._config = config
        self._registry = registry
        self._provisioner = provisioner
        self._resources = resources
        self._canary = canary
        self._clock = clock
        self._observer = observer
        self._trust = LeaseTrust(config.lease_ttl_s)
        self._not_before: dict[tuple[str, str], float] = {}  # what failed for a cell isn't tried again at once
        self._highest_epoch = 0  # ever seen, so that an emptied registry can't turn the epoch back
        self._known = Recollection()
        self._records: dict[str, CellRecord] = {}  # in this tick, with what it has written so far
        self._leads_until = 0.0
        self._moved_at = -MOVE_PAUSE_S
        self._empty_since: float | None = None  # there has been no map
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
            self._leads_until = deadline
            snapshot = await self._registry.snapshot()
            self.reachable = True
            self._trust.read(self._clock.monotonic(), whole=bool(snapshot.cells))
            if self.epoch is not None:
                await self._act(self.epoch, snapshot, deadline)
            self._remember(snapshot)
        except RegistryUnavailableError:
            self.reachable = False  # without the registry nothing is decided
            if self._clock.monotonic() >= self._leads_until:
                self._lead(None)  # another may lead by now
        except NotLeaderError:
            self._lead(None)

    def _lead(self, epoch: int | None) -> None:
        if epoch != self.epoch:
            self._observer.observe(LeadershipChanged(leads=epoch is not None, epoch=epoch or 0))
        self.epoch = epoch
        self._highest_epoch = max(self._highest_epoch, epoch or 0)

    def _remember(self, snapshot: Snapshot) -> None:
        known = self._known.with_map(snapshot.slot_map).with_policy(snapshot.policy)
        self._known = known.with_cells(snapshot.cells)
        if self._known.slot_map is not None:
            self._highest_epoch = max(self._highest_epoch, self._known.slot_map.epoch)

    async def _act(self, epoch: int, snapshot: Snapshot, deadline: float) -> None:
        petitions = await self._registry.petitions()
        if await self._restored(epoch, snapshot, petitions):
            return
        self._records = dict(snapshot.cells)
        snapshot = replace(snapshot, cells=self._records)
        for proposal in petitions.proposals:
            snapshot = replace(snapshot, policy=await self._judge(epoch, proposal, snapshot))
        desired, observed = self._desired(snapshot.policy), await self._observed(snapshot)
        for action in reconcile(desired, observed):
            if self._clock.monotonic() >= deadline:
                return  # the lease must be renewed before anything more is done
            await self._do(epoch, action, snapshot)

    async def _restored(self, epoch: int, snapshot: Snapshot, petitions: Petitions) -> bool:
        """Put back what the registry has lost, from our memory or a router's."""
        self._known = self._known.with_map(petitions.slot_map).with_policy(petitions.policy)
        if self._known.slot_map is not None and self._known.slot_map.epoch > epoch:
            self._highest_epoch = self._known.slot_map.epoch  # the next lead is above it
            self._lead(None)
            return True
        slot_map, policy = self._known.lost_map(snapshot.slot_map), self._known.lost_policy(snapshot.policy)
        cells = list(self._known.lost_cells(snapshot.cells).values())
        if not (slot_map or policy or cells):
            return False
        lost = [f"{len(cells)} cells"] * bool(cells) + ["the map"] * bool(slot_map) + ["the policy"] * bool(policy)
        why = f"the registry had lost {', '.join(lost)}"
        await self._write(epoch, Change(cells, slot_map, policy), "", "restore", why)
        return True

    async def _judge(self, epoch: int, proposal: Proposal, snapshot: Snapshot) -> Policy:
        """Put a proposal in force, or say why not; the policy that is in force then."""
        current, wanted = snapshot.policy, proposal.policy
        if wanted.version != current.version:
            await self._registry.write(epoch, Change(verdicts=[Verdict(proposal.proposal_id, accepted=False)]))
            return current
        faults = new_faults(wanted, current, self._cells(wanted), self._cells(current))
        if faults:
            verdict = Verdict(proposal.proposal_id, accepted=False, faults=faults)
            await self._registry.write(epoch, Change(verdicts=[verdict]))
            return current
        wanted = replace(wanted, version=current.version + 1)
        verdict = Verdict(proposal.proposal_id, accepted=True)
        await self._registry.write(epoch, Change(policy=wanted, verdicts=[verdict], audit=[proposal.audit]))
        return wanted

    def _cells(self, policy: Policy) -> tuple[str, ...]:
        return cell_ids(policy.cells or self._config.cells)

    def _desired(self, policy: Policy) -> Desired:
        return Desired(self._cells(policy), self._provisioner.can_launch, self._config.launch_timeout_s)

    async def _observed(self, snapshot: Snapshot) -> Observed:
        now = self._clock.monotonic()
        if snapshot.slot_map is not None:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        return Observed(
            now_ms=snapshot.now_ms,
            cells=snapshot.cells,
            leases=snapshot.leases,
            instances=tuple(await self._provisioner.observe()),
            slot_map=snapshot.slot_map,
            leases_trusted=self._trust.trusted(now),
            policy=snapshot.policy,
            routers=snapshot.routers,
            may_found=self._empty_since is not None and now - self._empty_since >= FOUND_AFTER_S,
            rested=now - self._moved_at >= MOVE_PAUSE_S,
        )

    async def _do(self, epoch: int, action: Action, snapshot: Snapshot) -> None:
        match action:
            case PublishMap():
                await self._publish(epoch, action, snapshot)
            case EndScaling(count, why):
                policy = replace(snapshot.policy, version=snapshot.policy.version + 1, cells=count, scaling_from=0)
                await self._write(epoch, Change(policy=policy), "", "end scaling", why)
            case Stop(cell_id, generation, why):
                await self._provisioner.stop(cell_id, generation)
                self._observer.observe(ActionTaken(cell_id, "stop", why))
            case CreateCell(cell_id):
                await self._create(epoch, cell_id, snapshot.cells.get(cell_id))
            case Launch(cell_id, why, above):
                await self._launch(epoch, snapshot.cells[cell_id], why, above, snapshot.now_ms)
            case Verify(cell_id):
                await self._verify(epoch, snapshot.cells[cell_id], snapshot)
            case _:
                await self._note(epoch, action, snapshot.cells[action.cell_id], snapshot.now_ms)

    async def _note(
        self, epoch: int, action: Adopt | Admit | GiveUpLaunch | Retire | RaiseFence, record: CellRecord, now_ms: int
    ) -> None:
        """What changes nothing but the cell's record."""
        match action:
            case Admit(_, generation):
                record = replace(record, generation=generation, launching=0, launch_failures=0)
                name, why = "admit", f"generation {generation} is ready"
            case Adopt(_, generation):
                record = replace(record, launching=generation, launched=generation, launched_at_ms=now_ms)
                name, why = "adopt", f"generation {generation} runs already"
            case GiveUpLaunch(_, generation, why):
                record = replace(record, launching=0, launch_failures=record.launch_failures + 1)
                name, why = "give up launch", f"generation {generation}: {why}"
            case Retire():
                record = replace(record, retired=True, launching=0)
                name, why = "retire", "not one of the cells any more, and nothing belongs to it"
            case RaiseFence(_, fence):
                record = replace(record, fence=fence)
                name, why = "raise fence", f"what moves away must not begin again: epoch {fence}"
        await self._write(epoch, Change(cells=[record]), record.cell_id, name, why)

    async def _create(self, epoch: int, cell_id: str, retired: CellRecord | None) -> None:
        if self._too_soon("create", cell_id):
            return
        try:
            await self._resources.ensure(cell_id)
        except ProvisionError as error:
            self._put_off("create", cell_id, CREATE_AGAIN_S)
            self._observer.observe(ActionTaken(cell_id, "create failed", str(error)))
            return
        record = replace(retired, retired=False) if retired is not None else CellRecord(cell_id)
        await self._write(epoch, Change(cells=[record]), cell_id, "create", "desired and not there")

    async def _launch(self, epoch: int, record: CellRecord, why: str, above: int, now_ms: int) -> None:
        generation = await self._registry.next_generation(epoch, record.cell_id, above)
        # Written first: if this controller dies in between, the next one knows what may be running.
        record = replace(record, launching=generation, launched=generation, launched_at_ms=now_ms)
        await self._write(epoch, Change(cells=[record]), record.cell_id, "launch", f"generation {generation}: {why}")
        try:
            await self._provisioner.launch(record.cell_id, generation)
        except ProvisionError as error:
            record = replace(record, launching=0, launch_failures=record.launch_failures + 1)
            await self._write(epoch, Change(cells=[record]), record.cell_id, "give up launch", str(error))

    async def _publish(self, epoch: int, action: PublishMap, snapshot: Snapshot) -> None:
        for cell_id in sorted(targets(action.slot_map)):
            if not await self._verify(epoch, self._records[cell_id], snapshot):
                return
        current = snapshot.slot_map.epoch if snapshot.slot_map else 0
        slot_map = replace(action.slot_map, epoch=max(epoch, current + 1))
        await self._write(epoch, Change(slot_map=slot_map), "", action.action, action.why)
        if slot_map.move is NO_MOVE:
            self._moved_at = self._clock.monotonic()

    async def _verify(self, epoch: int, record: CellRecord, snapshot: Snapshot) -> bool:
        """Send a canary, unless one failed just now; whether it was answered well."""
        if self._too_soon("verify", record.cell_id):
            return False
        generation, known = record.generation, record.verified == record.generation
        if fault := await self._canary(record, snapshot):
            self._put_off("verify", record.cell_id, VERIFY_AGAIN_S)
            record = replace(record, canary_failures=record.canary_failures + 1)
            await self._write(epoch, Change(cells=[record]), record.cell_id, "verify failed", fault)
            return False
        if not known or record.canary_failures:
            record, why = replace(record, verified=generation, canary_failures=0), f"generation {generation} answered"
            await self._write(epoch, Change(cells=[record]), record.cell_id, "verify", why)
        return True

    def _too_soon(self, what: str, cell_id: str) -> bool:
        return self._clock.monotonic() < self._not_before.get((what, cell_id), 0.0)

    def _put_off(self, what: str, cell_id: str, seconds: float) -> None:
        self._not_before[what, cell_id] = self._clock.monotonic() + seconds

    async def _write(self, epoch: int, change: Change, cell_id: str, action: str, why: str) -> None:
        await self._registry.write(epoch, replace(change, audit=[self._entry(cell_id, action, why)]))
        self._records.update({record.cell_id: record for record in change.cells})
        self._observer.observe(ActionTaken(cell_id, action, why))

    def _entry(self, cell_id: str, action: str, why: str) -> AuditEntry:
        return AuditEntry(self._clock.time_ms(), self._config.owner, action, cell_id, why)

    async def _resign(self) -> None:
        try:
            await self._registry.resign(self._config.owner)
        except RegistryUnavailableError:
            return  # the lease ends by itself
