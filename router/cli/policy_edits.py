"""The changes of the policy that `cellrouter plan` shows and `cellrouter apply` makes: the same commands for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import Annotated, Any, Final

import typer

from router.core.policy import MAX_WEIGHT, Policy, Quarantine, TenantLimit

Key = Annotated[str, typer.Argument(help="The partition key.")]
CellId = Annotated[str, typer.Argument(metavar="CELL", help="The cell, as cell-0003.")]
Why = Annotated[str, typer.Option(help="For the audit.")]
OrDefault = Annotated[str | None, typer.Argument(help="The partition key; left out with --default.")]


@dataclass(frozen=True, slots=True)
class Edit:
    """One change."""

    action: str
    text: str  # what it says, for people
    why: str
    make: Callable[[Policy, int], Policy]  # of the policy in force and the time in ms
    unless: str = ""  # said, with exit code 1, when it changes nothing
    cell_id: str = ""  # that the audit names


def limit(
    key: OrDefault = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="For every key without a limit of its own.")] = False,
    rate: Annotated[float, typer.Option(min=0, help="Events a second in the long run, per router; 0: no limit.")] = 0,
    burst: Annotated[int, typer.Option(min=1, help="Events at once after a pause.")] = 1,
    concurrency: Annotated[int, typer.Option(min=0, help="Events in flight at once, per router; 0: no limit.")] = 0,
    why: Why = "",
) -> Edit:
    """Limit a key, or all keys by default. What is over the limit waits in the hold queue."""
    _one_of(key, default=default)
    if not isfinite(rate):
        raise typer.BadParameter("must be a number of events a second", param_hint="--rate")
    if not rate and not concurrency:
        raise typer.BadParameter("give --rate, --concurrency or both; to take a limit away: cellrouter apply unlimit")
    wanted = TenantLimit(rate, burst, concurrency)
    text = f"{key or 'default'}: rate {rate:g}/s, burst {burst}, concurrency {concurrency or 'any'}"
    return Edit("limit", text, why, lambda policy, _: policy.with_limit(key, wanted))


def unlimit(
    key: OrDefault = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="The limit of all other keys.")] = False,
    why: Why = "",
) -> Edit:
    """Take a key's own limit away, or the default one."""
    _one_of(key, default=default)
    text = f"{key or 'default'}: no limit of its own any more"
    return Edit(
        "unlimit", text, why, lambda policy, _: policy.with_limit(key, None), f"{key or 'default'} has no limit"
    )


def quarantine(
    key: Key,
    *,
    seconds: Annotated[float, typer.Option("--for", min=0, help="Seconds; 0: until released by hand.")] = 0,
    why: Why = "by hand",
) -> Edit:
    """Keep a key's events from its cell: they wait in the quarantine queue."""

    def make(policy: Policy, now_ms: int) -> Policy:
        until_ms = now_ms + round(seconds * 1000) if seconds else 0
        return policy.with_quarantine(key, Quarantine(why, now_ms, until_ms), now_ms)

    until = f"for {seconds:g} s" if seconds else "until it is released"
    return Edit("quarantine", f"{key}: in quarantine {until}", why, make)


def release(key: Key, *, why: Why = "by hand") -> Edit:
    """Let a key's events go to its cell again, those that waited too."""

    def make(policy: Policy, now_ms: int) -> Policy:
        found = policy.in_quarantine(key, now_ms)
        return policy.with_quarantine(key, None, now_ms) if found is not None else policy

    unless = f"{key} is not in quarantine; cellrouter policy show lists who is"
    return Edit("release", f"{key}: released; what waited goes on soon", why, make, unless)


def pin(key: Key, cell_id: CellId, *, why: Why = "") -> Edit:
    """Put a key in a cell of your choice, whatever its slot says."""
    return Edit("pin", f"{key}: pinned to {cell_id}", why, lambda policy, _: policy.with_pin(key, cell_id))


def unpin(key: Key, *, why: Why = "") -> Edit:
    """Let a key's slot say again where it belongs."""
    text = f"{key}: where its slot is"
    return Edit("unpin", text, why, lambda policy, _: policy.with_pin(key, None), f"{key} is not pinned")


def weight(
    cell_id: CellId,
    share: Annotated[float, typer.Argument(metavar="WEIGHT", help=f"Above 0, at most {MAX_WEIGHT:g}.")],
    *,
    why: Why = "",
) -> Edit:
    """Give a cell another share of the slots than the others, which have 1 each."""
    if not 0 < share <= MAX_WEIGHT:
        raise typer.BadParameter(f"must be above 0 and at most {MAX_WEIGHT:g}; to empty a cell: cellrouter apply drain")
    text = f"{cell_id}: weight {share:g}"
    return Edit("weight", text, why, lambda policy, _: policy.with_weight(cell_id, share))


def cordon(cell_id: CellId, *, why: Why = "") -> Edit:
    """Give a cell no more slots; it keeps what it has."""
    return Edit("cordon", f"{cell_id}: cordoned", why, lambda policy, _: policy.with_cordon(cell_id))


def drain(cell_id: CellId, *, why: Why = "") -> Edit:
    """Move all that a cell has to the others; it goes on running, with nothing."""
    text = f"{cell_id}: draining"
    return Edit("drain", text, why, lambda policy, _: policy.with_cordon(cell_id, drain=True))


def uncordon(cell_id: CellId, *, why: Why = "") -> Edit:
    """Let a cell that was cordoned or drained have its share again."""
    text, unless = f"{cell_id}: has its share again", f"{cell_id} is not cordoned"
    return Edit("uncordon", text, why, lambda policy, _: policy.without_cordon(cell_id), unless)


EDITS: Final = (pin, unpin, weight, cordon, drain, uncordon, limit, unlimit, quarantine, release)


def commands(do: Callable[[Edit], object], about: str) -> typer.Typer:
    """A command for each edit, which does `do` with it."""
    app = typer.Typer(help=about, no_args_is_help=True)
    for make in EDITS:
        app.command(make.__name__)(_command(make, do))
    return app


def _command(make: Callable[..., Edit], do: Callable[[Edit], object]) -> Callable[..., None]:
    @wraps(make)
    def run(*args: Any, **options: Any) -> None:
        do(make(*args, **options))

    return run


def _one_of(key: str | None, *, default: bool) -> None:
    if (key is None) != default:
        raise typer.BadParameter("give a key or --default, one of them")
