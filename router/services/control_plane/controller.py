"""The control plane of one controller process: observe, let core decide, have it done.

Guarantees: only the leader acts; every write is fenced by the leader's epoch; the leader steps down before its lease
can end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from router.core.control.actions import Action
from router.core.control.observed import Desired, Observed, Suspension
from router.core.control.recollection import Recollection, why_restored
from router.core.control.reconcile import reconcile
from router.core.control.scaling import ScalingWatch, scaling_decision
from router.core.control.treatment import conditions
from router.core.errors import NoDescriptorError, NotLeaderError, RegistryUnavailableError
from router.core.models import InstanceView, cell_ids
from router.core.policy import MAX_CELLS, Policy, judge
from router.core.registry import Change, Condition, Petitions, Proposal, Snapshot
from router.core.scaling.decision import ScalingDecision
from router.core.scaling.seen import LoadSeen
from router.core.telemetry import LeadershipChanged, LeadGoesOn
from router.ports import CellRegistry, CellResources, Clock, InstanceControl, Observer, Provisioner
from router.services.canary import Canary
from router.services.control_plane.executor import Executor, Tick
from router.services.control_plane.fleet import Fleet
from router.services.control_plane.health import HealthMonitor
from router.services.control_plane.treater import Treater
from router.services.leases import Leases
from router.services.loop_lag import LoopLag
from router.services.unforeseen import Unforeseen

TICK_S: Final = 0.25
MOVE_PAUSE_S: Final = 2.0  # between two moves, for a cell that has taken slots to show whether it is well
TELL_EVERY_S: Final = 60.0  # a leader says that it leads; alarms count on it: deploy/cloudformation/platform.yaml
FOUND_AFTER_S: Final = 1.5  # how long routers may offer a map that they remember, before a new one is made


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """Who this controller is, and what it wants of the cells."""

    owner: str
    cells: int  # their number, until the policy says otherwise
    launch_timeout_s: float
    lease_ttl_s: float  # of instances
    leader_ttl_s: float = 5.0
    warm_up_s: float = 60.0  # of a new instance


@dataclass(frozen=True, slots=True)
class LeaderView:
    """What the leader knows of the cells, for its API and its metrics."""

    snapshot: Snapshot
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    suspended_by: Suspension | None = None
    scaling: ScalingDecision | None = None
    load: LoadSeen | None = None  # None: not known now


class Controller:
    """Keeps the cells as they should be, as long as it leads: of several controllers one acts."""

    def __init__(
        self,
        config: ControllerConfig,
        registry: CellRegistry,
        provisioner: Provisioner,
        resources: CellResources,
        canary: Canary,
        instances: InstanceControl,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._config = config
        self._registry = registry
        self._clock = clock
        self._observer = observer
        self._unforeseen = Unforeseen(observer, clock)
        self.lag = LoopLag(clock)
        self._health = HealthMonitor(registry, canary, self.lag, clock, config.warm_up_s)
        self._fleet = Fleet(provisioner, observer, self._unforeseen)
        treater = Treater(instances, resources, can_launch=self._fleet.can_launch)
        self._executor = Executor(config.owner, registry, self._fleet, resources, canary, treater, clock, observer)
        self._scaling = ScalingWatch()
        self._leases = Leases(config.lease_ttl_s, observer)
        self._highest_epoch = 0  # that was ever seen, so that an emptied registry can't turn the epoch back
        self._known = Recollection()
        self._leads_until = 0.0
        self._told_at = float("-inf")  # when it last said that it leads, in monotonic seconds
        self._empty_since: float | None = None  # since when there has been no map, in monotonic seconds
        self.epoch: int | None = None  # of its lead; None while another leads
        self.hold_queues: Collection[str] = ()  # the cells that have one, as the upkeep has found
        self.reached = False  # the registry has been read once
        self.was_last = False  # whether this controller has ended in order, and none is left to look after the cells
        self._view: LeaderView | None = None

    @property
    def view(self) -> LeaderView | None:
        """What this controller knows of the cells as the leader; None while another one leads, or may lead by now."""
        return self._view if self._clock.monotonic() < self._leads_until else None

    async def run(self) -> None:
        """Tick until cancelled, then give up the lead, so that another controller need not wait."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.lag.run())
                group.create_task(self._ticks())
        finally:
            self._health.close()
            await self._resign()

    async def _ticks(self) -> None:
        while True:
            await self.tick()
            await self._clock.sleep(TICK_S)

    async def tick(self) -> None:
        """Lead if possible, and as the leader bring the cells one step nearer to what is desired."""
        try:
            deadline = self._clock.monotonic() + self._config.leader_ttl_s * 0.8
            self._lead(await self._registry.lead(self._config.owner, self._config.leader_ttl_s, self._highest_epoch))
            self._leads_until = deadline
            snapshot = await self._registry.snapshot()
            self.reached = True
            self._leases.read(self._clock.monotonic(), snapshot, whole=bool(snapshot.cells))
            if self.epoch is not None:
                await self._act(self.epoch, snapshot, deadline)
            self._remember(snapshot)
        except RegistryUnavailableError:
            self._lead_no_longer_than_sure()  # without the registry nothing is decided
        except NotLeaderError:
            self._lead(None)
        except Exception as error:  # noqa: BLE001 - the next tick reads everything anew
            self._unforeseen.note("tick", error)
            self._lead_no_longer_than_sure()

    def _lead_no_longer_than_sure(self) -> None:
        if self._clock.monotonic() >= self._leads_until:
            self._lead(None)  # another may lead by now

    def _lead(self, epoch: int | None) -> None:
        if epoch is None:
            self._health.close()
            self._scaling.forget()
            self._view = None
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
        records, instances = dict(snapshot.cells), await self._fleet.look()
        snapshot = replace(snapshot, cells=records, leases=self._fleet.believed(snapshot.leases))
        for proposal in petitions.proposals:
            snapshot = replace(snapshot, policy=await self._judge(epoch, proposal, snapshot))
        news = await self._health.look(snapshot, self._leases.doubted)
        desired, observed = self._desired(snapshot.policy), self._observed(snapshot, instances)
        self._tell(epoch, observed)
        if news:
            self._scaling.look(desired, observed, self._health.samples, self._clock.monotonic())
            observed = self._with_load(observed)
            self._view = self._viewed(snapshot, desired, observed)
            await self._registry.note_conditions(epoch, self._view.conditions)
        tick = Tick(epoch, snapshot, records)
        for ended in self._fleet.ended():
            why = f"generation {ended.generation} was stopped: {ended.detail}"
            await self._executor.write(tick, Change(), ended.cell_id, "end", why)
        for action in reconcile(desired, observed):
            if self._clock.monotonic() >= deadline:
                return  # the lease must be renewed before anything more is done
            await self._do(tick, action)

    def _viewed(self, snapshot: Snapshot, desired: Desired, observed: Observed) -> LeaderView:
        load = observed.load if observed.why_load_unknown is None else None
        scaling = scaling_decision(desired, observed)
        return LeaderView(snapshot, conditions(desired, observed), observed.suspended_by, scaling, load)

    def _tell(self, epoch: int, observed: Observed) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            self._observer.observe(LeadGoesOn(epoch, len(observed.cells), observed.suspended_by or ""))

    async def _do(self, tick: Tick, action: Action) -> None:
        try:
            await self._executor.do(tick, action)
        except (NotLeaderError, RegistryUnavailableError):
            raise
        except NoDescriptorError:
            return  # the next tick tries again; the process tells by itself that its file descriptors run out
        except Exception as error:  # noqa: BLE001 - what fails for one cell must not keep the others waiting
            self._unforeseen.note("action", error)

    async def _restored(self, epoch: int, snapshot: Snapshot, petitions: Petitions) -> bool:
        """Write again what the registry has lost and we or a router remember; whether there was anything."""
        self._known = self._known.with_map(petitions.slot_map).with_policy(petitions.policy)
        if self._known.slot_map is not None and self._known.slot_map.epoch > epoch:
            self._highest_epoch = self._known.slot_map.epoch  # the next lead is above it
            self._lead(None)
            return True
        lost = self._known.lost_by(snapshot)
        if lost is None:
            return False
        tick = Tick(epoch, snapshot, dict(snapshot.cells))
        await self._executor.write(tick, lost, "", "restore", why_restored(lost))
        return True

    async def _judge(self, epoch: int, proposal: Proposal, snapshot: Snapshot) -> Policy:
        """Put a proposal in force or refuse it; returns the policy that is in force from then on."""
        current, wanted = snapshot.policy, proposal.policy
        cells, cells_now, can_launch = self._cells(wanted), self._cells(current), self._fleet.can_launch
        generations = {
            cell_id: max(cell.generation, cell.launching, cell.launched) for cell_id, cell in snapshot.cells.items()
        }
        ruling, policy = judge(
            proposal.proposal_id,
            wanted,
            current,
            cells,
            cells_now,
            can_launch=can_launch,
            generations=generations,
            takes_images=self._fleet.takes_images,
            warm_up_s=self._config.warm_up_s,
        )
        audit = [proposal.audit] if ruling.accepted else []
        change = Change(policy=policy if ruling.accepted else None, rulings=[ruling], audit=audit)
        await self._registry.write(epoch, change)
        return policy

    def _cells(self, policy: Policy) -> tuple[str, ...]:
        return cell_ids(min(policy.cells or self._config.cells, MAX_CELLS))  # also of a policy that is to be refused

    def _desired(self, policy: Policy) -> Desired:
        config = self._config
        return Desired(self._cells(policy), self._fleet.can_launch, config.launch_timeout_s, warm_up_s=config.warm_up_s)

    def _observed(self, snapshot: Snapshot, instances: tuple[InstanceView, ...]) -> Observed:
        now, moved_at = self._clock.monotonic(), self._executor.moved_at
        if snapshot.slot_map is not None:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        return Observed(
            now_ms=snapshot.now_ms,
            cells=snapshot.cells,
            leases=snapshot.leases,
            instances=instances,
            slot_map=snapshot.slot_map,
            leases_trusted=self._leases.trusted,
            policy=snapshot.policy,
            routers=snapshot.routers,
            may_found=self._empty_since is not None and now - self._empty_since >= FOUND_AFTER_S,
            rested=moved_at is None or now - moved_at >= MOVE_PAUSE_S,
            health=self._health.health,
            trials=self._health.trials(),
            hold_queues=self.hold_queues,
            why_blind=self._health.why_blind,
        )

    def _with_load(self, observed: Observed) -> Observed:
        found = self._scaling
        return replace(observed, load=found.seen, uses=found.uses, why_load_unknown=found.why_unknown)

    async def _resign(self) -> None:
        try:
            self.was_last = await self._registry.resign(self._config.owner)
        except RegistryUnavailableError:
            return  # the lease ends by itself
