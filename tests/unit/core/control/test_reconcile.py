"""The reconciler in a small world: it brings up every cell, replaces what dies, moves no slot and comes to rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.control import records
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
    Verify,
)
from router.core.control.lease_trust import TOGETHER_MS
from router.core.control.observed import Desired, Health, Observed
from router.core.control.reconcile import reconcile
from router.core.detection.assessment import Assessment, Verdict
from router.core.fleet.states import state_of
from router.core.models import CellRecord, CellState, InstanceView, LeaseView, RouterView
from router.core.policy import NO_POLICY, Policy
from router.core.slot_map.slots import SlotMap, assign

CELLS = ("cell-0000", "cell-0001", "cell-0002")
TTL_MS = 2000
HOUR = 3_600_000  # ms
DESIRED = Desired(CELLS, can_launch=True, launch_timeout_s=10)


@dataclass
class World:
    """Instances that run, heartbeat and die; does what the reconciler says."""

    now: int = 1_000_000
    cells: dict[str, CellRecord] = field(default_factory=dict)
    beats: dict[tuple[str, int], int] = field(default_factory=dict)  # last heartbeat
    running: set[tuple[str, int]] = field(default_factory=set)
    hung: set[tuple[str, int]] = field(default_factory=set)
    ended: dict[tuple[str, int], str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    slot_map: SlotMap | None = None
    broken: set[str] = field(default_factory=set)  # cells whose instances end as soon as they start
    policy: Policy = NO_POLICY
    routers: tuple[RouterView, ...] = ()
    fences: dict[tuple[str, int], int] = field(default_factory=dict)
    log: list[Action] = field(default_factory=list)

    def observed(self, *, trusted: bool = True) -> Observed:
        leases = tuple(
            LeaseView(
                *(cell, generation, "i", "a:1", 8),
                ready=True,
                live=self.now - beat < TTL_MS,
                ended_ms=max(0, self.now - beat - TTL_MS),
                fenced=self.fences.get((cell, generation), 0),
            )
            for (cell, generation), beat in self.beats.items()
        )
        instances = [InstanceView(*key, running=True) for key in sorted(self.running)]
        instances += [InstanceView(*key, running=False, detail=why) for key, why in self.ended.items()]
        return Observed(
            self.now, self.cells, leases, tuple(instances), self.slot_map, trusted, self.policy, self.routers
        )

    def desired(self) -> Desired:
        return replace(DESIRED, cells=tuple(f"cell-{i:04d}" for i in range(self.policy.cells or len(CELLS))))

    def step(self, *, trusted: bool = True) -> list[Action]:
        self.now += 250
        for key in self.running - self.hung:
            self.beats[key] = self.now
            self.fences[key] = self.cells.get(key[0], CellRecord(key[0])).fence
        actions = reconcile(self.desired(), self.observed(trusted=trusted))
        for action in actions:
            self.do(action)
        self.log += actions
        return actions

    def do(self, action: Action) -> None:
        match action:
            case CreateCell(cell):
                self.cells[cell] = records.created(cell, None).record
            case Launch(cell, _, above):
                generation = self.generations[cell] = max(above, self.generations.get(cell, 0)) + 1
                self.cells[cell] = records.launched(self.cells[cell], generation, self.now, "").record
                if cell in self.broken:
                    self.ended[cell, generation] = "exit code 1"
                else:
                    self.running.add((cell, generation))
            case Admit(cell, generation):
                self.cells[cell] = records.admitted(self.cells[cell], generation, "", self.now).record
            case GiveUpLaunch(cell, generation, why):
                self.cells[cell] = records.launch_given_up(self.cells[cell], generation, why).record
            case Stop(cell, generation):
                self.kill(cell, generation, "stopped")
            case _:
                self.do_more(action)

    def do_more(self, action: Action) -> None:
        match action:
            case PublishMap(slot_map):
                self.slot_map = replace(slot_map, epoch=self.now)
            case Adopt(cell, generation):
                self.cells[cell] = records.adopted(self.cells[cell], generation, self.now).record
            case Verify(cell):
                if (transition := records.verified(self.cells[cell], "", None)) is not None:
                    self.cells[cell] = transition.record
            case Retire(cell):
                self.cells[cell] = records.retired(self.cells[cell]).record
            case RaiseFence(cell, epoch):
                self.cells[cell] = records.fenced(self.cells[cell], epoch).record
            case EndScaling(count):
                self.policy = replace(self.policy, cells=count, scaling_from=0)

    def kill(self, cell: str, generation: int, why: str = "killed by signal 9") -> None:
        self.running.discard((cell, generation))
        self.hung.discard((cell, generation))
        self.ended[cell, generation] = why

    def rest(self, steps: int = 40) -> None:
        """Let time pass until nothing more is to be done."""
        for _ in range(steps):
            if not self.step() and all(self.state(cell) is CellState.SERVING for cell in CELLS):
                return
        raise AssertionError(f"no rest: {self.log[-5:]}")

    def state(self, cell: str) -> CellState:
        record = self.cells[cell]
        return state_of(record, self.observed().lease(cell, record.generation))


def settled() -> World:
    """A world whose cells all serve, at rest."""
    world = World()
    world.rest()
    return world


def test_from_nothing_every_cell_serves_and_owns_slots() -> None:
    """Each is created, launched once and admitted, and the slot map names all of them."""
    world = settled()
    assert world.running == {(cell, 1) for cell in CELLS}
    assert world.slot_map is not None
    assert set(world.slot_map.owners) == set(CELLS)
    assert sum(isinstance(action, Launch) for action in world.log) == len(CELLS)


def test_a_dead_instance_is_replaced_and_no_slot_moves() -> None:
    """The next generation serves the same cell, and the slot map is the very same."""
    world = settled()
    before = world.slot_map
    world.kill("cell-0001", 1)
    world.rest()
    assert world.cells["cell-0001"].generation == 2
    assert world.slot_map is before


def test_a_hung_instance_is_replaced_and_then_stopped() -> None:
    """Its lease ends while its process runs: the new one is admitted first."""
    world = settled()
    world.log.clear()
    world.hung.add(("cell-0001", 1))
    world.now += TTL_MS
    world.rest()
    kinds = [type(action) for action in world.log]
    assert kinds == [Launch, Admit, Stop]
    assert world.running == {("cell-0000", 1), ("cell-0001", 2), ("cell-0002", 1)}


def test_a_hung_instance_that_keeps_others_from_starting_is_ended_first() -> None:
    """It may have the store locked, so it goes once a launch beside it has failed. One with a lease stays."""
    world = settled()
    world.broken.add("cell-0001")
    record = world.cells["cell-0001"]
    world.cells["cell-0001"] = replace(record, launch_failures=1, launched_at_ms=world.now)
    world.step()
    assert ("cell-0001", 1) in world.running
    world.log.clear()
    world.hung.add(("cell-0001", 1))
    world.now += TTL_MS
    world.step()
    assert Stop("cell-0001", 1, "generation 1 lost its lease, and nothing has started beside it") in world.log
    world.broken.clear()
    world.rest(80)
    assert world.running == {("cell-0000", 1), ("cell-0001", world.cells["cell-0001"].generation), ("cell-0002", 1)}


def test_missing_leases_mean_nothing_while_the_registry_cannot_be_trusted() -> None:
    """After an outage all leases look ended: launch nothing."""
    world = settled()
    world.hung |= world.running
    world.now += 10 * TTL_MS
    assert world.step(trusted=False) == []


@pytest.mark.parametrize(
    ("verdict", "changes", "why"),
    [
        (None, {}, "generation 1 lost its lease"),
        (None, {"missing": True}, None),
        (Verdict.HEALTHY, {"missing": True}, None),
        (Verdict.SLOW, {"missing": True}, None),
        (Verdict.HUNG, {"missing": True}, "generation 1 lost its lease and answers no canary"),
        (Verdict.FAILING, {"missing": True}, "generation 1 lost its lease and answers no canary"),
        (None, {"released": True}, "generation 1 has ended"),
    ],
)
def test_a_lease_that_was_taken_away_means_death_only_with_silence_to_canaries(
    verdict: Verdict | None, changes: dict[str, Any], why: str | None
) -> None:
    """No instance takes its lease away, so somebody else did: a lease that is missing is no dead instance."""
    world, victim = settled(), ("cell-0001", 1)
    world.hung.add(victim)
    world.now += TTL_MS + TOGETHER_MS
    world.beats |= dict.fromkeys(world.running - world.hung, world.now)
    seen = world.observed()
    leases = [replace(x, **changes) if (x.cell_id, x.generation) == victim else x for x in seen.leases]
    health = {"cell-0001": Health(Assessment("cell-0001", verdict), 0)} if verdict is not None else {}
    found = reconcile(world.desired(), replace(seen, leases=tuple(leases), health=health))
    assert [action.why for action in found if isinstance(action, Launch)] == [why] * (why is not None)


def test_a_launch_that_never_gets_ready_is_given_up_and_stopped() -> None:
    """After the timeout the next generation is tried, and the first doesn't go on running."""
    world = World()
    world.step()
    world.step()
    world.hung.add(("cell-0000", 1))
    world.beats.pop(("cell-0000", 1), None)
    for _ in range(80):
        world.step()
    assert GiveUpLaunch("cell-0000", 1, "not ready after 10 s") in world.log
    assert ("cell-0000", 1) not in world.running
    assert world.cells["cell-0000"].generation == 2


