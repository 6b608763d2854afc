"""What holds the controller back when a cell is sick: replacing it would not help, or would hurt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log
from statistics import median_low
from typing import Final

from router.core.control.ladder import ON_THE_LADDER
from router.core.detection.assessment import Assessment, Verdict
from router.core.models import CellRecord

SHARED_FRACTION: Final = 0.4  # more of the cells than that, and two at least, don't fall ill each by itself
FLEET_RATIO: Final = 1.5  # of the median latency of the cells to what is usual: when all get slower, not all do at once
BUDGET: Final = 3  # replacements of sick instances within BUDGET_MS, in all cells together
BUDGET_MS: Final = 10 * 60_000


def shared_trouble(assessments: Mapping[str, Assessment]) -> str:
    """Why what is seen is no one cell's fault, but of something that they share; empty when it may be one's."""
    sick = sorted(a.cell_id for a in assessments.values() if a.verdict not in (Verdict.HEALTHY, Verdict.WORKLOAD))
    if are_many(len(sick), len(assessments)):
        return f"{len(sick)} of {len(assessments)} cells at once: a dependency that they share"
    offs = [a.off for a in assessments.values() if a.off is not None]
    if len(offs) > 1 and median_low(offs) > log(FLEET_RATIO):
        return f"the cells' median latency is more than {FLEET_RATIO:g} times the usual: a dependency that they share"
    return ""


def are_many(count: int, cells: int) -> bool:
    """Whether so many of the cells don't fall ill each by itself."""
    return count > max(1.0, SHARED_FRACTION * cells)


def waits(
    assessment: Assessment, record: CellRecord, others: Iterable[CellRecord], now_ms: int, warm_up_s: float
) -> str:
    """Why this cell has to wait, though it is sick and nothing is wrong with the others; empty when it need not."""
    others = list(others)
    if assessment.verdict is Verdict.SLOW:
        if not others:
            return "the only cell: there is nothing to compare it with"
        if now_ms - record.admitted_at_ms < 1000 * warm_up_s:
            return f"its instance is new: {warm_up_s:g} s to warm up"
    busy = sorted(other.cell_id for other in others if other.treatment.rung in ON_THE_LADDER)
    if busy:
        return f"one at a time: {', '.join(busy)} first"
    lately = sum(1 for other in (record, *others) if _within(other.replaced_at_ms, now_ms, BUDGET_MS))
    if lately >= BUDGET:
        return f"{lately} replacements within {BUDGET_MS // 60_000} min are enough"
    return ""


def _within(then_ms: int, now_ms: int, span_ms: int) -> bool:
    return bool(then_ms) and now_ms - then_ms < span_ms
