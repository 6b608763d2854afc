"""The changes of the policy that `cellrouter plan` shows and `cellrouter apply` makes: the same commands for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Final

import typer

from router.cli.options import AsJson, CellId, Key, OptionalKey, Why
from router.core.edits.kinds import (
    BY_HAND,
    CordonEdit,
    DrainEdit,
    Edit,
    FairnessEdit,
    FifoHeadEdit,
    LimitEdit,
    NoScalingEdit,
    PinEdit,
    QuarantineEdit,
    ReleaseEdit,
    ScalingEdit,
    UncordonEdit,
    UnlimitEdit,
    UnpinEdit,
    WeightEdit,
)
from router.core.fairness.turns import MAX_TURN, Priority
from router.core.policy import MAX_BURST, MAX_CELLS, MAX_CONCURRENCY, MAX_WEIGHT, MIN_WEIGHT, FifoHead
from router.core.scaling.wanted import MAX_AFTER_S, MAX_CELL_RATE, MAX_TARGET, MIN_AFTER_S, MIN_TARGET

EditAndWhy = tuple[Edit, str]
"""An edit, and the person's own words about it."""


def limit(
    key: OptionalKey = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="For every key without a limit of its own.")] = False,
    rate: Annotated[float, typer.Option(min=0, help="Events a second in the long run, per router; 0: no limit.")] = 0,
    burst: Annotated[int, typer.Option(min=1, max=MAX_BURST, help="Events at once after a pause.")] = 1,
    concurrency: Annotated[
        int, typer.Option(min=0, max=MAX_CONCURRENCY, help="Events in flight at once, per router; 0: no limit.")
    ] = 0,
    why: Why = "",
) -> EditAndWhy:
    """Limit a key, or all keys by default. What is over the limit waits in the hold queue."""
    _one_of(key, default=default)
    return _checked(LimitEdit(key, rate, burst, concurrency), "--rate"), why


def unlimit(
    key: OptionalKey = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="The limit of keys without one of their own.")] = False,
    why: Why = "",
) -> EditAndWhy:
    """Take a key's own limit away, or the default one."""
    _one_of(key, default=default)
    return UnlimitEdit(key), why


def fairness(
    key: Key,
    *,
    weight: Annotated[int, typer.Option(min=1, max=MAX_TURN, help="Events in one turn; other keys have 1.")] = 1,
    priority: Annotated[Priority, typer.Option(help="Which keys' events leave first; none starves.")] = Priority.NORMAL,
    why: Why = "",
) -> EditAndWhy:
    """Give a key more or earlier turns in its cell's lane than other keys get; without options: the same."""
    return FairnessEdit(key, weight, priority), why


def quarantine(
    key: Key,
    *,
    seconds: Annotated[float, typer.Option("--for", min=0, help="Seconds; 0: until released by hand.")] = 0,
    why: Why = BY_HAND,
) -> EditAndWhy:
    """Keep a key's events from its cell: they wait in the quarantine queue."""
    return _checked(QuarantineEdit(key, seconds), "--for"), why


def release(key: Key, *, why: Why = BY_HAND) -> EditAndWhy:
    """Let a key's events go to its cell again, those that waited too."""
    return ReleaseEdit(key), why


def fifo_head(
    choice: Annotated[FifoHead, typer.Argument(help="stop: its group waits for a person; skip: it is dead-lettered.")],
    *,
    why: Why = "",
) -> EditAndWhy:
    """Choose what becomes of the first event of a FIFO group once it has killed too many instances."""
    return FifoHeadEdit(choice), why


def pin(key: Key, cell_id: CellId, *, why: Why = "") -> EditAndWhy:
    """Put a key in a cell of your choice, whatever its slot says."""
    return PinEdit(key, cell_id), why


def unpin(key: Key, *, why: Why = "") -> EditAndWhy:
    """Take a key's pin away: its slot says again where it goes."""
    return UnpinEdit(key), why


