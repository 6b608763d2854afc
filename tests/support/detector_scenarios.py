"""The troubles that are simulated, and which cells are really slow in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from random import Random  # noqa: TID251 - seeded: the same troubles in every run
from typing import Final

from tests.support.detector_world import Shape, SimulatedCell, Tenant, new_tenant

SHAPES: Final = (
    *(Shape(5, 10), Shape(10, 5), Shape(3, 30), Shape(5, 30), Shape(2, 10), Shape(30, 2), Shape(5, 2), Shape(10, 20))
    * 4,
    *(Shape(3, 10, 1), Shape(10, 2, 3), Shape(5, 5, 3), Shape(2, 30, 1), Shape(30, 5), Shape(3, 100, 3)) * 4,
    *(Shape(5, 100), Shape(2, 300), Shape(10, 50), Shape(2, 2, 1)) * 2,
    *(Shape(5, 300, 3), Shape(10, 100), Shape(30, 30)),
)
"""Runs take the shapes in turn. Large worlds are rarer, and one run of each hundred has the shape LARGEST."""
LARGEST: Final = Shape(30, 300, 3)
FIVE: Final = tuple(Shape(5, shape.rate, shape.routers) for shape in SHAPES if shape.rate <= 100)
LOW: Final = tuple(Shape(shape.cells, 2, shape.routers) for shape in SHAPES)

Cells = Sequence[SimulatedCell]
Change = Callable[[Cells, float, Random], None]
"""Changes the cells. It is called once a second with the seconds since the trouble began, with 0 at first."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One trouble: how it changes the cells, in which worlds, and for how many seconds."""

    change: Change
    slow: int = 0  # how many cells are slow: the first ones
    shapes: Sequence[Shape] = SHAPES
    seconds: int = 60


def nothing(cells: Cells, at: float, draw: Random) -> None:
    """Change nothing: all cells stay healthy."""


def slower(cells: Cells, at: float, draw: Random) -> None:
    """Make one instance take three times as long for everything."""
    cells[0].slowness = 3


def two_slower(cells: Cells, at: float, draw: Random) -> None:
    """Make two instances take three times as long for everything."""
    cells[0].slowness = cells[1].slowness = 3


def creep(cells: Cells, at: float, draw: Random) -> None:
    """Raise the latency of one cell from once to five times within a minute."""
    cells[0].slowness = 1 + 4 * min(1.0, at / 60)


def all_slower(cells: Cells, at: float, draw: Random) -> None:
    """Slow a dependency that all cells share; each cell notices within three seconds."""
    for cell in cells:
        if at >= 3 or draw.random() < 0.4:
            cell.slowness = 5


def storage(cells: Cells, at: float, draw: Random) -> None:
    """Make one cell's calls to S3 ten times as slow, and nothing else of it."""
    cells[0].storage = 10


def costly(cells: Cells, at: float, draw: Random) -> None:
    """Let one of a cell's five busiest tenants send events that cost ten times as much."""
    if at == 0:
        _busy_tenant(cells[0], draw).log_s += log(10)


def flood(cells: Cells, at: float, draw: Random) -> None:
    """Let one of a cell's five busiest tenants send twice as much as the whole cell could do."""
    if at == 0:
        tenant = _busy_tenant(cells[0], draw)
        tenant.rate = 2 * cells[0].places / tenant.mean_s()


def newcomers(cells: Cells, at: float, draw: Random) -> None:
    """Add half as many tenants again within half a minute; one in ten may send ten times as much, or dearer events."""
    for cell in cells if at < 30 else ():
        if draw.random() < 1 / 3:
            rate = sum(tenant.rate for tenant in cell.tenants) / max(1, len(cell.tenants))
            tenant = new_tenant(draw, f"new-{cell.cell_id}-{at}", rate)
            if draw.random() < 0.1:
                tenant.rate *= draw.choice((1, 10))
                tenant.log_s += draw.choice((0, log(10)))
            cell.tenants.append(tenant)


def deploy(cells: Cells, at: float, draw: Random) -> None:
    """Replace one instance by another that is three times as slow for its first 30 to 45 seconds."""
    cell = cells[0]
    if at == 0:
        cell.generation, cell.slowness = cell.generation + 1, 3
    if cell.slowness > 1 and at >= 30 and (at >= 45 or draw.random() < 1 / 15):
        cell.slowness = 1


def _busy_tenant(cell: SimulatedCell, draw: Random) -> Tenant:
    busiest: list[Tenant] = sorted(cell.tenants, key=lambda tenant: tenant.rate, reverse=True)
    return draw.choice(busiest[:5])


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "healthy": Scenario(nothing, seconds=180),
    "slow x3": Scenario(slower, slow=1),
    "heavy tenant": Scenario(costly, seconds=180),
    "saturating tenant": Scenario(flood, seconds=120),
    "creep x1 to x5": Scenario(creep, slow=1, seconds=90),
    "two slow of five": Scenario(two_slower, slow=2, shapes=FIVE),
    "all slow x5": Scenario(all_slower),
    "low traffic": Scenario(nothing, shapes=LOW, seconds=180),
    "low traffic, slow x3": Scenario(slower, slow=1, shapes=LOW),
    "new tenants": Scenario(newcomers, seconds=180),
    "deploy warm-up": Scenario(deploy, seconds=90),
    "S3 x10 in one cell": Scenario(storage, slow=1),
}
