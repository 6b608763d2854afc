"""`cellrouter cells` and `cellrouter watch`: how all cells are, at one glance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Group
from rich.text import Text

from router.cli.options import AsJson
from router.cli.registry import ask, configured, opened
from router.cli.registry import run as run_work
from router.cli.texts import Column, Screen, fitted
from router.core.errors import RegistryUnavailableError
from router.core.fleet.explained import by_hand
from router.core.fleet.states import state_of
from router.core.models import CellRecord, CellState, Depth, Reason, Rung
from router.core.registry import CONDITION_FRESH_MS, Condition, Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from router.core.detection.samples import RouterSample
    from router.ports import OperatorReader

COLUMNS: Final = (  # with the order in which those that there is no room for are left out: the lowest first
    Column("cell", 9),
    Column("state", 8),
    Column("verdict", 7),
    Column("events/s", 5, right=True),
    Column("oldest", 4, right=True),
    Column("canary", 3, right=True),
    Column("slots", 1, right=True),
    Column("gen", 2, right=True),
    Column("instance", 0),
    Column("held", 6, right=True),
    Column("what is done", 6, wraps=True),
)
FRAME: Final = 7  # lines of a table without its rows, and of what is said below it
_STYLES: Final = {"serving": "green", "down": "bold red", "starting": "yellow", "ejected": "bold yellow"}
Every = Annotated[
    float, typer.Option("--every", min=0.2, max=3600, metavar="SECONDS", help="Seconds between two looks.")
]


@dataclass(frozen=True, slots=True)
class CellStatus:
    """How one cell is: an entry of `cells --json`."""

    cell: str
    state: str
    verdict: str  # the leader's, of the admitted instance; empty while there is none, or none of now
    why: Reason | None  # of a verdict that is not healthy
    done: str  # what is done about it by automation or by people, in words; empty for nothing
    events_per_s: float  # answered, as all routers have seen it in the last second
    oldest_s: float  # age of the oldest event in flight
    canary_s: float | None
    slots: int
    generation: int
    address: str  # of the instance; empty while none serves
    held: int | None = None  # events in its hold queue, roughly; None: SQS was not asked, or did not say

    @property
    def is_well(self) -> bool:
        """Tell whether the cell serves, and nothing is wrong with it or done about it."""
        return self.state == CellState.SERVING and self.verdict in ("", "healthy") and not self.done


def statuses(
    snapshot: Snapshot, conditions: Mapping[str, Condition], samples: Mapping[str, RouterSample]
) -> list[CellStatus]:
    """Say how each cell is, ordered by cell; those that are no cells any more are left out."""
    slots = snapshot.slot_map.counts() if snapshot.slot_map else {}
    return [
        _status(record, snapshot, slots.get(cell_id, 0), conditions.get(cell_id), samples)
        for cell_id, record in sorted(snapshot.cells.items())
        if not record.retired
    ]


def headline(found: Sequence[CellStatus], snapshot: Snapshot) -> str:
    """Say in one line whether all is well, and if not, what to look at first."""
    leader = f"led by {snapshot.leader}" if snapshot.leader else "NO CONTROLLER LEADS: nothing is done about any cell"
    routers = sum(router.live for router in snapshot.routers)
    unwell = [status.cell for status in found if not status.is_well]
    first = f"look at {unwell[0]}: cellrouter explain {unwell[0]}" if unwell else ""
    well = f"{len(found) - len(unwell)} of {len(found)} cells are well" if found else "there are no cells yet"
    return "; ".join(filter(None, (well, f"{routers} router{'s' * (routers != 1)}", leader, first)))


def cells(
    *,
    held: Annotated[bool, typer.Option("--held", help="Ask SQS too how many events wait in each hold queue.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how all cells are: state, verdict, load, instance, slots, and what is done about them."""
    snapshot, found = ask(_read)
    if held:
        found = run_work(_with_held(found))
    if as_json:
        typer.echo(json.dumps([asdict(status) for status in found]))
    else:
        screen = Screen()
        if found:
            screen.print(table(found, screen.width))
        screen.print(headline(found, snapshot))


def watch(*, every: Every = 1) -> None:
    """Show what `cells` shows, live, until Ctrl-C; in a file or a pipe a line each time that something changes."""
    try:
        run_work(_watched(every))
    except KeyboardInterrupt:
        return


def table(found: Sequence[CellStatus], width: int) -> RenderableType:
    """Lay the cells out in as many columns as there is room for."""
    asked = any(status.held is not None for status in found)
    shown = [at for at, column in enumerate(COLUMNS) if asked or column.title != "held"]
    rows = [_row(status) for status in found]
    return fitted([COLUMNS[at] for at in shown], [[row[at] for at in shown] for row in rows], width)


