"""Sick cells on virtual time: the whole control plane and data plane, with instances that are slow, hang or fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.control.ladder import AGAIN_MS
from router.core.models import HoldCause, Outcome, Rung
from router.core.policy import Policy
from tests.support.control_world import actions
from tests.support.fake_cells import Sickness
from tests.support.sick_world import BASE_S, CELLS, RATES, VICTIM, WARM_S, SickWorld, in_sick_world


def test_a_slow_instance_is_replaced_by_one_that_was_verified_before() -> None:
    """Three times as slow, it is replaced within 20 s. It keeps its traffic until then, and no other cell notices."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            began = world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 20)
            assert world.clock.now - began > 10
            assert world.taken() == ["treat", "replace"]
            assert world.generations() == {**dict.fromkeys(world.generations(), 1), VICTIM: 2}
            assert world.cells.generations[VICTIM, 1] > 60 * WARM_S / CELLS / 2
        assert world.rung() is Rung.WELL
        assert world.notes.count_held(HoldCause.EJECTED) == 0

    in_sick_world(story)


@pytest.mark.parametrize(
    ("sickness", "seconds"), [(Sickness(outcome=Outcome.RETRY), 6), (Sickness(hangs=True), 10)], ids=["fails", "hangs"]
)
def test_an_instance_that_fails_or_hangs_is_ejected_at_once_and_restarted(sickness: Sickness, seconds: float) -> None:
    """Its events wait in the hold queue until it has ended as it was asked to, and the next instance does them."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.instances.on_restart = lambda address, _: world.machines.end(VICTIM, int(address.split(":")[1]))
            world.fall_ill(VICTIM, sickness)
            await world.until(lambda: world.record(VICTIM).treatment.ejected, "ejected", seconds)
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 20)
            assert world.taken() == ["treat", "restart instance"]
        assert world.notes.count_held(HoldCause.EJECTED) > 0

    in_sick_world(story)


def test_an_instance_that_cannot_be_asked_to_end_is_replaced() -> None:
    """It hangs and its other paths don't answer either: another is launched beside it."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.instances.deaf.add(f"{VICTIM}:1")
            world.fall_ill(VICTIM, Sickness(hangs=True))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 15)
            assert world.taken() == ["treat", "restart instance", "replace"]

    in_sick_world(story)


def test_a_sick_component_is_restarted_and_the_instance_stays() -> None:
    """The first rung is enough: the cell recovers, with a record of it, and nothing else is done."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.instances.sick[f"{VICTIM}:1"] = {"s3"}
            world.instances.on_restart = lambda _address, _component: world.cells.cells[VICTIM].sick.clear()
            world.fall_ill(VICTIM, Sickness(extra_s=0.5))
            await world.until(lambda: "recovered" in actions(world.control.contents.audit), "recovered", 45)
            assert world.instances.restarted == [(f"{VICTIM}:1", "s3")]
            assert world.taken() == ["treat", "restart components"]
            assert world.record(VICTIM).generation == 1

    in_sick_world(story)


def test_a_component_whose_restart_does_not_help_is_followed_by_a_replacement() -> None:
    """The first rung has its time before the next one follows."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.instances.sick[f"{VICTIM}:1"] = {"s3"}
            world.fall_ill(VICTIM, Sickness(extra_s=0.5))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 45)
            assert world.taken() == ["treat", "restart components", "replace"]

    in_sick_world(story)


def test_launches_that_fail_leave_the_slow_instance_where_it_is() -> None:
    """Launches are backed off, the cell is reprovisioned once and given up then, though not for ever."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(240):
            world.machines.broken.add(VICTIM)
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.rung() is Rung.GIVEN_UP, "given up", 200)
            launches = len([launch for launch in world.machines.launches if launch[0] == VICTIM])
            assert launches == 1 + 6
            assert world.taken() == ["treat", "replace", "reprovision", "give up"]
            done = world.cells.generations[VICTIM, 1]
            await world.clock.sleep(30)
            assert world.cells.generations[VICTIM, 1] > done
            assert len([launch for launch in world.machines.launches if launch[0] == VICTIM]) == launches
            assert world.rung() is Rung.GIVEN_UP
            world.machines.broken.clear()
            world.control.contents.cells[VICTIM] = replace(world.record(VICTIM), launch_failures=0)

    in_sick_world(story)


def test_a_cell_that_is_sick_again_after_a_replacement_is_left_to_a_person() -> None:
    """The trouble is not the instance's, so another one would be no better."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(180):
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 25)
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.rung() is Rung.GIVEN_UP, "given up", 90)
            assert "it is not the instance" in (world.record(VICTIM).treatment.why or "")
            await world.clock.sleep(30)
            assert world.record(VICTIM).generation == 2
            assert world.taken("give up", "replace") == ["replace", "give up"]

    in_sick_world(story)


