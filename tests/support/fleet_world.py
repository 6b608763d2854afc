"""A fleet that nobody runs, for the dashboard: a registry in memory whose cells fall ill as a test says."""

from __future__ import annotations

import time
from dataclasses import replace
from math import log, sin
from typing import Any, Final

import msgspec

from router.api.feed import FleetFeed
from router.api.views import cell_views
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.samples import CellSample, RouterSample
from router.core.errors import CellUnavailableError
from router.core.fleet.cell_health import CellHealth
from router.core.fleet.cells import FleetCell, Load
from router.core.fleet.history import STEP_MS, STEPS, History
from router.core.fleet.overview import About
from router.core.models import (
    CellRecord,
    ComponentView,
    LeaseView,
    RouterReport,
    Rung,
    Target,
    Treatment,
    cell_ids,
)
from router.core.policy import Quarantine, TenantLimit
from router.core.registry import AuditEntry, Condition, Snapshot
from router.core.slot_map.slots import SLOTS, Move, SlotMap
from router.core.views import CellView
from router.ports import Clock
from router.services.unforeseen import Unforeseen
from tests.support.accepting_registry import AcceptingRegistry

SICK: Final = "cell-0007"
LEADER: Final = "ip-10-0-3-7/41/9f1c2ab4"
FOREVER: Final = 1e12
HOSTILE: Final = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


class WallClock:
    """The Clock port on the time of day, so that what the memory's registry says is of today."""

    def monotonic(self) -> float:
        return time.time()  # noqa: TID251 - a clock

    def time_ms(self) -> int:
        return round(time.time() * 1000)  # noqa: TID251 - a clock

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - its sleep is banned elsewhere

        await asyncio.sleep(seconds)  # noqa: TID251 - a clock

    def jitter(self) -> float:
        return 0.5


