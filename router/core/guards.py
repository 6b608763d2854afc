"""What holds the controller back when a cell is sick: replacing it would not help, or would hurt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from statistics import median
from typing import Final

from router.core.evidence import Assessment, Verdict

SHARED_FRACTION: Final = 0.4  # more of the cells than that, and two at least, don't fall ill each by itself
FLEET_RATIO: Final = 2.0  # of the cells' median latency to what is usual


def shared_trouble(assessments: Mapping[str, Assessment]) -> str:
    """Why what is seen is no one cell's fault, but of something that they share; empty when it may be one's."""
    sick = sorted(a.cell_id for a in assessments.values() if a.verdict not in (Verdict.HEALTHY, Verdict.WORKLOAD))
    if len(sick) > max(1.0, SHARED_FRACTION * len(assessments)):
        return f"{len(sick)} of {len(assessments)} cells at once: a dependency that they share"
    offs = [a.off for a in assessments.values() if a.off is not None]
    if len(offs) > 1 and median(offs) > log(FLEET_RATIO):
        return f"the cells' median latency is more than {FLEET_RATIO:g} times the usual: a dependency that they share"
    return ""