def test_launches_that_fail_are_backed_off() -> None:
    """An image that can't start is not started four times a second: about 2 + 4 + 8 + … s apart."""
    world = World(broken=set(CELLS))
    for _ in range(4 * 60):
        world.step()
    launches = [action for action in world.log if isinstance(action, Launch) and action.cell_id == "cell-0000"]
    assert 4 <= len(launches) <= 6


def test_a_registrys_clock_that_is_set_back_delays_no_launch() -> None:
    """What failed an hour ahead of now was no minute ago: the next launch is due, and one that hangs is given up."""
    world = World()
    for cell in CELLS:
        world.do(CreateCell(cell))
    failed = replace(world.cells["cell-0000"], launch_failures=1, launched_at_ms=world.now + HOUR)
    world.cells["cell-0000"] = failed
    launches = [action for action in reconcile(DESIRED, world.observed()) if isinstance(action, Launch)]
    assert "cell-0000" in [launch.cell_id for launch in launches]
    world.cells["cell-0000"] = replace(failed, launching=1, launched=1)
    assert GiveUpLaunch("cell-0000", 1, "not ready after 10 s") in reconcile(DESIRED, world.observed())


def test_where_others_start_the_workers_it_only_admits() -> None:
    """Nothing is launched, and an instance with a higher generation is admitted."""
    desired = Desired(CELLS, can_launch=False)
    world = World()
    for cell in CELLS:
        world.do(CreateCell(cell))
    assert [type(action) for action in reconcile(desired, world.observed())] == [PublishMap]
    world.running.add(("cell-0002", 5))
    world.beats["cell-0002", 5] = world.now
    assert Admit("cell-0002", 5) in reconcile(desired, world.observed())