def first_of(found: Sequence[CellStatus], room: int) -> list[CellStatus]:
    """Return as many cells as there is room for; where that is not all, those that are not well come first."""
    return list(found) if len(found) <= room else sorted(found, key=lambda status: status.is_well)[: max(1, room)]


async def _with_held(found: Sequence[CellStatus]) -> list[CellStatus]:
    """Add how many events each cell's hold queue holds, as far as SQS says."""
    import asyncio  # noqa: PLC0415 - --help stays quick

    from router.bootstrap.queues import names_of, queues_of  # noqa: PLC0415 - as above

    settings = configured()
    async with AsyncExitStack() as stack:
        _, opened = await queues_of(stack, settings)
        queues = [opened(names_of(settings).hold_queue(status.cell)) for status in found]
        counts = await asyncio.gather(*(queue.depth() for queue in queues), return_exceptions=True)
    return [replace(status, held=held_of(count)) for status, count in zip(found, counts, strict=True)]


def held_of(said: Depth | BaseException) -> int | None:
    """Return how many messages a queue has by SQS' word; None where it did not say."""
    return said.messages if isinstance(said, Depth) else None


async def _watched(every: float) -> None:
    import asyncio  # noqa: PLC0415 - --help stays quick

    from rich.live import Live  # noqa: PLC0415 - as above

    screen, said = Screen(), ""
    async with opened() as found:
        with Live(console=screen, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            while True:
                said = await _look(found.registry, screen, live, said)
                await asyncio.sleep(every)  # noqa: TID251 - a person watches


async def _look(registry: OperatorReader, screen: Screen, live: Live, said: str) -> str:
    """Show how it is now; return the line that says so, which is printed only when it differs from `said`."""
    shown: RenderableType = ""
    try:
        snapshot, found = await _read(registry)
        room = screen.height - FRAME if screen.is_terminal else len(found)
        line, seen = headline(found, snapshot), first_of(found, room)
        line += f"; {len(found) - len(seen)} cells more than there is room for" * (len(seen) < len(found))
        shown = table(seen, screen.width)
    except RegistryUnavailableError as error:
        line = f"What is above is old: {error}"
    if screen.is_terminal:
        live.update(Group(shown, Text(line)) if shown else Text(line), refresh=True)
    elif line != said:
        screen.print(line)
    return line


async def _read(registry: OperatorReader) -> tuple[Snapshot, list[CellStatus]]:
    snapshot = await registry.snapshot()
    return snapshot, statuses(snapshot, await registry.conditions(), await registry.samples())


def _status(
    record: CellRecord,
    snapshot: Snapshot,
    slots: int,
    condition: Condition | None,
    samples: Mapping[str, RouterSample],
) -> CellStatus:
    lease = snapshot.lease(record.cell_id, record.generation)
    is_new = condition is not None and snapshot.now_ms - condition.at_ms <= CONDITION_FRESH_MS
    now = condition.assessment if condition is not None and is_new else None
    if condition is not None and condition.generation != record.generation:
        now = None
    seen = [cell for sample in samples.values() if (cell := sample.cells.get(record.cell_id)) is not None]
    return CellStatus(
        cell=record.cell_id,
        state=str(state_of(record, lease, snapshot.policy)),
        verdict=str(now.verdict) if now is not None else "",
        why=now.rule if now is not None else None,
        done=_done(record, snapshot),
        events_per_s=float(sum(cell.events for cell in seen)),
        oldest_s=max((cell.oldest_s for cell in seen), default=0.0),
        canary_s=now.canary_s if now is not None else None,
        slots=slots,
        generation=record.generation,
        address=lease.address if lease is not None and lease.live else "",
    )


def _done(record: CellRecord, snapshot: Snapshot) -> str:
    said = [by_hand(snapshot, record.cell_id)]
    policy, treatment = snapshot.policy, record.treatment
    if record.cell_id in policy.cordoned:
        said.append("draining" if record.cell_id in policy.draining else "cordoned")
    if treatment.rung is not Rung.WELL:
        said.append(f"{treatment.rung}: {treatment.why}")
    if record.launch_failures:
        said.append(f"{record.launch_failures} launches failed: {record.why_launch_failed}")
    elif record.launching:
        said.append(f"launching generation {record.launching}")
    return "; ".join(filter(None, said))


def _row(status: CellStatus) -> list[str | Text]:
    return [
        status.cell,
        Text(status.state, style=_STYLES.get(status.state, "")),
        Text(status.verdict or "-", style="" if status.verdict in ("", "healthy") else "bold yellow"),
        f"{status.events_per_s:.0f}",
        f"{status.oldest_s:.1f} s" if status.oldest_s else "-",
        f"{status.canary_s * 1000:.1f} ms" if status.canary_s is not None else "-",
        str(status.slots),
        str(status.generation or "-"),
        status.address or "-",
        "-" if status.held is None else str(status.held),
        status.done or "-",
    ]