def test_two_sick_cells_are_treated_one_after_the_other() -> None:
    """A guard keeps the second from treatment until the first has its new instance."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            for victim in ("cell-0001", "cell-0002"):
                world.fall_ill(victim, Sickness(factor=3))
            await world.until(lambda: world.generations()["cell-0002"] == 2, "both replaced", 45)
            assert world.generations() == {**dict.fromkeys(world.generations(), 1), "cell-0001": 2, "cell-0002": 2}
            launched = [c for c, g in world.machines.launches if g == 2]
            assert launched == ["cell-0001", "cell-0002"]
            guarded = [entry for entry in world.control.contents.audit if entry.action == "guard"]
            assert [entry.cell_id for entry in guarded] == ["cell-0002"]
            assert "one at a time" in guarded[0].why

    in_sick_world(story, cells=5)


def test_another_leader_goes_on_where_the_last_one_was_killed() -> None:
    """In the middle of a replacement there is one launch and one admission all the same."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60, controllers=2) as control:
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.rung() is Rung.REPLACING, "being replaced", 20)
            for process in control[:1]:
                process.kill()
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 20)
            assert len([launch for launch in world.machines.launches if launch[0] == VICTIM]) == 2

    in_sick_world(story)


def test_a_heavy_tenant_is_no_reason_to_touch_its_cell() -> None:
    """Its own events take ten times as long from now on, and the others' don't."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            heavy = next(tenant for tenant in RATES if world.map().cell_of(tenant) == VICTIM)
            world.cells.cells[VICTIM].time_of_event = lambda event: (
                10 * BASE_S if event.partition_key == heavy else BASE_S
            )
            await world.clock.sleep(60)
            assert set(world.generations().values()) == {1}
            assert world.taken() == []

    in_sick_world(story)


@pytest.mark.parametrize("order", ["frozen", "ejected"])
def test_automation_never_fights_a_persons_order(order: str) -> None:
    """A frozen cell stays as it is, however slow or failing; an ejected one gets nothing, however well."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(90):
            edit = Policy.with_frozen if order == "frozen" else Policy.with_ejected
            await world.decide(lambda policy: edit(policy, VICTIM, **{order: True}))
            world.fall_ill(VICTIM, Sickness(factor=20))
            await world.clock.sleep(2)
            done = world.cells.generations[VICTIM, 1]
            await world.clock.sleep(40)
            assert world.record(VICTIM).generation == 1
            assert world.taken() == []
            assert (world.cells.generations[VICTIM, 1] > done) is (order == "frozen")
            await world.decide(lambda policy: edit(policy, VICTIM, **{order: False}))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 45)

    in_sick_world(story)


