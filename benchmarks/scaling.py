"""A week of load in virtual time: what the leader makes of the number of cells, beside a bare rule. Seconds to run."""

from __future__ import annotations

import asyncio
from statistics import fmean
from typing import Any

from benchmarks.figures import table
from benchmarks.scaling_picture import picture
from benchmarks.world import Options
from tests.support.scaling_week import MINUTE_S, Leader, Rule, Week, bare, week_of


def figures_of(week: Week) -> dict[str, float]:
    """Sum up how a rule did."""
    needed = week.needed
    return {
        "cells added": sum(change > 0 for _, change in week.changes),
        "cells taken away": sum(change < 0 for _, change in week.changes),
        "turned round within an hour": len(week.turns),
        "flaps: turned round without a reason": week.flaps,
        "cells needed, mean": fmean(needed),
        "cells that ran, mean": fmean(week.ran),
        "cells that ran, most": max(week.ran),
        "fewer than needed, % of time": 100 * fmean(a < b for a, b in zip(week.ran, needed, strict=True)),
        "over capacity, minutes": week.over_s / MINUTE_S,
        "longest wait, s": week.waited_s,
        "of a fixed number for the peak, %": 100 * fmean(week.ran) / max(needed),
    }


async def run(options: Options) -> dict[str, Any]:
    """Let both rules follow the same week, print how they did, and draw the one that ships."""
    weeks, rules = dict[str, Week](), dict[str, Rule]({"cellrouter": Leader(), "bare rule": bare})
    for name, rule in rules.items():
        await asyncio.sleep(0)  # noqa: TID251 - lets an interrupt in
        weeks[name] = week_of(rule, options.seed)
    found = {name: figures_of(week) for name, week in weeks.items()}
    print(table(found))
    if options.picture is not None:
        shipped = weeks["cellrouter"]
        options.picture.write_text(picture(shipped.needed, shipped.ran, found["cellrouter"]), "utf-8")
    return found
