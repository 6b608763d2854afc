"""The changes of the policy that `cellrouter plan` shows and `cellrouter apply` makes: the same commands for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Final

import typer

from router.cli.options import AsJson, CellId, Key, OptionalKey, Why
from router.core.models import Reason
from router.core.policy import (
    MAX_BURST,
    MAX_CONCURRENCY,
    MAX_RATE,
    MAX_WEIGHT,
    MIN_RATE,
    MIN_WEIGHT,
    FifoHead,
    Policy,
    Quarantine,
    TenantLimit,
)

MAX_QUARANTINE_S: Final = 100 * 365 * 86400.0  # a century; who wants a longer one wants one without an end


@dataclass(frozen=True, slots=True)
class PolicyEdit:
    """One change of the policy that a person wants, and what the audit shall say about it."""

    action: str
    text: str  # what the change does, for people
    why: str  # the person's own words; empty where none were given
    make: Callable[[Policy, int], Policy]  # the new policy, from the one in force and the time in ms
    why_unchanged: Reason | None = None  # an error when the edit changes nothing; None: that is no error
    cell_id: str = ""  # the cell that it is about, which there must be; the audit names it


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
) -> PolicyEdit:
    """Limit a key, or all keys by default. What is over the limit waits in the hold queue."""
    _one_of(key, default=default)
    if not (rate == 0 or MIN_RATE <= rate <= MAX_RATE):  # NaN is neither
        raise typer.BadParameter(f"must be 0, or {MIN_RATE:g} to {MAX_RATE:g} events a second", param_hint="--rate")
    if not rate and not concurrency:
        raise typer.BadParameter("give --rate, --concurrency or both; to take a limit away: cellrouter apply unlimit")
    wanted = TenantLimit(rate, burst, concurrency)
    text = f"{key or 'default'}: rate {rate:g}/s, burst {burst}, concurrency {concurrency or 'any'}"
    return PolicyEdit("limit", text, why, lambda policy, _: policy.with_limit(key, wanted))


def unlimit(
    key: OptionalKey = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="The limit of all other keys.")] = False,
    why: Why = "",
) -> PolicyEdit:
    """Take a key's own limit away, or the default one."""
    _one_of(key, default=default)
    text = f"{key or 'default'}: no limit of its own any more"
    return PolicyEdit(
        "unlimit", text, why, lambda policy, _: policy.with_limit(key, None), f"{key or 'default'} has no limit"
    )


def quarantine(
    key: Key,
    *,
    seconds: Annotated[float, typer.Option("--for", min=0, help="Seconds; 0: until released by hand.")] = 0,
    why: Why = "by hand",
) -> PolicyEdit:
    """Keep a key's events from its cell: they wait in the quarantine queue."""
    if not seconds <= MAX_QUARANTINE_S:  # NaN is never so
        raise typer.BadParameter(f"must be at most {MAX_QUARANTINE_S:g}; 0: until released by hand", param_hint="--for")

    def make(policy: Policy, now_ms: int) -> Policy:
        until_ms = now_ms + round(seconds * 1000) if seconds else 0
        return policy.with_quarantine(key, Quarantine(why, now_ms, until_ms), now_ms)

    until = f"for {seconds:g} s" if seconds else "until it is released"
    return PolicyEdit("quarantine", f"{key}: in quarantine {until}", why, make)


def release(key: Key, *, why: Why = "by hand") -> PolicyEdit:
    """Let a key's events go to its cell again, those that waited too."""

    def make(policy: Policy, now_ms: int) -> Policy:
        known = policy.in_quarantine(key, now_ms) or policy.killed_by(key, now_ms)
        return policy.with_quarantine(key, None, now_ms) if known else policy

    why_unchanged = f"{key} is not in quarantine; cellrouter policy show lists who is"
    return PolicyEdit("release", f"{key}: released; what waited goes on soon", why, make, why_unchanged)


