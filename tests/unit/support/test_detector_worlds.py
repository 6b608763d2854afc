"""The simulated worlds are what they say: what slows an instance, what slows any, and who sees it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random  # noqa: TID251 - seeded
from statistics import fmean, median

import pytest

from tests.support.detector_costs import COSTS, CostModel
from tests.support.detector_limits import LIMITS, with_other_limits
from tests.support.detector_scenarios import BEYOND, LARGEST, MADE_FOR, RATIOS, SCENARIOS, Scenario
from tests.support.detector_sick import slow
from tests.support.detector_simulation import CANARY, REHEARSING, Contestant, RealDetector, simulate
from tests.support.detector_world import LEADER, Path, Shape, SimulatedCell, Slowness, World, world_of
from tests.support.rival_detectors import RULES

SMALL = Shape(3, 10)
SECONDS = 30


def canaries(cell: SimulatedCell, vantage: int, *, twin: bool = False) -> float:
    """Measure some canaries from one vantage point; return the median."""
    send, draw = (cell.twin_canary_s if twin else cell.canary_s), Random(1)
    return median(send(CANARY, vantage, draw) for _ in range(99))


def latencies(cell: SimulatedCell, router: int) -> float:
    """Run a cell for a while; return the mean latency that one router sees."""
    return fmean(latency_s for _, by, _, latency_s, _ in cell.until(200, 200) if by == router)


def alone(number: int, draw: Random) -> dict[str, Contestant]:
    """Let no detector take part but the real one."""
    return {"cellrouter": RealDetector(Random(draw.random()), CANARY)}


def small_world(costs: CostModel = COSTS[0]) -> World:
    """A world with nothing wrong in it."""
    return world_of(SMALL, Random("small"), costs)


def test_a_path_is_seen_only_from_its_end() -> None:
    """A slow path of the leader shows in no event; that of a router shows in its own events, and in its canaries."""
    usual_s = latencies(small_world().cells[0], 0)
    cell = small_world().cells[0]
    cell.paths = {LEADER: Path(0.5), 1: Path(5.0)}
    assert latencies(cell, 0) == pytest.approx(usual_s)
    assert latencies(small_world().cells[0], 1) + 4.9 < latencies(cell, 1)
    assert [round(canaries(cell, vantage), 1) for vantage in (0, LEADER, 1)] == [0.0, 0.5, 5.0]


def test_a_twin_has_what_any_instance_has_and_nothing_of_what_is_wrong_with_this_one() -> None:
    """A twin is as far from every vantage point, uses the same dependencies, and has no events to work on."""
    cell = small_world().cells[0]
    cell.instance.everything, cell.instance.storage = 3, 5
    assert canaries(cell, 0) > 5 * canaries(cell, 0, twin=True)
    assert canaries(cell, 0, twin=True) == pytest.approx(canaries(small_world().cells[0], 0, twin=True))
    cell.replace()
    cell.outside.everything, cell.paths[0] = 4, Path(0.3)
    assert canaries(cell, 0) == pytest.approx(canaries(cell, 0, twin=True), rel=0.1)
    assert canaries(cell, LEADER, twin=True) == pytest.approx(canaries(cell, 0, twin=True) - 0.3)


def test_a_full_instance_answers_canaries_later_and_its_twin_does_not() -> None:
    """Events share the CPU with canaries; those that only wait for something outside take none of it."""
    busy, idle, waiting = (small_world().cells[0] for _ in range(3))
    for tenant in (*busy.tenants, *idle.tenants):
        tenant.log_s += 4
    for tenant in idle.tenants:
        tenant.idle = True
    waiting.outside.share, waiting.outside.hit_s = 1.0, 60.0
    for cell in (busy, idle, waiting):
        cell.until(60, 60)
        assert cell.pending(0, 60)[0] > 0
    waiting.outside.share = 0.0
    assert canaries(busy, 0) > 1.5 * canaries(busy, 0, twin=True)
    for cell in (idle, waiting):
        assert canaries(cell, 0) == pytest.approx(canaries(cell, 0, twin=True))


@pytest.mark.parametrize("costs", COSTS, ids=lambda costs: costs.name)
def test_the_costs_have_the_mean_and_the_dearest_fifth_that_their_model_says(costs: CostModel) -> None:
    """Places are counted by the mean, and which events are dear by the quantile."""
    tenant = next(tenant for cell in small_world(costs).cells for tenant in cell.tenants)
    draw = Random(1)
    drawn = [tenant.cost_s(draw) for _ in range(20_000)]
    assert fmean(drawn) == pytest.approx(tenant.mean_s(), rel=0.1)
    assert sum(map(tenant.is_dear, drawn)) / len(drawn) == pytest.approx(0.2, abs=0.03)


def test_a_run_is_the_same_each_time_whichever_detectors_take_part() -> None:
    """Otherwise no two rules could be compared, nor a rule before and after a change."""
    scenario = Scenario(slow(3), slow=1, shapes=(SMALL,), seconds=SECONDS)
    sick, outcomes = simulate(scenario, 1, "seed")
    assert set(outcomes) == {"cellrouter", REHEARSING, *RULES}
    assert simulate(scenario, 1, "seed", alone)[0] == sick
    assert simulate(scenario, 1, "seed", alone)[1]["cellrouter"].called == outcomes["cellrouter"].called
    assert {cell_id for cell_id, _ in outcomes["cellrouter"].treated} == sick


def hang(world: World) -> Iterator[None]:
    """Let one instance answer nothing for a minute."""
    world.cells[0].instance.share, world.cells[0].instance.hit_s = 1.0, 60.0
    yield


def test_an_instance_that_answers_nothing_gets_no_trial() -> None:
    """Its canary waits, and the detector is told for how long; there is nothing to compare a twin's canaries with."""
    sick, outcomes = simulate(Scenario(hang, slow=1, shapes=(SMALL,), seconds=SECONDS), 1, "seed", alone)
    assert {cell_id for cell_id, _ in outcomes["cellrouter"].called} == sick
    assert outcomes["cellrouter"].treated[0] == outcomes["cellrouter"].called[0]