def test_a_cell_that_only_the_map_knows_is_made_known_and_emptied_in_order() -> None:
    """The registry was emptied and a router remembered a map of more cells: theirs is moved, then they are ended."""
    world = World(slot_map=SlotMap(1, assign(None, dict.fromkeys([*CELLS, "cell-0003"], 1.0))))
    world.running.add(("cell-0003", 7))
    for _ in range(200):
        world.step()
    assert world.slot_map is not None
    assert set(world.slot_map.owners) == set(CELLS)
    assert not [action for action in world.log if isinstance(action, Launch) and action.cell_id == "cell-0003"]
    assert world.cells["cell-0003"].retired
    assert ("cell-0003", 7) not in world.running


def test_a_cell_that_only_its_hold_queue_tells_of_is_written_down_as_retired() -> None:
    """Routers empty the hold queues of all cells that are written down. Before there is a map, nothing is done."""
    world = World()
    found = ("cell-0000", "cell-0007", "cell-0009")
    assert [a for a in reconcile(DESIRED, replace(world.observed(), hold_queues=found)) if isinstance(a, Retire)] == []
    for _ in range(8):
        world.step()
    actions = reconcile(DESIRED, replace(world.observed(), hold_queues=found))
    assert actions == [Retire("cell-0007"), Retire("cell-0009")]
    world.cells |= {cell: records.retired(CellRecord(cell)).record for cell in ("cell-0007", "cell-0009")}
    assert reconcile(DESIRED, replace(world.observed(), hold_queues=found)) == []


def test_an_instance_that_runs_without_our_knowledge_is_adopted_and_not_started_again() -> None:
    """Its generation is above all that the registry knows; one that never gets ready is given up and ended."""
    world = World(running={("cell-0000", 5), ("cell-0001", 3)}, hung={("cell-0001", 3)})
    for _ in range(80):
        world.step()
    assert world.cells["cell-0000"].generation == 5
    assert world.cells["cell-0001"].generation > 3
    assert ("cell-0001", 3) not in world.running
    launched = [action.cell_id for action in world.log if isinstance(action, Launch)]
    assert sorted(launched) == ["cell-0001", "cell-0002"]


@given(st.lists(st.tuples(st.sampled_from(CELLS), st.sampled_from(["kill", "hang", "wait"])), max_size=12))
@settings(deadline=None)
def test_whatever_dies_it_comes_to_rest_with_one_instance_a_cell(faults: list[tuple[str, str]]) -> None:
    """The generation that serves is the one that runs, and the map never changes."""
    world = settled()
    before = world.slot_map
    for cell, fault in faults:
        generation = max((g for c, g in world.running if c == cell), default=0)
        if fault == "kill":
            world.kill(cell, generation)
        elif fault == "hang":
            world.hung.add((cell, generation))
        for _ in range(3):
            world.step()
    world.now += TTL_MS
    world.rest(200)
    assert sorted(cell for cell, _ in world.running) == sorted(CELLS)
    assert world.running == {(cell, record.generation) for cell, record in world.cells.items()}
    assert world.slot_map is before


def test_many_instances_that_fall_silent_together_are_waited_for() -> None:
    """The machine starves or slept: they run, and most come back. One that stays silent is replaced after a while."""
    world = World()
    for _ in range(8):
        world.step()
    for cell in CELLS:
        world.hung.add((cell, 1))
    for _ in range((TTL_MS + TOGETHER_MS - 1000) // 250):
        assert not [action for action in world.step() if isinstance(action, Launch)]
    world.hung = {("cell-0000", 1)}
    for _ in range(20):
        world.step()
    assert {cell: record.generation for cell, record in world.cells.items()} == {
        "cell-0000": 2,
        "cell-0001": 1,
        "cell-0002": 1,
    }


def test_instances_that_ended_together_are_launched_at_once() -> None:
    """However many there are, instances known to have ended are not waited for."""
    world = World()
    for _ in range(8):
        world.step()
    for cell in CELLS:
        world.kill(cell, 1, "killed by signal 9")
    assert len([action for action in world.step() if isinstance(action, Launch)]) == len(CELLS)
