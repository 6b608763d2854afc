"""`cellrouter deploy cells|platform`: brings a new image to the cells in waves, or to routers and controllers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from router.cli.options import Why
from router.cli.registry import configured, followed, look, mistakes, operate, run
from router.cli.texts import Screen
from router.core.edits.orders import DeployEdit, StopDeployEdit
from router.core.fleet.routes import wanted_cells
from router.core.models import Reason, age_ms
from router.core.release import (
    MAX_AT_ONCE,
    Phase,
    Release,
    progress,
    why_bad_release,
    why_not_now,
)

if TYPE_CHECKING:
    from router.core.registry import Snapshot
    from router.settings import Settings

app = typer.Typer(help="Bring a new image to the cells, or to routers and controllers.", no_args_is_help=True)

TOLD_MS: Final = 10_000
"""While a wave bakes, what is printed changes so often."""

Stack = Annotated[
    str | None, typer.Option(help="The platform's CloudFormation stack; left out: PREFIX-ENVIRONMENT-platform.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; else only the plan is shown.")]


@app.command()
def cells(
    *,
    image: Annotated[str, typer.Option(help="By digest, as REPO@sha256:…; a tag may come to mean another image.")] = "",
    waves: Annotated[
        str, typer.Option(help="Cells that have it after each wave: numbers, or per cent by weight.")
    ] = "1,25%,100%",
    bake: Annotated[float, typer.Option(help="Seconds for which each wave is judged.")] = 120,
    at_once: Annotated[int, typer.Option(min=1, max=MAX_AT_ONCE, help="Cells changed at the same time.")] = 3,
    slower: Annotated[
        float, typer.Option(help="Canaries that take this many times as long as the others' are bad.")
    ] = 1.5,
    errors: Annotated[float, typer.Option(help="A share of failed events this much above the others' is bad.")] = 0.02,
    stop: Annotated[bool, typer.Option("--stop", help="Take back the release that runs: all cells as before.")] = False,
    yes: Yes = False,
    wait: Annotated[
        bool, typer.Option(help="Follow it to its end. Ctrl-C ends the following, not the release.")
    ] = True,
    why: Why = "",
) -> None:
    """Release a worker image in waves of cells; the leader does it, and takes a bad one back by itself.

    Exits 0 when all cells have it, 1 when it was rolled back. Without --yes only the plan is shown.
    """
    snapshot = look()
    if stop:
        number = _stopped(snapshot, why)
    else:
        edit = DeployEdit(image, waves, bake, at_once, slower, errors)
        with mistakes("--waves"):
            wanted = edit.release()
        _show(snapshot, wanted)
        if not yes:
            typer.echo("Nothing is changed yet: --yes begins the release")
            return
        number = operate(lambda operator: operator.change(edit, why)).version
    if wait:
        _follow(number, stop=stop)


def plan_of(snapshot: Snapshot, release: Release) -> list[tuple[str, list[str]]]:
    """List each wave, and the cells that it would change if nothing changed meanwhile."""
    from router.core.control.observed import Observed  # noqa: PLC0415 - --help stays quick
    from router.core.control.releases import members  # noqa: PLC0415 - as above

    records = [snapshot.cells[cell_id] for cell_id in wanted_cells(snapshot) if cell_id in snapshot.cells]
    seen = Observed(
        snapshot.now_ms,
        snapshot.cells,
        snapshot.leases,
        (),
        snapshot.slot_map,
        leases_trusted=True,
        policy=snapshot.policy,
    )
    known: set[str] = set()
    found = []
    for wave in release.waves:
        new = [r.cell_id for r in members(release, wave, seen, records) if r.cell_id not in known]
        known.update(new)
        found.append((str(wave), new))
    return found


def _show(snapshot: Snapshot, wanted: Release) -> None:
    current = snapshot.policy
    against = [*why_bad_release(wanted)]  # what only the controllers know, the leader says
    against += why_not_now(wanted, current.release, current.image, takes_images=True, warm_up_s=0.0)
    if against:
        typer.echo("\n".join(("It would be refused:", *against)), err=True)
        raise typer.Exit(1)
    screen = Screen()
    screen.print(f"{wanted.image}, now {current.image or 'the image that the controllers launch by themselves'}")
    table = Table("wave", "cells changed", "which", "then judged for")
    for text, new in plan_of(snapshot, wanted):
        table.add_row(text, str(len(new)), ", ".join(new) or "none", f"{wanted.bake_s:g} s" if new else "")
    screen.print(table)
    for line in notes(snapshot, wanted):
        screen.print(line)


def notes(snapshot: Snapshot, wanted: Release) -> Iterator[Reason]:
    """Say what has to be known of a release before it begins, a sentence each."""
    from router.core.control.release_evidence import LAUNCHES, MAX_EVENTS_RATIO  # noqa: PLC0415 - --help stays quick

    if "@sha256:" not in wanted.image and not wanted.image.startswith("sha256:"):
        yield f"{wanted.image} is no digest: whoever moves the tag changes what cells get that are replaced later."
    left_out = sorted(snapshot.policy.frozen | snapshot.policy.ejected)
    if left_out:
        yield f"{', '.join(left_out)}: in a person's hand, so left out; each gets it with its next instance."
    yield (
        f"A wave is bad when a cell of it is sick, its instance ends or {LAUNCHES} launches fail, its canary takes "
        f"more than {wanted.slower:g} times as long as in the others, its events {MAX_EVENTS_RATIO:g} times, or "
        f"{wanted.errors:.1%} more of its events fail. "
        f"Then every cell gets the image before again."
    )


def _stopped(snapshot: Snapshot, why: str) -> int:
    release = snapshot.policy.release
    if release is None or not release.runs:
        typer.echo("No release runs", err=True)
        raise typer.Exit(1)
    text = f"release of {release.image} at wave {release.wave + 1} of {len(release.waves)}"
    operate(lambda operator: operator.change(StopDeployEdit(), why))
    typer.echo(f"Taken back: {text}. Its cells get {release.before or 'the image before'} again")
    return release.number


def _follow(number: int, *, stop: bool) -> None:
    """Print how the release goes on until it has ended; exit with 1 when it was not done as it was wanted."""
    ended: list[Release] = []

    def seen(snapshot: Snapshot) -> tuple[str, int]:
        release = snapshot.policy.release
        if release is None or release.number != number:
            return "", 0
        ended[:] = [release]
        age = age_ms(release.since_ms, snapshot.now_ms)
        return progress(release, release.since_ms + age // TOLD_MS * TOLD_MS), int(not release.runs)

    try:
        followed(seen)
    except KeyboardInterrupt:
        typer.echo("It goes on without you; cellrouter explain CELL and GET /cells tell how far it is")
        return
    if ended[-1].phase is not (Phase.ROLLED_BACK if stop else Phase.DONE):
        raise typer.Exit(1)


@app.command()
def platform(
    *,
    image: Annotated[str, typer.Option(help="Of routers and controllers, by digest: REPO@sha256:….")],
    stack: Stack = None,
    yes: Yes = False,
) -> None:
    """Give routers and controllers another image, on ECS: both services roll, and no event is interrupted.

    Shows what CloudFormation would change; --yes does it and follows until it is done.
    """
    settings = configured()
    if stack is None and (how := _by_other_means(settings.cells.provisioner, image)):
        typer.echo(how, err=True)
        raise typer.Exit(1)
    run(_platform(settings, image, stack, yes=yes))


async def _platform(settings: Settings, image: str, stack: str | None, *, yes: bool) -> None:
    from router.bootstrap.rollout import open_platform, platform_stack  # noqa: PLC0415 - --help stays quick

    async with open_platform(settings, stack or platform_stack(settings)) as opened:
        plan = await opened.plan(image)
        if not plan.changes:
            await opened.discard(plan)
            typer.echo(f"Nothing to change: stack {opened.name} has {plan.before}")
            return
        typer.echo(f"stack {opened.name}: {plan.before} → {image}")
        table = Table("resource", "type", "what", "made anew")
        for change in plan.changes:
            table.add_row(change.name, change.kind, change.action, "yes" if change.replaces else "")
        Screen().print(table)
        why = plan.why_unsafe()
        if why is not None:
            typer.echo(f"It is not done: {why}. Update the stack by hand, in a quiet hour", err=True)
        if why is not None or not yes:
            await opened.discard(plan)
            if why is not None:
                raise typer.Exit(1)
            typer.echo("Nothing is changed yet: --yes does it")
            return
        await opened.execute(plan)
        await opened.follow(typer.echo)
    typer.echo(f"Routers and controllers run {image}")


def _by_other_means(provisioner: str, image: str) -> str | None:
    """Say how routers and controllers get another image where no stack of ours runs them; None on ECS."""
    match provisioner:
        case "docker" | "external":
            return (
                f"Something else than a stack runs routers and controllers here. With compose: name {image} as their "
                f"image, then one after the other, each once the one before is healthy: docker compose up --detach "
                f"--no-deps router-0, router-1, controller-0, controller-1. On ECS: name the stack with --stack"
            )
        case "subprocess":
            return (
                "Routers and controllers are processes here and have no image: install the other version, and start "
                "them again one after the other, beginning with a second one of each"
            )
        case _:
            return None
