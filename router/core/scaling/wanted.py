"""How the number of cells shall follow the load: what a person wants of it, as the policy has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from router.core.models import Reason, Whole

MIN_TARGET: Final = 0.1
MAX_TARGET: Final = 0.95
MIN_AFTER_S: Final = 60.0  # a shorter time holds too few events, of which one may take a minute
MAX_AFTER_S: Final = 86400.0
MIN_CELL_RATE: Final = 1.0  # events a second; a cell that gets fewer would hardly be one
MAX_CELL_RATE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Scaling:
    """Between which bounds the number of cells follows the load, and how much of a cell shall be in use."""

    min_cells: Whole
    max_cells: Whole
    target: float = 0.6  # the share of the cells in use, above which there shall be another cell
    cell_rate: float = 0.0  # events a second that a cell bears and gets at most, by a stress run; 0: not known
    out_after_s: float = 180.0  # for how long the load is watched, since anything changed, before a cell is added
    in_after_s: float = 900.0  # the same before one is taken away


def why_bad_scaling(scaling: Scaling | None, most: int) -> Iterator[Reason]:
    """Every number with which the cells could not follow the load; `most` cells there can be at all."""
    if scaling is None:
        return
    # A comparison with NaN is always false, so each condition says what is good.
    if not 1 <= scaling.min_cells <= scaling.max_cells <= most:
        yield f"scaling keeps 1 to {most} cells, and its minimum is not above its maximum"
    if not MIN_TARGET <= scaling.target <= MAX_TARGET:
        yield f"the target of scaling is {MIN_TARGET:g} to {MAX_TARGET:g} of the cells in use"
    if not (scaling.cell_rate == 0 or MIN_CELL_RATE <= scaling.cell_rate <= MAX_CELL_RATE):
        yield f"a cell bears {MIN_CELL_RATE:g} to {MAX_CELL_RATE:g} events a second; 0 stands for not known"
    if not MIN_AFTER_S <= scaling.out_after_s <= scaling.in_after_s <= MAX_AFTER_S:
        yield (
            f"scaling watches the load for {MIN_AFTER_S:g} s to {MAX_AFTER_S:g} s before it adds a cell, and for as "
            f"long or longer before it takes one away"
        )


def described(scaling: Scaling) -> str:
    """Say in words what is wanted."""
    rate = f" or {scaling.cell_rate:g} events a second in each" if scaling.cell_rate else ""
    return (
        f"{scaling.min_cells} to {scaling.max_cells} cells, one more above {scaling.target:.0%} in use{rate} "
        f"for {scaling.out_after_s:g} s, one fewer after {scaling.in_after_s:g} s"
    )
