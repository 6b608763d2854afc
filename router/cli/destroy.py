"""`cellrouter destroy`: deletes what `cellrouter init`, the controllers and the stacks have made, once it is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.deploy import Stack, Yes
from router.cli.registry import configured, run
from router.core.errors import ProvisionError
from router.core.leftovers import Leftovers, why_not_destroyed

if TYPE_CHECKING:
    from router.bootstrap.rollout import Environment

LOOKS: Final = 3  # SQS counts messages only approximately, so a queue must be empty as often in a row
PAUSE_S: Final = 2.0


def destroy(
    *,
    yes: Yes = False,
    with_dead_letters: Annotated[bool, typer.Option(help="Give up what lies in the dead-letter queue.")] = False,
    with_outboxes: Annotated[
        bool, typer.Option(help="Give up what may wait in outboxes whose cell can't be asked, or does not deliver it.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether events are left; routers may still run. Exits 1 if so.")
    ] = False,
    stack: Stack = None,
) -> None:
    """Delete the environment in AWS: queues, streams, empty buckets, tables, stacks. Refuses while events wait.

    Stays: whatever has no tag of this environment, buckets with objects, workloads' own tables with items, the cells'
    volumes, Redis, keys that encrypt.
    """
    if check:
        run(checked(dead_letters=with_dead_letters, outboxes=with_outboxes))
    else:
        run(destroyed(yes=yes, dead_letters=with_dead_letters, outboxes=with_outboxes, stack=stack))


async def checked(*, dead_letters: bool, outboxes: bool) -> None:
    """Exit 1, saying what is left, unless no event waits in any queue or outbox, however often one looks."""
    from router.bootstrap.rollout import open_environment, platform_stack  # noqa: PLC0415 - --help stays quick

    settings = configured()
    async with open_environment(settings, platform_stack(settings)) as environment:
        _refuse(await environment.look(), dead_letters=dead_letters, outboxes=outboxes, processes=False)
        await _surely_empty(environment, dead_letters=dead_letters, outboxes=outboxes)
    typer.echo("No event is left")


async def destroyed(*, yes: bool, dead_letters: bool, outboxes: bool, stack: str | None) -> None:
    """Tell what would be deleted, refuse while events wait, and with `yes` delete it."""
    from router.bootstrap.rollout import open_environment, platform_stack  # noqa: PLC0415 - --help stays quick

    settings = configured()
    async with open_environment(settings, stack or platform_stack(settings)) as environment:
        stacks = await environment.stacks.stacks()
        left = await environment.look()
        for line in _plan(left, await environment.teardown.cells(), list(stacks)):
            typer.echo(line)
        # On ECS the services are ended by us; elsewhere whoever has started routers and controllers ends them.
        _refuse(left, dead_letters=dead_letters, outboxes=outboxes, processes=not stacks)
        if not yes:
            typer.echo("Nothing is deleted yet: --yes does it")
            return
        if stacks:
            await environment.stacks.stop_services(typer.echo)
        await _surely_empty(environment, dead_letters=dead_letters, outboxes=outboxes)
        for line in await _removed(environment):
            typer.echo(f"stays: {line}")
    typer.echo("The environment is gone but for what stays")


def _plan(left: Leftovers, cells: list[str], stacks: list[str]) -> list[str]:
    lines = [f"queue {name}: {count or 'no'} messages" for name, count in sorted(left.queues.items())]
    lines += [f"cell {cell_id}: its stream, its hold queue, and its bucket if that is empty" for cell_id in cells]
    lines += [f"stack {name}" for name in stacks]
    return ["Would be deleted:", *lines] if lines else ["There is nothing of this environment in AWS"]


def _refuse(left: Leftovers, *, dead_letters: bool, outboxes: bool, processes: bool) -> None:
    against = list(
        why_not_destroyed(
            left if processes else Leftovers(left.queues, left.dead_letters, left.outboxes),
            dead_letters_too=dead_letters,
            unknown_outboxes_too=outboxes,
        )
    )
    if against:
        typer.echo("\n".join(("It is not destroyed:", *against)), err=True)
        raise typer.Exit(1)


async def _surely_empty(environment: Environment, *, dead_letters: bool, outboxes: bool) -> None:
    """Look again and again: nothing may have come into a queue or an outbox in the last moment."""
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick

    for _ in range(LOOKS):
        left = await environment.look()
        _refuse(left, dead_letters=dead_letters, outboxes=outboxes, processes=False)
        await SystemClock().sleep(PAUSE_S)


async def _removed(environment: Environment) -> list[str]:
    kept = await environment.stacks.remove(typer.echo) if await environment.stacks.stacks() else []
    for cell_id in await environment.teardown.cells():
        kept += await environment.teardown.remove_cell(cell_id)
    kept += await _taken_back(environment)
    return kept + await environment.teardown.remove_intake()


async def _taken_back(environment: Environment) -> list[str]:
    """Take our statement and our rule out of a queue and a bucket that may stay; returns what that fails at."""
    try:
        plan = await environment.intake.plan_farewell()
        await environment.intake.carry_out(plan)
    except ProvisionError as error:
        return [f"what init has put into the source queue's policy and the bucket's notifications: {error}"]
    return list(plan.refusals)
