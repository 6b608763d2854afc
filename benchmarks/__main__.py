"""Measures what cellrouter costs and how well it isolates. Compare ratios of one run: times depend on the machine."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import (
    detector_scale,
    detector_suite,
    drain,
    flames,
    hostile,
    http_calls,
    isolation,
    map_suite,
    parts,
    promises,
    scaling,
    soak,
    store,
    tenant,
)
from benchmarks.cost import suite as cost
from benchmarks.figures import write
from benchmarks.processes import BenchError, kill_all
from benchmarks.world import Options

SUITES: Final[dict[str, tuple[str, Callable[[Options], Awaitable[dict[str, Any]]]]]] = {
    "cost": ("what an event costs: router, peers, lower bounds, workers; all ratios and goals", cost.run),
    "flames": ("flame graphs of a router and of a worker under full load, by py-spy", flames.run),
    "parts": ("CPU an event of what is inside the router; queues and cells in memory", parts.run),
    "http": ("CPU of the HTTP calls: a router's by each client, and a worker's side; no servers", http_calls.run),
    "map": ("look-up, build, evenness and moved keys of the slot map, two hash rings and Maglev", map_suite.run),
    "detector": (
        "simulated cells: who evicts healthy ones, who finds the slow ones, after how long",
        detector_suite.run,
    ),
    "isolation": ("one cell gets slow, then dies: throughput and p99 of the others", isolation.run),
    "tenant": ("one tenant sends ten times as much: goodput and p99 of the others", tenant.run),
    "hostile": ("one tenant's ten worst log objects on a real worker: the neighbour's latency", hostile.run),
    "store": ("a cell's store: events a second and CPU an event on SQLite and on DynamoDB", store.run),
    "drain": ("SIGTERM under full load: seconds, and what becomes of every message", drain.run),
    "scaling": ("a week of load in virtual time: cells needed, cells that ran, and flaps", scaling.run),
    "soak": ("faults of every kind, one after the other: what is lost, and p99 of the others", soak.run),
    "promises": ("instances crash, hang, get slow, fail: seconds to safe and to served again", promises.run),
}
MANY_RUNS: Final = {"detector": 200}  # suites whose default isn't 3 runs


def options_of(arguments: list[str]) -> tuple[str, Path | None, Options]:
    """Parse the command line: the suite's name, the file for the figures if any, and the suite's options."""
    described = "\n".join(f"  {name:10} {text}" for name, (text, _) in SUITES.items())
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=f"{__doc__}\n\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", nargs="?", choices=list(SUITES), default="cost", help="default: cost")
    parser.add_argument("--events", type=int, default=20_000, help="events in a run (%(default)s)")
    parser.add_argument("--runs", type=int, help="figures are medians of so many (3); detector: of each scenario (200)")
    parser.add_argument("--cells", type=int, default=4, help="stub cells (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=16, help="events at once that a cell declares (%(default)s)")
    parser.add_argument("--tenants", type=int, default=40, help="tenants, spread evenly over the cells (%(default)s)")
    parser.add_argument("--service-ms", type=float, default=0, help="an event's time in a cell (0: suite's choice)")
    parser.add_argument("--sqs-ms", type=float, default=-1, help="time of SQS to answer (-1: the suite's choice)")
    parser.add_argument("--seconds", type=float, default=10, help="length of a measured interval (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="detector, scaling: seed of the random numbers (%(default)s)"
    )
    parser.add_argument("--only", action="append", default=[], help="some suites: what has this in its name, no more")
    parser.add_argument("--roc", action="store_true", help="detector: the main rule with other limits, found and wrong")
    parser.add_argument("--scale", action="store_true", help="detector: its costs for 4 to 1000 cells instead")
    parser.add_argument("--picture", type=Path, help="scaling: the week as SVG into this file; flames: this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    told = vars(parser.parse_args(arguments))
    suite = told.pop("suite")
    if told["scale"] and suite != "detector":
        parser.error("--scale is the detector's")
    told["runs"] = told["runs"] or MANY_RUNS.get(suite, 3)
    return suite, told.pop("json"), Options(**told)


async def bench(suite: str, options: Options) -> dict[str, Any]:
    """Run one suite and return its figures. SIGTERM ends it, and every process it has started, as Ctrl-C does."""
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    return await (detector_scale.run if options.scale else SUITES[suite][1])(options)


def main() -> None:
    """Run the suite that the command line names, print its figures, and write them to a file if one is given."""
    suite, file, options = options_of(sys.argv[1:])
    try:
        figures = asyncio.run(bench(suite, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("script/bench: interrupted")
    except BenchError as error:
        sys.exit(f"script/bench: {error}")
    finally:
        kill_all()
    if file:
        write(file, suite, figures)


if __name__ == "__main__":
    main()
