"""The whole fleet on one page: how each cell is, what needs a person, what is being done."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from shlex import split
from typing import Any, Final

import pytest
import yaml

from router.api.views import cell_views
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.samples import CellSample
from router.core.fleet.cell_health import CellHealth, judged
from router.core.fleet.cells import load_of
from router.core.fleet.matters import BACKLOG_OLD_S
from router.core.fleet.overview import About, FleetStatus, Known, Overview, overview, without_registry
from router.core.models import CellRecord, LeaseView, RouterReport, Rung, Treatment
from router.core.policy import NO_POLICY, Policy, Quarantine
from router.core.registry import Condition, Snapshot
from router.core.release import Phase, Release, Wave
from tests.support.aio import run
from tests.support.fake_clock import FakeClock
from tests.support.fleet_world import LEADER, SICK, FleetWorld, view_of
from tests.support.paths import REPOSITORY

NOW: Final = 1_000_000
RECORD: Final = CellRecord("c", 3, launched=3, admitted_at_ms=500_000)
ABOUT: Final = About("router", "r", "test", "1")


def health(
    record: CellRecord = RECORD,
    *,
    verdict: Verdict | None = Verdict.HEALTHY,
    why_untreated: str | None = None,
    live: bool = True,
    policy: Policy = NO_POLICY,
    **evidence: Any,
) -> tuple[CellHealth, str | None]:
    """Judge one cell that is so."""
    lease = LeaseView("c", record.generation, "i", "10.0.0.1:1", 16, ready=True, live=live)
    snapshot = Snapshot(NOW, None, {"c": record}, (lease,), "leader", policy)
    rule = None if verdict in (None, Verdict.HEALTHY) else "the rule"
    found = Assessment("c", verdict or Verdict.HEALTHY, rule, **evidence)
    condition = Condition(NOW, record.generation, found, why_untreated) if verdict is not None else None
    return judged(view_of(snapshot, "c", condition), record)


def treated(rung: Rung, why: str, *, ejected: bool = False) -> CellRecord:
    """Put the cell on a rung."""
    return replace(RECORD, treatment=Treatment(rung, NOW, 3, "slow", why, ejected=ejected))


@pytest.mark.parametrize(
    ("found", "expected", "says"),
    [
        (health(), CellHealth.WELL, None),
        (health(verdict=None), CellHealth.UNKNOWN, "the leader has said nothing of it lately"),
        (health(verdict=Verdict.WORKLOAD), CellHealth.WATCHED, "workload: the rule"),
        (health(slow_paths=("from router-1",)), CellHealth.WATCHED, "from router-1"),
        (health(verdict=Verdict.SLOW), CellHealth.TREATED, "slow: the rule"),
        (health(verdict=Verdict.SLOW, why_untreated="w"), CellHealth.UNTREATED, "slow: the rule. Nothing is done: w"),
        (health(treated(Rung.GUARDED, "g")), CellHealth.UNTREATED, "was slow a moment ago. Nothing is done: g"),
        (health(treated(Rung.REPLACING, "slow: 3 times"), verdict=Verdict.SLOW), CellHealth.TREATED, "replacing: slow"),
        (health(treated(Rung.GIVEN_UP, "no help"), verdict=Verdict.HUNG), CellHealth.GIVEN_UP, "no help"),
        (health(policy=NO_POLICY.with_frozen("c", frozen=True)), CellHealth.BY_HAND, "a person has frozen it"),
        (health(policy=NO_POLICY.with_ejected("c", ejected=True)), CellHealth.BY_HAND, "a person has ejected it"),
        (health(replace(RECORD, launching=4)), CellHealth.CHANGING, "generation 4 starts beside generation 3"),
        (health(replace(RECORD, launching=4), live=False), CellHealth.TREATED, "down: its instance does not serve"),
        (health(CellRecord("c"), live=False, verdict=None), CellHealth.CHANGING, "starting: its first instance"),
        (
            health(replace(RECORD, launch_failures=3, why_launch_failed="no memory"), live=False),
            CellHealth.UNTREATED,
            "3 launches in a row have failed, the last: no memory",
        ),
    ],
)
def test_a_cell_is_judged_by_what_is_done_about_it(
    found: tuple[CellHealth, str | None], expected: CellHealth, says: str | None
) -> None:
    """Sick is not a colour of its own: what a person wants to know is whether somebody sees to it."""
    assert found[0] is expected
    assert found[1] == says if says is None else (found[1] or "").startswith(says)


def shown(world: FleetWorld) -> Overview:
    """Make the page of a world as it is now."""

    async def read() -> Overview:
        snapshot, conditions = await world.registry.snapshot(), await world.registry.conditions()
        samples, audit = await world.registry.samples(), await world.registry.audit(100)
        return overview(ABOUT, Known(snapshot, cell_views(snapshot, conditions), samples, audit, world.troubles))

    return run(read())


def test_a_fleet_that_is_well_says_so_in_three_words() -> None:
    """Nothing needs a person, nothing is done, and the figures of all routers are added up."""
    world = FleetWorld(FakeClock(), cells=3)
    found = shown(world)
    assert (found.status, found.headline) == (FleetStatus.WELL, "All is well")
    assert (found.needs, found.doing, found.by_hand, found.moving) == ((), (), (), None)
    assert found.leader == LEADER
    assert found.load.rate == sum(cell.load.rate for cell in found.cells)
    assert found.queues["source"] == 1240


def test_what_cellrouter_sees_to_by_itself_needs_nobody() -> None:
    """A sick cell on the ladder is told as being done."""
    world = FleetWorld(FakeClock())
    world.falls_ill()
    found = shown(world)
    assert (found.status, found.headline) == (FleetStatus.ACTING, "Nothing needs you; one thing is being done")
    assert [matter.cell_id for matter in found.doing] == [SICK]
    assert found.needs == ()


def test_what_needs_a_person_says_what_to_do() -> None:
    """A cell given up, and dead letters: with the command to run and the runbook to read."""
    world = FleetWorld(FakeClock())
    world.is_given_up()
    found = shown(world)
    assert (found.status, found.headline) == (FleetStatus.NEEDS_YOU, "2 things need you")
    assert [(matter.todo, matter.runbook) for matter in found.needs] == [
        (f"cellrouter explain {SICK}", "cell-given-up"),
        ("cellrouter dlq list", "dead-lettered"),
    ]
    assert found.needs[0].what.startswith(f"{SICK} is given up: failing: 14 events in a row")


@pytest.mark.parametrize("age_s", [BACKLOG_OLD_S, BACKLOG_OLD_S + 1])
def test_a_backlog_that_is_old_needs_a_person_as_the_alert_does(age_s: int) -> None:
    """The routers say how old messages are; the oldest counts, and a router that is gone says nothing."""
    world = FleetWorld(FakeClock())
    routers = world.registry.contents.routers
    for name, age in zip(list(routers), (age_s, 7), strict=True):
        report, until = routers[name]
        routers[name] = (replace(report, ages={"source": age}), until)
    routers["gone"] = (RouterReport("gone", 41, quiet=True, ages={"source": 9000}), 0.0)
    found = shown(world)
    assert found.ages == {"source": age_s}
    assert [matter.runbook for matter in found.needs] == ["backlog-old"] * (age_s > BACKLOG_OLD_S)
    rules = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "rules.yml").read_text())
    [alert] = [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == "BacklogOld"]
    assert alert["expr"].endswith(f" > {BACKLOG_OLD_S}")


def test_a_reason_that_holds_for_all_cells_is_told_once() -> None:
    """Automation is suspended: 24 lines that say the same would hide it."""
    world = FleetWorld(FakeClock())
    world.tell({SICK: (Verdict.SLOW, "x")}, why_untreated="9 of 24 cells at once: a dependency that they share")
    found = shown(world)
    assert [matter.runbook for matter in found.needs] == ["automation-suspended"]
    assert "9 of 24 cells at once" in found.needs[0].what


def test_without_leader_and_routers_a_person_is_needed() -> None:
    """Nothing is done about any cell then, and no event goes anywhere."""
    world = FleetWorld(FakeClock())
    world.registry.contents.leader, world.registry.contents.routers = ("", 0, 0.0), {}
    world.troubles.append("registry: read-only: it is a replica now")
    assert [(matter.what, matter.runbook) for matter in shown(world).needs] == [
        ("No controller leads", "no-leader"),
        ("No router lives", "routers-missing"),
        ("This router: registry: read-only: it is a replica now", ""),
    ]


def test_orders_of_people_are_pinned_with_who_and_why() -> None:
    """And all that moves because of them is one line."""
    world = FleetWorld(FakeClock())
    world.is_in_hand()
    found = shown(world)
    assert [(matter.what, matter.who) for matter in found.by_hand] == [
        ("cell-0003 is draining: disk", "ada@bastion"),
        ("cell-0011 is frozen: waits for the vendor", "ada@bastion"),
    ]
    assert found.moving is not None
    assert (found.moving.left, found.moving.now) == (683, 128)
    assert [matter.what for matter in found.doing] == [
        "683 of 16384 slots are still to move; 128 are on their way now, cell-0003 → cell-0005"
    ]
    assert (found.status, found.in_quarantine, found.limits) == (FleetStatus.ACTING, 1, 1)


def test_an_order_whose_audit_is_gone_is_pinned_all_the_same() -> None:
    """The policy says what is so; the audit only says who wanted it."""
    world = FleetWorld(FakeClock())
    world.is_in_hand()
    world.registry.contents.audit.clear()
    assert [(matter.what, matter.who) for matter in shown(world).by_hand] == [
        ("cell-0003 is draining", ""),
        ("cell-0011 is frozen", ""),
    ]


def test_many_of_a_kind_are_counted() -> None:
    """Six are named, so that the page stays one page."""
    world = FleetWorld(FakeClock())
    held = {f"tenant-{number}": Quarantine("kills cells", 1) for number in range(10)}
    world.registry.contents.policy = replace(NO_POLICY, quarantined=held)
    found = shown(world)
    assert len(found.needs) == 7
    assert found.needs[-1].what == "4 other keys are in quarantine as well"
    assert found.in_quarantine == 10


def test_a_command_about_a_key_does_that_and_no_more() -> None:
    """Somebody pastes it at 3 am; who chose the key must not choose what the shell does."""
    world = FleetWorld(FakeClock())
    keys = ("acme", "$(reboot); x", "a\nreboot\n", "it's")
    world.registry.contents.policy = replace(NO_POLICY, quarantined={key: Quarantine("kills", 1) for key in keys})
    commands = {matter.todo for matter in shown(world).needs}
    assert {tuple(split(command)) for command in commands} == {
        ("cellrouter", "apply", "release", key) for key in ("acme", "$(reboot); x", "it's", "…")
    }
    assert not any("\n" in command for command in commands)


def test_a_release_that_was_rolled_back_needs_a_person_for_a_day() -> None:
    """While it runs it is being done."""
    world = FleetWorld(FakeClock())
    release = Release("image:2", (Wave(percent=100.0),), number=4, phase=Phase.BAKING, since_ms=world.now_ms)
    world.registry.contents.policy = replace(NO_POLICY, release=release)
    assert [matter.what for matter in shown(world).doing] == ["Release 4: wave 1 of 1, baking 0 s of 120 s"]
    release = replace(release, phase=Phase.ROLLED_BACK, why="slower")
    world.registry.contents.policy = replace(NO_POLICY, release=release)
    assert shown(world).needs[0].what == "Release 4 of image:2 was rolled back: slower"
    old = replace(release, since_ms=world.now_ms - 25 * 3600 * 1000)
    world.registry.contents.policy = replace(NO_POLICY, release=old)
    assert shown(world).needs == ()


def test_a_lost_registry_is_told_first_and_nothing_else_is_forgotten() -> None:
    """What was known last stays on the page."""
    world = FleetWorld(FakeClock())
    world.is_given_up()
    last = shown(world)
    lost = without_registry(last, "no answer")
    assert (lost.status, lost.cells) == (FleetStatus.UNKNOWN, last.cells)
    assert lost.needs[0].what == "The registry is out of reach: no answer"
    assert lost.needs[1:] == last.needs


def test_the_load_of_several_routers_is_one() -> None:
    """Events are added, the latency is the geometric mean of all of them, and the worst of the rest counts."""
    one = CellSample(3, 10, 8, log_s=8 * log(0.01), oldest_s=0.5, slowest_s=1, waiting_tenants=2)
    other = CellSample(3, 8, 8, log_s=8 * log(0.04), oldest_s=0.1, slowest_s=2, waiting_tenants=5)
    found = load_of([one, other])
    assert (found.rate, found.oldest_s, found.slowest_s, found.tenants) == (18, 0.5, 2, 5)
    assert found.latency_s == pytest.approx(exp((log(0.01) + log(0.04)) / 2))
    assert found.failing == pytest.approx(2 / 18)
    assert load_of([]).latency_s is None