def test_other_limits_hold_only_for_the_detector_that_has_them() -> None:
    """Twice as slow is found with a lower limit, and not with a higher one."""
    scenario = Scenario(slow(2), slow=1, shapes=(SMALL,), seconds=SECONDS)
    sick, outcomes = simulate(scenario, 1, "seed", with_other_limits)
    found = {float(limit): {cell_id for cell_id, _ in each.called} for limit, each in outcomes.items()}
    assert tuple(found) == LIMITS
    assert found[min(LIMITS)] == sick
    assert found[max(LIMITS)] == set()


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_cells_that_are_called_sick_have_something_wrong_with_their_instance(name: str) -> None:
    """Otherwise a detector would be blamed for what it found rightly."""
    scenario = SCENARIOS[name]
    world, blamed = world_of(Shape(5, 5, 3), Random(name)), set()
    if scenario.prepare is not None:
        scenario.prepare(world)
    trouble = scenario.trouble(world)
    for now in range(1, scenario.seconds + 1):
        next(trouble, None)
        for cell in world.cells:
            cell.until(now)
        blamed |= {cell.cell_id for cell in world.cells if cell.instance != Slowness()}
    assert blamed == {cell.cell_id for cell in world.cells[: scenario.slow]}


def test_scenarios_come_in_many_shapes() -> None:
    """From two cells to 300 and from one event a second to 1000; names are unique, and costs of all models come."""
    assert len(SCENARIOS) == len(MADE_FOR) + len(BEYOND) + len(RATIOS)
    shapes = {BEYOND["cold caches"].shape(number) for number in range(500)}
    assert set(LARGEST) <= shapes
    assert {shape.cells for shape in shapes} >= {2, 3, 5, 10, 30, 100, 300}
    assert {shape.rate for shape in shapes} >= {1, 2, 10, 100, 300, 1000}
