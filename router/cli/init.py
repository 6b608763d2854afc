"""`cellrouter init`: tells and does what events need in AWS to arrive."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.bootstrap.queues import open_intake
from router.cli.options import AsJson
from router.cli.processes import ready
from router.cli.registry import run

if TYPE_CHECKING:
    from router.core.intake.plan import IntakePlan
    from router.settings import Settings

REFUSED: Final = 1
WOULD_CHANGE: Final = 3  # 2 is a wrong command or configuration


def init(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be made or changed; exits 3 if anything would be.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make what events arrive on, where it is missing: queues, bucket, notification.

    Of what is there, it changes one statement in the source queue's policy and one rule of the bucket's notifications;
    all that others have put there stays. Exits 1 when something is refused, which is said.
    """
    raise typer.Exit(run(run_init(ready(), dry_run=dry_run, as_json=as_json)))


async def run_init(settings: Settings, *, dry_run: bool, as_json: bool = False) -> int:
    """Tell what has to be made or changed, and do it unless it is a dry run; returns the exit code."""
    async with open_intake(settings) as intake:
        plan = await intake.plan()
        for line in [json.dumps({"dry_run": dry_run, **asdict(plan)})] if as_json else _lines(plan, dry_run=dry_run):
            typer.echo(line)
        if not dry_run:
            await intake.carry_out(plan)
    for why in () if as_json else plan.refusals:
        typer.echo(f"refused: {why}", err=True)
    if plan.refusals:
        return REFUSED
    return WOULD_CHANGE if plan.steps and dry_run else 0


def _lines(plan: IntakePlan, *, dry_run: bool) -> list[str]:
    """List what a person should know before it is done."""
    head = "Nothing is changed; without --dry-run this would be done:" if dry_run else "This is done:"
    lines = [line for step in plan.steps for line in step.lines()]
    lines = [head, *lines] if lines else ["There is nothing to make or to change"]
    return lines + [f"note: {note}" for note in plan.notes]