def weight(
    cell_id: CellId,
    share: Annotated[float, typer.Argument(metavar="WEIGHT", help=f"{MIN_WEIGHT:g} to {MAX_WEIGHT:g}.")],
    *,
    why: Why = "",
) -> EditAndWhy:
    """Give a cell another share of the slots than the others, which have 1 each."""
    return _checked(WeightEdit(cell_id, share), "WEIGHT"), why


def cordon(cell_id: CellId, *, why: Why = "") -> EditAndWhy:
    """Give a cell no more slots; it keeps what it has."""
    return CordonEdit(cell_id), why


def drain(cell_id: CellId, *, why: Why = "") -> EditAndWhy:
    """Move all that a cell has to the others; it goes on running, with nothing."""
    return DrainEdit(cell_id), why


def uncordon(cell_id: CellId, *, why: Why = "") -> EditAndWhy:
    """Let a cell that was cordoned or drained have its share again."""
    return UncordonEdit(cell_id), why


def scaling(
    *,
    least: Annotated[int, typer.Option("--min", min=1, max=MAX_CELLS, help="Never fewer cells than this.")],
    most: Annotated[int, typer.Option("--max", min=1, max=MAX_CELLS, help="Never more cells than this.")],
    target: Annotated[
        float,
        typer.Option(min=MIN_TARGET, max=MAX_TARGET, help="The share of the cells in use above which a cell is added."),
    ] = 0.6,
    cell_rate: Annotated[
        float,
        typer.Option(min=0, max=MAX_CELL_RATE, help="Events/s that a cell bears, by `stress`; more waits; 0: any."),
    ] = 0,
    out_after: Annotated[
        float, typer.Option(min=MIN_AFTER_S, max=MAX_AFTER_S, help="Seconds above it before a cell is added.")
    ] = 180,
    in_after: Annotated[
        float, typer.Option(min=MIN_AFTER_S, max=MAX_AFTER_S, help="Seconds below it before a cell is taken away.")
    ] = 900,
    why: Why = "",
) -> EditAndWhy:
    """Let the number of cells follow the load, between two bounds: one more or one fewer at a time."""
    return _checked(ScalingEdit(least, most, target, cell_rate, out_after, in_after), "--min, --max, --in-after"), why


def no_scaling(*, why: Why = "") -> EditAndWhy:
    """Let the number of cells follow no load: it stays as it is until a person changes it."""
    return NoScalingEdit(), why


AS_JSON: Final = Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
EDITS: Final = (
    *(pin, unpin, weight, cordon, drain, uncordon, limit, unlimit, fairness, quarantine, release, fifo_head),
    *(scaling, no_scaling),
)


def commands(do: Callable[..., object], about: str, *, as_json: bool = False) -> typer.Typer:
    """Make a group of commands, one for each edit, that each call `do` with the edit and why, and with `as_json`."""
    app = typer.Typer(help=about, no_args_is_help=True)
    for make in EDITS:
        app.command(make.__name__.replace("_", "-"))(_command(make, do, [AS_JSON] * as_json))
    return app


def _command(
    make: Callable[..., EditAndWhy], do: Callable[..., object], more: Sequence[Parameter]
) -> Callable[..., None]:
    @wraps(make)
    def run(*args: Any, **options: Any) -> None:
        own = {each.name: options.pop(each.name) for each in more}
        do(*make(*args, **options), **own)

    parameters = [*signature(make, eval_str=True).parameters.values(), *more]
    vars(run)["__signature__"] = Signature(parameters)  # what typer reads
    return run


def _one_of(key: str | None, *, default: bool) -> None:
    if (key is None) != default:
        raise typer.BadParameter("give a key or --default, one of them")


def _checked(edit: Edit, hint: str) -> Edit:
    if (bad := edit.why_bad()) is not None:
        raise typer.BadParameter(bad, param_hint=hint)
    return edit
