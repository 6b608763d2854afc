"""What the controller believes of instances: their provisioner's word before their own."""

from __future__ import annotations

from dataclasses import replace

from router.core.errors import ProvisionError
from router.core.models import InstanceView, LeaseView
from router.core.telemetry import ActionTaken, LeaseRefused
from tests.support.control_world import ControlWorld, Machines
from tests.support.fake_clock import play


class Placed(Machines):
    """A provisioner that knows where its instances are, and may be out of reach."""

    def __init__(self, world: ControlWorld) -> None:
        super().__init__(world)
        self.elsewhere: set[tuple[str, int]] = set()  # than they say in their leases
        self.fault = ""

    async def observe(self) -> list[InstanceView]:
        if self.fault:
            raise ProvisionError(self.fault)
        return [replace(view, address=self._address(view)) for view in await super().observe()]

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        if self.fault:
            raise ProvisionError(self.fault)
        await super().launch(cell_id, generation, image)

    def _address(self, view: InstanceView) -> str:
        if not view.running:
            return ""
        key = (view.cell_id, view.generation)
        return "10.6.6.6:8080" if key in self.elsewhere else f"{view.cell_id}:{view.generation}"


def placed(cells: int) -> tuple[ControlWorld, Placed]:
    """A world whose provisioner knows the addresses of its instances."""
    world = ControlWorld(cells)
    world.machines = machines = Placed(world)
    return world, machines


def refused(world: ControlWorld) -> list[tuple[str, str]]:
    """What the observer was told of leases that weren't believed."""
    return [(r.instance, r.reason) for r in world.notes.records if isinstance(r, LeaseRefused)]


def generations(world: ControlWorld) -> dict[str, int]:
    """The generation of each cell that has the traffic."""
    return {cell_id: record.generation for cell_id, record in world.control.contents.cells.items()}


def test_an_instance_that_says_it_is_elsewhere_gets_no_traffic() -> None:
    """The observer is told once, the launch is given up in time, and the next instance is admitted."""
    world, machines = placed(2)
    machines.elsewhere.add(("cell-0001", 1))

    async def story() -> None:
        control = world.controller("a")
        await world.until(lambda: generations(world).get("cell-0000") == 1, "the honest one serves", 5)
        await world.clock.sleep(5)
        assert generations(world) == {"cell-0000": 1, "cell-0001": 0}
        await world.until(lambda: generations(world)["cell-0001"] == 2, "the next one serves", 30)
        assert refused(world) == [("cell-0001/1", "address")]
        control.kill()

    play(world.clock, story())


def test_an_admitted_instance_that_is_elsewhere_now_is_replaced() -> None:
    """Its lease counts as little as none."""
    world, machines = placed(2)

    async def story() -> None:
        async with world.running():
            machines.elsewhere.add(("cell-0000", 1))
            await world.until(lambda: generations(world)["cell-0000"] == 2, "it is replaced", 10)
            assert generations(world)["cell-0001"] == 1
            audit = await world.control.audit(100)
            assert any(e.why == "generation 2: generation 1 lost its lease" for e in audit)

    play(world.clock, story())


def test_a_lease_of_an_instance_that_nobody_launched_is_not_believed() -> None:
    """Though its signature is right: somebody has the secret, or an old one was put back."""
    world, _ = placed(2)
    forged = LeaseView("cell-0000", 99, "i99", "10.6.6.6:8080", 16, ready=True, live=True)

    async def story() -> None:
        async with world.running():
            world.control.contents.leases["cell-0000", 99] = (forged, world.clock.monotonic() + 60)
            await world.clock.sleep(10)
            assert generations(world) == {"cell-0000": 1, "cell-0001": 1}
            assert refused(world) == [("cell-0000/99", "unknown")]

    play(world.clock, story())


def test_a_provisioner_that_knows_no_places_contradicts_nobody() -> None:
    """Then only signatures and networks tell whether a lease is true."""
    world = ControlWorld(2)

    async def story() -> None:
        async with world.running():
            assert generations(world) == {"cell-0000": 1, "cell-0001": 1}
            assert refused(world) == []

    play(world.clock, story())


def test_while_the_engine_is_away_the_cells_go_on() -> None:
    """Nothing is replaced until the engine is back; what has died is then. The cause is told once."""
    world, machines = placed(2)

    async def story() -> None:
        async with world.running():
            machines.fault = "there is no engine"
            await world.clock.sleep(20)
            assert generations(world) == {"cell-0000": 1, "cell-0001": 1}
            machines.end("cell-0001", 1)
            await world.clock.sleep(10)
            audit = await world.control.audit(100)
            assert ("give up launch", "there is no engine") in [(e.action, e.why) for e in audit]
            machines.fault = ""
            await world.until(lambda: world.serving() == 2, "all serve again", 60)
            assert generations(world)["cell-0000"] == 1
            told = [r for r in world.notes.records if isinstance(r, ActionTaken) and r.action == "provisioner failed"]
            assert [r.why for r in told] == ["there is no engine"]

    play(world.clock, story())


def test_the_end_of_an_instance_that_was_stopped_is_in_the_audit() -> None:
    """The entry says once what its provisioner knows of the end."""
    world, machines = placed(1)

    async def story() -> None:
        async with world.running():
            await machines.launch("cell-0000", 2)
            await world.until(lambda: ("cell-0000", 1) in machines.ended, "the old generation is ended", 10)
            await world.clock.sleep(5)
            ends = [e for e in await world.control.audit(100) if e.action == "end"]
            assert [(e.cell_id, e.why) for e in ends] == [
                ("cell-0000", "generation 1 was stopped: exit code 1"),
            ]

    play(world.clock, story())
