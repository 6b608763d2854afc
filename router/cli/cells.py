"""`cellrouter freeze|unfreeze|eject|readmit|evict|replace CELL`: people's orders about one cell's instances.

Each order is a change of the policy, as `cellrouter apply` makes them, that depends on how the cell is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import CellId, RequiredWhy
from router.cli.policy import put_in_force
from router.cli.registry import follow, look, record_of, run
from router.core.edits.orders import EjectEdit, EvictEdit, FreezeEdit, ReadmitEdit, ReplaceEdit, UnfreezeEdit

if TYPE_CHECKING:
    from router.core.models import CellRecord
    from router.core.registry import Snapshot

Wait = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="The longest to follow it, in seconds; 0: only give the order.")
]


def freeze(cell_id: CellId, *, why: RequiredWhy) -> None:
    """Leave a cell's instance as it is: no recovery, eviction, replacement or new launch, even when it dies.

    Orders by `evict` and `replace` are carried out nevertheless.
    """
    snapshot = look()
    record = record_of(cell_id, snapshot)
    if put_in_force(FreezeEdit(cell_id), why):
        typer.echo(f"Nothing but a person's order touches its instances until cellrouter unfreeze {cell_id}")
        _warn_if_unserved(record, snapshot)


def unfreeze(cell_id: CellId, *, why: RequiredWhy) -> None:
    """Give a frozen cell back to automation."""
    put_in_force(UnfreezeEdit(cell_id), why)


def eject(cell_id: CellId, *, why: RequiredWhy) -> None:
    """Send a cell no events until it is readmitted: they wait in its hold queue, or with FIFO in the source."""
    if put_in_force(EjectEdit(cell_id), why):
        typer.echo(f"Its events wait until cellrouter readmit {cell_id}")


def readmit(cell_id: CellId, *, why: RequiredWhy) -> None:
    """Send an ejected cell its events again, slowly at first; those that waited too.

    When automation had ejected it, it is frozen too: else it would be ejected again at once.
    """
    snapshot = look()
    record = record_of(cell_id, snapshot)
    if put_in_force(ReadmitEdit(cell_id), why) and snapshot.policy.ejected_by_ladder(record):
        typer.echo(
            f"Automation had ejected it ({record.treatment.verdict}: {record.treatment.why}). It is frozen, so that it "
            f"isn't ejected again; cellrouter unfreeze {cell_id} gives it back to automation"
        )
        _warn_if_unserved(record, snapshot)


def evict(cell_id: CellId, *, why: RequiredWhy, wait: Wait = 120) -> None:
    """End a cell's instance now and launch another; its events wait meanwhile. Follow it until that one serves.

    Ctrl-C ends the following, not the eviction.
    """
    _order(cell_id, why, wait, evict=True)


def replace(cell_id: CellId, *, why: RequiredWhy, wait: Wait = 120) -> None:
    """Launch another instance beside a cell's own, which serves until that one is verified. Follow it until then.

    Ctrl-C ends the following, not the replacement.
    """
    _order(cell_id, why, wait, evict=False)


def serves(cell_id: str, generation: int, snapshot: Snapshot) -> bool:
    """Tell whether the cell's instance of this generation has a live lease and is ready."""
    lease = snapshot.lease(cell_id, generation)
    return lease is not None and lease.live and lease.ready


def progress(record: CellRecord, ordered: int, snapshot: Snapshot) -> str:
    """Say how far an order to replace or evict the generation `ordered` is."""
    old = "serves" if serves(record.cell_id, ordered, snapshot) else "is gone, its events wait"
    if record.launching:
        new = "is ready, and tried by a canary" if serves(record.cell_id, record.launching, snapshot) else "is launched"
        return f"generation {ordered} {old}; generation {record.launching} {new}"
    failures = f"; {record.launch_failures} launches in a row have failed" if record.launch_failures else ""
    return f"generation {ordered} {old}{failures}"


def _warn_if_unserved(record: CellRecord, snapshot: Snapshot) -> None:
    if not serves(record.cell_id, record.generation, snapshot):
        text = f"It has no instance that serves, and frozen it gets none but by cellrouter replace {record.cell_id}"
        typer.echo(text, err=True)


def _order(cell_id: str, why: str, wait: float, *, evict: bool) -> None:
    ordered = record_of(cell_id, look()).generation
    put_in_force((EvictEdit if evict else ReplaceEdit)(cell_id), why)
    if not wait:
        return
    try:
        generation = run(_taken_over(cell_id, ordered, wait))
    except KeyboardInterrupt:
        typer.echo(f"It goes on without you; cellrouter explain {cell_id} tells how far it is")
        return
    except TimeoutError:
        typer.echo(
            f"No other instance has taken over within {wait:g} s. The order stands, and cellrouter undo takes it back; "
            f"cellrouter explain {cell_id} shows what was tried",
            err=True,
        )
        raise typer.Exit(1) from None
    typer.echo(f"{cell_id} is served by generation {generation}")


async def _taken_over(cell_id: str, ordered: int, wait: float) -> int:
    """Print progress until a generation later than `ordered` has the traffic, and return that generation.

    Raises TimeoutError after `wait` seconds.
    """

    def seen(snapshot: Snapshot) -> tuple[str, int]:
        record = snapshot.cells.get(cell_id)
        if record is None:  # the registry is being restored
            return "", 0
        return ("", record.generation) if record.generation > ordered else (progress(record, ordered, snapshot), 0)

    import asyncio  # noqa: PLC0415 - --help stays quick

    async with asyncio.timeout(wait):
        return await follow(seen)
