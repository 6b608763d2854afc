"""`cellrouter policy …`: what is decided about keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from router.core.policy import Policy, Quarantine, TenantLimit
from router.settings import load

app = typer.Typer(help="Limit or quarantine keys, release them, show who is.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(help="The partition key.")]
Why = Annotated[str, typer.Option(help="For the audit.")]


@app.command()
def show(*, json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show limits and quarantined keys."""
    policy = _apply("", "", lambda policy, _: policy)
    if json:
        from router.core.policy import to_blob  # noqa: PLC0415 - with the branch that needs it

        typer.echo(to_blob(policy).decode())
        return
    console = Console()
    if policy.quarantined:
        console.print(_quarantined(policy))
    else:
        console.print("No key is in quarantine.")
    console.print(_limits(policy))


@app.command()
def limit(
    key: Annotated[str | None, typer.Argument(help="The partition key; left out with --default.")] = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="For every key without a limit of its own.")] = False,
    rate: Annotated[float, typer.Option(min=0, help="Events a second in the long run, per router; 0: no limit.")] = 0,
    burst: Annotated[int, typer.Option(min=1, help="Events at once after a pause.")] = 1,
    concurrency: Annotated[int, typer.Option(min=0, help="Events in flight at once, per router; 0: no limit.")] = 0,
    why: Why = "",
) -> None:
    """Limit a key, or all keys by default. What is over the limit waits in the hold queue."""
    _one_of(key, default=default)
    if not isfinite(rate):
        raise typer.BadParameter("must be a number of events a second", param_hint="--rate")
    if not rate and not concurrency:
        raise typer.BadParameter("give --rate, --concurrency or both; to take a limit away: cellrouter policy unlimit")
    wanted = TenantLimit(rate, burst, concurrency)
    text = f"{key or 'default'}: rate {rate:g}/s, burst {burst}, concurrency {concurrency or 'any'}"
    _apply("limit", f"{text}. {why}".strip(), lambda policy, _: policy.with_limit(key, wanted))
    typer.echo(f"In force within a second: {text}")


@app.command()
def unlimit(
    key: Annotated[str | None, typer.Argument(help="The partition key; left out with --default.")] = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="The limit of all other keys.")] = False,
    why: Why = "",
) -> None:
    """Take a key's own limit away, or the default one."""
    _one_of(key, default=default)
    _apply("unlimit", f"{key or 'default'}. {why}".strip(), lambda policy, _: policy.with_limit(key, None))
    typer.echo(f"{key or 'default'}: no limit of its own any more")


@app.command()
def quarantine(
    key: Key,
    *,
    seconds: Annotated[float, typer.Option("--for", min=0, help="Seconds; 0: until released by hand.")] = 0,
    why: Why = "by hand",
) -> None:
    """Keep a key's events from its cell: they wait in the quarantine queue."""

    def edit(policy: Policy, now_ms: int) -> Policy:
        until_ms = now_ms + round(seconds * 1000) if seconds else 0
        return policy.with_quarantine(key, Quarantine(why, now_ms, until_ms), now_ms)

    _apply("quarantine", f"key {key!r}: {why}", edit)
    typer.echo(f"{key}: in quarantine {f'for {seconds:g} s' if seconds else 'until it is released'}")


@app.command()
def release(key: Key, *, why: Why = "by hand") -> None:
    """Let a key's events go to its cell again, those that waited too."""
    was_in = False

    def edit(policy: Policy, now_ms: int) -> Policy:
        nonlocal was_in
        was_in = policy.in_quarantine(key, now_ms) is not None
        return policy.with_quarantine(key, None, now_ms)

    _apply("release", f"key {key!r}: {why}", edit)
    if not was_in:
        typer.echo(f"{key} is not in quarantine; cellrouter policy show lists who is", err=True)
        raise typer.Exit(1)
    typer.echo(f"{key}: released; what waited goes on soon")


def _one_of(key: str | None, *, default: bool) -> None:
    if (key is None) != default:
        raise typer.BadParameter("give a key or --default, one of them")


def _apply(action: str, why: str, edit: Callable[[Policy, int], Policy]) -> Policy:
    from router.bootstrap import change_policy  # noqa: PLC0415 - --help stays quick

    return uvloop.run(change_policy(load(os.environ), action, why, edit))


def _quarantined(policy: Policy) -> Table:
    table = Table("key", "since", "until", "why", title="In quarantine", title_justify="left")
    for key, found in sorted(policy.quarantined.items()):
        table.add_row(key, _time(found.since_ms), _time(found.until_ms) if found.until_ms else "released", found.why)
    return table


def _limits(policy: Policy) -> Table:
    table = Table("key", "rate/s", "burst", "concurrency", title="Limits, per router", title_justify="left")
    for key, found in [("(default)", policy.default), *sorted(policy.limits.items())]:
        rate = f"{found.rate_per_s:g}" if found.rate_per_s else "any"
        table.add_row(key, rate, str(found.burst) if found.rate_per_s else "", str(found.concurrency or "any"))
    return table


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