class FleetWorld:
    """Cells that serve, a leader, two routers, and the feed of a process that watches them."""

    def __init__(self, clock: Clock, cells: int = 24, *, sign_in: bool = False) -> None:
        self.clock = clock
        self.names = cell_ids(cells)
        self.registry = AcceptingRegistry(clock)
        self.told: list[Any] = []
        self.asked: list[str] = []
        self.troubles: list[str] = []
        about = About("router", "ip-10-0-1-4/17/5be2", "production", "0.1.0", sign_in)
        self.feed = FleetFeed(about, self.registry, self, lambda: self.troubles, clock, Unforeseen(self, clock))
        self.now_ms = clock.time_ms()
        self._found()

    def observe(self, record: Any) -> None:
        self.told.append(record)

    async def components(self, target: Target, within_s: float) -> list[ComponentView]:
        self.asked.append(target.cell_id)
        if target.cell_id != SICK:
            raise CellUnavailableError("no answer")
        return [
            ComponentView("worker", healthy=True),
            ComponentView("sink", healthy=False, detail="Firehose: throttled"),
        ]

    async def restart(self, target: Target, component: str, within_s: float) -> None:
        raise AssertionError("a page that is only looked at restarts nothing")

    def _found(self) -> None:
        has, now = self.registry.contents, self.now_ms
        owners = tuple(self.names[slot % len(self.names)] for slot in range(SLOTS))
        has.slot_map = SlotMap(41, owners)
        has.leader = (LEADER, 41, FOREVER)
        queues = {"source": 1240, "dead letters": 0, "quarantine": 0}
        for place, name in enumerate(("ip-10-0-1-4/17/5be2", "ip-10-0-2-9/17/c01d")):
            zone = f"eu-central-1{'ab'[place]}"
            has.routers[name] = (RouterReport(name, 41, quiet=True, zone=zone, queues=queues), FOREVER)
        for place, cell_id in enumerate(self.names):
            has.cells[cell_id] = CellRecord(cell_id, 3, launched=3, verified=3, admitted_at_ms=now - 7_200_000)
            lease = LeaseView(cell_id, 3, "i", f"10.0.4.{place}:8080", 16, ready=True, live=True, zone="eu-central-1a")
            has.leases[cell_id, 3] = (lease, FOREVER)
        self.tell({})
        self.audit("launch", SICK, "generation 3: the cell has no instance", ago_s=7230)
        self.audit("admit", SICK, "generation 3 answers its canary", ago_s=7200)

    def audit(self, action: str, cell_id: str, why: str, who: str = LEADER, ago_s: float = 0) -> None:
        """Add an entry to the audit stream."""
        at_ms = self.clock.time_ms() - round(ago_s * 1000)
        self.registry.contents.audit.append(AuditEntry(at_ms, who, action, cell_id, why))
        self.registry.contents.audit.sort(key=lambda entry: entry.at_ms)

    def tell(self, verdicts: dict[str, tuple[Verdict, str]], why_untreated: str | None = None) -> None:
        """Say anew what the leader finds of every cell, and what the routers see of it."""
        now, has = self.clock.time_ms(), self.registry.contents
        for place, cell_id in enumerate(self.names):
            verdict, rule = verdicts.get(cell_id, (Verdict.HEALTHY, None))
            slow = verdict is Verdict.SLOW
            found = Assessment(
                cell_id,
                verdict,
                rule,
                lasted_s=12.0 if rule else 0.0,
                deviation=log(3.1 if slow else 1.02),
                tenants=40,
                canary_s=0.084 if slow else 0.011,
                shift=log(3) if slow else 0.0,
                latency_s=0.09 if slow else 0.02,
            )
            has.conditions[cell_id] = Condition(now + 10**9, 3, found, why_untreated)
            rate, latency_s = 40 + 35 * sin(place * 1.7), 0.092 if slow else 0.016 + 0.006 * sin(place)
            sample = CellSample(
                3,
                round(rate),
                round(rate),
                log_s=round(rate) * log(latency_s),
                slowest_s=latency_s * 4,
                oldest_s=latency_s,
                waiting_tenants=2,
            )
            for number, router in enumerate(has.routers):
                cells = has.samples[router].cells if router in has.samples else {}
                has.samples[router] = RouterSample(number, 0.0, {**cells, cell_id: sample})

    def falls_ill(self) -> None:
        """Make a cell slow, and put it on the ladder."""
        self.tell({SICK: (Verdict.SLOW, "its tenants' events take 3.0 times as long as the other cells'")})
        self._treat(Rung.REPLACING, "its tenants' events take 3.0 times as long as the other cells'")
        self._change(SICK, launching=4, launched=4)
        self.audit("replace", SICK, "slow: its tenants' events take 3.0 times as long as the other cells'")

    def is_given_up(self) -> None:
        """Give the cell up, and let the queues and people have said something too."""
        why = "failing: 14 events in a row; three other instances were no better"
        self.tell({SICK: (Verdict.FAILING, "14 failures in a row, of 9 tenants")})
        self._treat(Rung.GIVEN_UP, why)
        self._change(SICK, launching=0)
        self.audit("give up", SICK, why)
        has = self.registry.contents
        has.routers = {
            name: (replace(report, queues={"source": 48_210, "dead letters": 3, "quarantine": 12}), until)
            for name, (report, until) in has.routers.items()
        }

    def is_in_hand(self) -> None:
        """Have people drain and freeze cells, limit and quarantine keys, and let slots be on their way."""
        has = self.registry.contents
        assert has.slot_map is not None
        drained, other = self.names[3], self.names[5]
        slots = [slot for slot, owner in enumerate(has.slot_map.owners) if owner == drained]
        has.slot_map = replace(has.slot_map, epoch=42, move=Move(dict.fromkeys(slots[:128], other), {}))
        policy = has.policy.with_cordon(drained, drain=True).with_frozen(self.names[11], frozen=True)
        policy = policy.with_limit("acme", TenantLimit(50, 100)).with_limit(None, TenantLimit(200, 400))
        entry = Quarantine("killed generations 2 and 3 of cell-0004", self.now_ms - 60_000, self.now_ms + 3_600_000)
        has.policy = replace(policy.with_quarantine("globex", entry, self.now_ms), version=7)
        frozen = "automation leaves its instances alone. waits for the vendor"
        self.audit("freeze", self.names[11], frozen, "ada@bastion", ago_s=700)
        self.audit("drain", drained, f"{drained}: draining. disk", "ada@bastion", ago_s=95)

    def is_attacked(self) -> None:
        """Let every text that comes from outside try to be markup."""
        has = self.registry.contents
        has.policy = has.policy.with_quarantine(HOSTILE, Quarantine(HOSTILE, self.now_ms), self.now_ms)
        self._treat(Rung.GIVEN_UP, HOSTILE)
        self.audit(HOSTILE, SICK, HOSTILE, HOSTILE)
        self.troubles.append(HOSTILE)

    def _treat(self, rung: Rung, why: str) -> None:
        now = self.clock.time_ms()
        self._change(SICK, treatment=Treatment(rung, now, 3, "slow", why))

    def _change(self, cell_id: str, **fields: Any) -> None:
        self.registry.contents.cells[cell_id] = replace(self.registry.contents.cells[cell_id], **fields)

    def remember(self) -> None:
        """Fill the hour before now with a night that had its moments."""
        views = {cell.view.cell_id: cell for cell in self.cells()}
        newest = self.clock.time_ms()
        self.feed.history = History()
        for step in range(STEPS - 1, 0, -1):
            at = newest - step * STEP_MS
            cells = [_past(cell, place, step) for place, cell in enumerate(views.values())]
            fleet = Load(sum(c.load.rate for c in cells), 0.016 + 0.004 * sin(step / 9) + 0.03 * (120 < step < 140))
            self.feed.history.note(at, fleet, cells)

    def cells(self) -> list[FleetCell]:
        """The cells as the feed shows them now, once it has looked."""
        return list(self.feed.shown.cells)

    def page(self) -> Any:
        """What the feed says now, as a page reads it."""
        return msgspec.json.decode(self.feed.newest)


def _past(cell: FleetCell, place: int, step: int) -> FleetCell:
    was_slow = cell.view.cell_id == "cell-0002" and 120 < step < 140
    latency_s = 0.016 + 0.003 * sin(step / 7 + place) + 0.05 * was_slow
    rate = max(0.0, cell.load.rate * (1 + 0.3 * sin(step / 40 + place / 5)))
    return replace(cell, load=Load(rate, latency_s), health=CellHealth.TREATED if was_slow else CellHealth.WELL)


def view_of(snapshot: Snapshot, cell_id: str, condition: Condition | None = None) -> CellView:
    """Make the view of one cell, as a process makes it."""
    found = cell_views(snapshot, {cell_id: condition} if condition is not None else {})
    return next(view for view in found if view.cell_id == cell_id)
