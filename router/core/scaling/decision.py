"""Whether there shall be one cell more, one fewer, or as many as there are: one function, and the reason in words.

Pure. A cell is added above the target, and one is taken away only where the rest would be well below it, so that a load
that goes up and down within that band changes nothing: the number of cells turns round only after the load has risen
by a quarter, or fallen by a fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.core.models import Reason
from router.core.scaling.seen import LoadSeen
from router.core.scaling.wanted import Scaling

BAND: Final = 0.8  # of the target: below it the cells that are left must stay, after one is taken away
FAILED_PAUSE_S: Final = 1800.0  # until the next try, after a cell that was added came to nothing


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """What shall become of the number of cells, and why."""

    change: int  # 1: one more; -1: one fewer; 0: as many as there are
    why: Reason  # also why nothing is changed
    short: bool = False  # more cells are needed than there may be
    too_large: Reason | None = None  # the key that fills a cell alone, so that no number of cells helps


def decided(scaling: Scaling, cells: int, owning: int, seen: LoadSeen, shared: Reason | None) -> ScalingDecision:
    """Decide from what was seen of `cells` cells, of which `owning` have slots.

    `shared` is the trouble that all cells seem to share; None where there is none. Then events are slow everywhere, and
    fill the places: only what else is used counts.
    """
    if seen.whole_s < scaling.out_after_s:
        return _keep(f"the load is watched for {scaling.out_after_s:g} s first, {seen.whole_s:.0f} s by now")
    used, floor = (seen.sure, seen.sure_floor) if shared is not None else (seen.used, seen.floor)
    parts = f"{seen.places:.0%} of places, {seen.cpu:.0%} of CPU"
    said = f"{used:.0%} of the cells in use over {scaling.out_after_s:g} s ({parts})"
    if cells < scaling.min_cells:
        return ScalingDecision(1, f"fewer than {scaling.min_cells} cells: {cells}")
    least = min(used, floor)  # on average and most of the time: a short spike is neither
    if least > scaling.target or (seen.behind and least > BAND * scaling.target):
        late = ", and events wait for too long" if seen.behind else ""
        return _one_more(scaling, cells, seen, f"{said}{late}")
    if shared is not None:
        return _keep(f"{said}; {shared}")
    return _one_fewer(scaling, cells, owning, seen, said)


def _one_more(scaling: Scaling, cells: int, seen: LoadSeen, why: Reason) -> ScalingDecision:
    why = f"{why}, the target is {scaling.target:.0%}"
    if cells >= scaling.max_cells:
        return ScalingDecision(0, f"{why}: more cells are needed than the {scaling.max_cells} that there may be", True)
    if seen.failed_s is not None and seen.failed_s < FAILED_PAUSE_S:
        return _keep(f"{why}: the last cell that was added came to nothing {seen.failed_s:.0f} s ago, so wait")
    return ScalingDecision(1, why)


def _one_fewer(scaling: Scaling, cells: int, owning: int, seen: LoadSeen, said: str) -> ScalingDecision:
    if cells > scaling.max_cells:
        return ScalingDecision(-1, f"more than {scaling.max_cells} cells: {cells}")
    if cells <= scaling.min_cells or owning < 2:  # noqa: PLR2004 - the last one stays
        return _keep(f"{said}, the target is {scaling.target:.0%}")
    limit = BAND * scaling.target
    left = seen.peak * owning / (owning - 1)
    if left >= limit:
        return _keep(f"{said}; one cell fewer would be up to {left:.0%} in use, and must stay below {limit:.0%}")
    if seen.was_behind:
        return _keep(f"{said}; events have waited for too long in the last {scaling.in_after_s:g} s")
    if seen.whole_s < scaling.in_after_s:
        return _keep(f"{said}; one cell fewer would do, if that stays so for {scaling.in_after_s - seen.whole_s:.0f} s")
    return ScalingDecision(-1, f"{said}; one cell fewer is {left:.0%} in use at most, less than {limit:.0%}")


def _keep(why: Reason) -> ScalingDecision:
    return ScalingDecision(0, why)
