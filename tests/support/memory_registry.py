"""The registry in memory, on the test's clock: it guarantees what the Redis scripts do, without Redis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from router.core.detection.samples import RouterSample
from router.core.errors import NoLeaderError, NotLeaderError, PolicyRefusedError, RegistryUnavailableError
from router.core.models import CellRecord, LeaseView, RouterReport, RouterView, Traffic
from router.core.policy import Policy, Ruling
from router.core.registry import AuditEntry, Change, Condition, Petitions, PolicyVersion, Proposal, Snapshot
from router.core.slot_map.slots import SlotMap
from router.ports import Clock

VERDICT_WAIT_S = 5.0
VERDICT_POLL_S = 0.1


@dataclass
class Contents:
    """Everything that is lost when the registry is emptied."""

    leader: tuple[str, int, float] = ("", 0, 0.0)  # owner, epoch, until
    heir: tuple[str, float] = ("", 0.0)  # who waits for the lead, until
    slot_map: SlotMap | None = None
    cells: dict[str, CellRecord] = field(default_factory=dict)
    leases: dict[tuple[str, int], tuple[LeaseView, float]] = field(default_factory=dict)  # with the time of its end
    generations: dict[str, int] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    versions: list[PolicyVersion] = field(default_factory=list)
    routers: dict[str, tuple[RouterReport, float]] = field(default_factory=dict)
    proposals: dict[str, Proposal] = field(default_factory=dict)
    rulings: dict[str, Ruling] = field(default_factory=dict)
    offered: tuple[SlotMap, Policy] | None = None
    audit: list[AuditEntry] = field(default_factory=list)
    samples: dict[str, RouterSample] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)


class MemoryRegistry:
    """The CellRegistry and RouterRegistry ports; `down` makes every call fail, `contents` may be emptied."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.contents = Contents()
        self.down = False
        self.refusing = False  # it answers and takes no writes
        self.cells_refused = False  # it takes no writes of cells alone

    async def snapshot(self) -> Snapshot:
        now, has = self._now(), self.contents
        owner, _, until = has.leader
        leases = tuple(
            replace(lease, live=end > now, ended_ms=max(0, round((now - end) * 1000)))
            for lease, end in has.leases.values()
        )
        routers = tuple(RouterView(report, live=end > now) for report, end in has.routers.values())
        leader = owner if until > now else ""
        cushioned = frozenset(cell_id for cell_id, each in has.conditions.items() if leader and each.cushion)
        return Snapshot(
            self._clock.time_ms(), has.slot_map, dict(has.cells), leases, leader, has.policy, routers, cushioned
        )

    async def lead(self, owner: str, ttl_s: float, hint: int) -> int | None:
        now = self._taken()
        holder, epoch, until = self.contents.leader
        if until > now and holder != owner:
            self.contents.heir = (owner, now + ttl_s)
            return None
        if until <= now or epoch < hint:
            epoch = max(epoch + 1, round(now * 1000), hint + 1)
        self.contents.leader = (owner, epoch, now + ttl_s)
        return epoch

    async def resign(self, owner: str) -> bool:
        now = self._taken()
        holder, epoch, until = self.contents.leader
        heir, waits_until = self.contents.heir
        if holder == owner:
            self.contents.leader = (owner, epoch, 0.0)
        if heir == owner:
            self.contents.heir = ("", 0.0)
        resigned = bool(holder) and until == 0.0
        leads = holder == owner and until > now
        return (leads or resigned) and not (heir != owner and waits_until > now)

    async def next_generation(self, epoch: int, cell_id: str, above: int = 0) -> int:
        self._fence(epoch)
        record = self.contents.cells.get(cell_id)
        known = (self.contents.generations.get(cell_id, 0), record.generation if record else 0, above)
        self.contents.generations[cell_id] = max(known) + 1
        return self.contents.generations[cell_id]

    async def write(self, epoch: int, change: Change) -> None:
        self._fence(epoch)
        has = self.contents
        has.cells |= {cell.cell_id: cell for cell in change.cells}
        if change.slot_map is not None:
            has.slot_map, has.offered = change.slot_map, None
        if change.policy is not None:
            has.policy = change.policy
            has.versions.append(PolicyVersion(change.policy, change.audit[0]))
        for ruling in change.rulings:
            has.rulings[ruling.proposal_id] = ruling
            has.proposals.pop(ruling.proposal_id, None)
        has.audit += change.audit

    async def petitions(self) -> Petitions:
        self._now()
        return Petitions(tuple(self.contents.proposals.values()), *(self.contents.offered or (None, None)))

    async def report(self, report: RouterReport, ttl_s: float) -> None:
        now = self._taken()
        self.contents.routers[report.router_id] = (report, now + ttl_s)

    async def note_sample(self, router_id: str, sample: RouterSample) -> None:
        self._taken()
        self.contents.samples[router_id] = sample

    async def samples(self) -> Mapping[str, RouterSample]:
        self._now()
        return dict(self.contents.samples)

    async def note_conditions(self, epoch: int, conditions: Mapping[str, Condition]) -> None:
        self._fence(epoch)
        self.contents.conditions = dict(conditions)

    async def conditions(self) -> Mapping[str, Condition]:
        self._now()
        return self.contents.conditions

    async def note_traffic(self, router_id: str, traffic: Mapping[str, Traffic]) -> None:
        return

    async def traffic(self) -> Sequence[Mapping[str, Traffic]]:
        self._now()
        return []

    async def offer(self, slot_map: SlotMap, policy: Policy) -> None:
        self._taken()
        if self.contents.offered is None or self.contents.offered[0].epoch < slot_map.epoch:
            self.contents.offered = (slot_map, policy)

    async def changed(self, within_s: float) -> None:
        await self._clock.sleep(within_s)

    async def audit(self, limit: int) -> list[AuditEntry]:
        self._now()
        return self.contents.audit[-limit:]

    async def history(self) -> Sequence[PolicyVersion]:
        self._now()
        return self.contents.versions

    async def policy(self) -> Policy:
        self._now()
        return self.contents.policy

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        self._taken()
        proposal_id = str(next(self._numbers))
        self.contents.proposals[proposal_id] = Proposal(proposal_id, policy, audit)
        for _ in range(round(VERDICT_WAIT_S / VERDICT_POLL_S)):
            await self._clock.sleep(VERDICT_POLL_S)
            self._now()
            if ruling := self.contents.rulings.pop(proposal_id, None):
                if ruling.reasons:
                    raise PolicyRefusedError("\n".join(ruling.reasons))
                return ruling.accepted
        self.contents.proposals.pop(proposal_id, None)
        raise NoLeaderError("no controller leads")

    def _now(self) -> float:
        if self.down:
            raise RegistryUnavailableError("is down")
        return self._clock.monotonic()

    def _taken(self) -> float:
        if self.refusing:
            raise RegistryUnavailableError("takes no writes")
        return self._now()

    def _fence(self, epoch: int) -> None:
        self._taken()
        if self.contents.leader[1] != epoch:
            raise NotLeaderError("another leads")


class Wire:
    """One process's connection to the registry; when it is `cut`, every call fails, as in a dead network."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut and name != "changed":
            raise RegistryUnavailableError("the wire is cut")
        return getattr(self._registry, name)