def fifo_head(
    choice: Annotated[FifoHead, typer.Argument(help="stop: its group waits for a person; skip: it is dead-lettered.")],
    *,
    why: Why = "",
) -> PolicyEdit:
    """Choose what becomes of the first event of a FIFO group once it has killed too many instances."""
    text = f"the head of a FIFO group that killed too many instances: {choice}"
    return PolicyEdit("fifo-head", text, why, lambda policy, _: replace(policy, fifo_head=choice))


def pin(key: Key, cell_id: CellId, *, why: Why = "") -> PolicyEdit:
    """Put a key in a cell of your choice, whatever its slot says."""
    return PolicyEdit(
        "pin", f"{key}: pinned to {cell_id}", why, lambda policy, _: policy.with_pin(key, cell_id), cell_id=cell_id
    )


def unpin(key: Key, *, why: Why = "") -> PolicyEdit:
    """Let a key's slot say again where it belongs."""
    text = f"{key}: where its slot is"
    return PolicyEdit("unpin", text, why, lambda policy, _: policy.with_pin(key, None), f"{key} is not pinned")


def weight(
    cell_id: CellId,
    share: Annotated[float, typer.Argument(metavar="WEIGHT", help=f"{MIN_WEIGHT:g} to {MAX_WEIGHT:g}.")],
    *,
    why: Why = "",
) -> PolicyEdit:
    """Give a cell another share of the slots than the others, which have 1 each."""
    if not MIN_WEIGHT <= share <= MAX_WEIGHT:  # NaN is never so
        raise typer.BadParameter(f"must be {MIN_WEIGHT:g} to {MAX_WEIGHT:g}; to empty a cell: cellrouter apply drain")
    text = f"{cell_id}: weight {share:g}"
    return PolicyEdit("weight", text, why, lambda policy, _: policy.with_weight(cell_id, share), cell_id=cell_id)


def cordon(cell_id: CellId, *, why: Why = "") -> PolicyEdit:
    """Give a cell no more slots; it keeps what it has."""
    text = f"{cell_id}: cordoned"
    return PolicyEdit("cordon", text, why, lambda policy, _: policy.with_cordon(cell_id), cell_id=cell_id)


def drain(cell_id: CellId, *, why: Why = "") -> PolicyEdit:
    """Move all that a cell has to the others; it goes on running, with nothing."""
    text = f"{cell_id}: draining"
    return PolicyEdit("drain", text, why, lambda policy, _: policy.with_cordon(cell_id, drain=True), cell_id=cell_id)


def uncordon(cell_id: CellId, *, why: Why = "") -> PolicyEdit:
    """Let a cell that was cordoned or drained have its share again."""
    text, why_unchanged = f"{cell_id}: has its share again", f"{cell_id} is not cordoned"
    return PolicyEdit("uncordon", text, why, lambda policy, _: policy.without_cordon(cell_id), why_unchanged)


AS_JSON: Final = Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
EDITS: Final = (pin, unpin, weight, cordon, drain, uncordon, limit, unlimit, quarantine, release, fifo_head)


def commands(do: Callable[..., object], about: str, *, as_json: bool = False) -> typer.Typer:
    """Make a group of commands, one for each edit, that each call `do` with the edit, and with `as_json` if it may."""
    app = typer.Typer(help=about, no_args_is_help=True)
    for make in EDITS:
        app.command(make.__name__.replace("_", "-"))(_command(make, do, [AS_JSON] * as_json))
    return app


def _command(
    make: Callable[..., PolicyEdit], do: Callable[..., object], more: Sequence[Parameter]
) -> Callable[..., None]:
    @wraps(make)
    def run(*args: Any, **options: Any) -> None:
        own = {each.name: options.pop(each.name) for each in more}
        do(make(*args, **options), **own)

    parameters = [*signature(make, eval_str=True).parameters.values(), *more]
    vars(run)["__signature__"] = Signature(parameters)  # what typer reads
    return run


def _one_of(key: str | None, *, default: bool) -> None:
    if (key is None) != default:
        raise typer.BadParameter("give a key or --default, one of them")