def test_orders_to_replace_and_to_evict_are_carried_out() -> None:
    """Replaced, the old one serves until the new one is verified; evicted, it is ended first. Each is done once."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            await world.decide(lambda policy: policy.with_order(VICTIM, 1, evict=False))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 10)
            await world.decide(lambda policy: policy.with_order("cell-0002", 1, evict=True))
            await world.until(lambda: ("cell-0002", 1) in world.machines.ended, "evicted", 3)
            await world.until(lambda: world.generations()["cell-0002"] == 2, "again", 10)
            await world.clock.sleep(20)
            assert world.generations() == {"cell-0000": 1, VICTIM: 2, "cell-0002": 2, "cell-0003": 1}

    in_sick_world(story)


class TestGuards:
    """Each guard keeps the controller from treating a cell; without the guard, harm is done."""

    @pytest.mark.parametrize("guarded", [True, False])
    def test_cells_that_are_all_sick_share_what_makes_them_sick(
        self, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
    ) -> None:
        """Their dependency fails: replacing instances one after the other would only make it worse."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(60):
                for cell_id in list(world.generations()):
                    world.instances.deaf.add(f"{cell_id}:1")
                    world.fall_ill(cell_id, Sickness(outcome=Outcome.RETRY))
                await world.clock.sleep(25)
                assert (set(world.generations().values()) == {1}) is guarded
                assert any(record.treatment.ejected for record in world.control.contents.cells.values()) is not guarded
                for cell in world.cells.cells.values():
                    cell.sick.clear()

        if not guarded:
            monkeypatch.setattr("router.core.control.observed.why_shared", lambda _: None)
        in_sick_world(story)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_a_new_instance_may_be_slow_for_a_while(self, *, guarded: bool) -> None:
        """It warms up for 40 s. Its twin is warm sooner, but was cold too: that convicts nobody."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(70):
                await world.decide(lambda policy: policy.with_order(VICTIM, 1, evict=False))
                sick = world.cells.cells[VICTIM].sick
                sick[2] = sick[3] = Sickness(factor=3)
                await world.until(lambda: world.record(VICTIM).generation == 2, "by hand", 10)
                admitted_at = world.clock.now
                await world.until(lambda: (VICTIM, 3) in world.machines.running, "its twin", 25)
                await world.clock.sleep(9)
                del sick[3]
                await world.clock.sleep(admitted_at + 40 - world.clock.now)
                del sick[2]
                await world.clock.sleep(20)
                assert (world.record(VICTIM).generation == 2) is guarded

        in_sick_world(story, warm_up_s=60 if guarded else 0)

    def test_a_new_instance_that_is_slow_from_its_first_moment_is_replaced_before_it_had_time_to_warm_up(self) -> None:
        """Its twin, younger still, is as quick as the other cells."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(60):
                await world.decide(lambda policy: policy.with_order(VICTIM, 1, evict=False))
                world.cells.cells[VICTIM].sick[2] = Sickness(factor=3)
                await world.until(lambda: world.record(VICTIM).generation == 2, "by hand", 10)
                await world.until(lambda: world.record(VICTIM).generation == 3, "replaced", 45)
            assert {each for each, number in world.generations().items() if number > 1} == {VICTIM}

        in_sick_world(story, warm_up_s=60)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_no_more_than_three_replacements_in_ten_minutes(
        self, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
    ) -> None:
        """Something goes through the cells: after the third it is time for a person to look."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(160):
                for number in range(4):
                    world.fall_ill(f"cell-000{number}", Sickness(factor=3))
                    await world.clock.sleep(35)
                assert sorted(world.generations().values()) == ([1, 1, 2, 2, 2] if guarded else [1, 2, 2, 2, 2])

        if not guarded:
            monkeypatch.setattr("router.core.control.guards.BUDGET", 100)
        in_sick_world(story, cells=5)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_a_replacement_that_did_not_help_is_not_tried_again_and_again(
        self, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
    ) -> None:
        """Each would cost the cell its caches, and help as little."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(170):
                world.fall_ill(VICTIM, Sickness(factor=3))
                await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 25)
                world.fall_ill(VICTIM, Sickness(factor=3))
                await world.clock.sleep(140)
                assert (world.record(VICTIM).generation == 2) is guarded

        if not guarded:
            monkeypatch.setattr("router.core.control.ladder.AGAIN_MS", 0)
        assert AGAIN_MS
        in_sick_world(story)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_what_a_late_event_loop_measures_says_nothing(
        self, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
    ) -> None:
        """The controller starves: its canaries seem slow, one cell's most of all."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(60):
                if guarded:
                    monkeypatch.setattr("router.services.loop_lag.LoopLag.worst_s", lambda _self, _since: 0.5)
                world.fall_ill(VICTIM, Sickness(canary_extra_s=1.0))
                await world.clock.sleep(50)
                assert (world.record(VICTIM).generation == 1) is guarded

        in_sick_world(story)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_the_only_cell_is_not_replaced_for_being_slow(
        self, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
    ) -> None:
        """There is nothing that it could be compared with: its work may just have become more."""

        async def story(world: SickWorld) -> None:
            async with world.under_load(60):
                world.fall_ill("cell-0000", Sickness(factor=3))
                await world.clock.sleep(50)
                assert (world.generations() == {"cell-0000": 1}) is guarded

        if not guarded:
            monkeypatch.setattr("router.core.control.treatment.why_guarded", lambda *_, **__: None)
        in_sick_world(story, cells=1)
