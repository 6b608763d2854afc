"""`cellrouter chaos …`: make a cell's instance fail on purpose, for a while."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cell_worker.contract.protocol import Fault, FaultKind
from router.cli.options import CellId
from router.cli.registry import configured, look, record_of, run
from router.core.errors import CellUnavailableError

if TYPE_CHECKING:
    from router.core.models import LeaseView
    from router.core.registry import Snapshot

MAX_S: Final = 600  # seconds that a fault may last

Seconds = Annotated[
    float, typer.Option("--for", min=0, max=MAX_S, help="Seconds, then it ends by itself; 0: end it now.")
]

app = typer.Typer(
    help="Make a cell's instance fail on purpose, for a while. In the environment live only with cells.chaos = true.",
    no_args_is_help=True,
)


@app.command()
def slow(
    cell_id: CellId,
    *,
    seconds: Seconds = 60,
    ms: Annotated[
        float, typer.Option(min=0, max=MAX_S * 1000, help="Milliseconds added to every event and canary.")
    ] = 0,
    factor: Annotated[float, typer.Option(min=1, max=1000, help="How many times as long the handler takes.")] = 1,
    rate: Annotated[float, typer.Option(min=0, max=1, help="The share of events and canaries that are slow.")] = 1,
) -> None:
    """Let a cell's instance answer, but late."""
    if seconds and not ms and factor == 1:
        raise typer.BadParameter("give --ms, --factor or both")
    text = " and ".join([f"{ms:g} ms more for every event"] * bool(ms) + [f"handlers take x{factor:g}"] * (factor > 1))
    text += f", for {rate:.0%} of them" * (rate < 1)
    _inject(cell_id, Fault(FaultKind.SLOW, seconds, delay_s=ms / 1000, factor=factor, rate=rate), f"slow: {text}")


@app.command()
def hang(cell_id: CellId, *, seconds: Seconds = 60) -> None:
    """Let a cell's instance answer no event and no canary, though its lease and its health checks go on."""
    _inject(cell_id, Fault(FaultKind.HANG, seconds), "hangs: no event and no canary gets an answer")


@app.command()
def errors(
    cell_id: CellId,
    *,
    seconds: Seconds = 60,
    rate: Annotated[float, typer.Option(min=0, max=1, help="The share of events that fail.")] = 1,
) -> None:
    """Let a cell's handler fail. Failures count as attempts: events may end in the dead-letter queue."""
    _inject(cell_id, Fault(FaultKind.ERRORS, seconds, rate=rate), f"{rate:.0%} of its events fail")


@app.command()
def garbage(cell_id: CellId, *, seconds: Seconds = 60) -> None:
    """Let a cell's instance process events and answer what no router understands."""
    _inject(cell_id, Fault(FaultKind.GARBAGE, seconds), "answers garbage")


@app.command()
def component(
    cell_id: CellId,
    name: Annotated[str, typer.Argument(metavar="COMPONENT", help="store, sink, hold, worker, or a handler's own.")],
    *,
    seconds: Seconds = 60,
) -> None:
    """Let a component of a cell's instance fail, until that is restarted."""
    fault = Fault(FaultKind.COMPONENT, seconds, component=name)
    _inject(cell_id, fault, f"its component {name} fails, until that is restarted")


@app.command()
def crash(cell_id: CellId) -> None:
    """Let a cell's instance end at once, by SIGKILL."""
    _inject(cell_id, Fault(FaultKind.CRASH), "killed by SIGKILL")


def _inject(cell_id: str, fault: Fault, text: str) -> None:
    from router.bootstrap.workers import inject_fault  # noqa: PLC0415 - --help stays quick

    lease = _admitted(cell_id, look())
    run(inject_fault(configured(), lease.target(), fault))
    instance = f"{cell_id}, generation {lease.generation} at {lease.address}"
    typer.echo(f"{instance}: {text}{_end(fault)}" if fault.seconds else f"{instance}: {fault.kind.value} is over")


def _end(fault: Fault) -> str:
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick

    if fault.kind is FaultKind.CRASH:
        return ""
    ends_at = datetime.fromtimestamp(SystemClock().time_ms() / 1000 + fault.seconds, UTC)
    return f". It ends this by itself after {fault.seconds:g} s, at {ends_at:%H:%M:%S}Z; --for 0 ends it now"


def _admitted(cell_id: str, snapshot: Snapshot) -> LeaseView:
    """The lease of the instance that has the cell's traffic. Raises CellUnavailableError when it has no live lease."""
    lease = snapshot.lease(cell_id, record_of(cell_id, snapshot).generation)
    if lease is not None and lease.live:
        return lease
    raise CellUnavailableError(f"{cell_id} has no instance that serves now; cellrouter where KEY shows its state")
