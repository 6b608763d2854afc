"""`cellrouter undo`: takes back what people have changed in the policy, further back each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.options import Why
from router.cli.policy import audit_text
from router.cli.registry import ask, look
from router.core.fleet.explained import time_text
from router.core.undo import Undone, to_undo, undone, why_not_undone

if TYPE_CHECKING:
    from router.adapters.redis.registry import RedisRegistry
    from router.core.models import CellRecord
    from router.core.policy import Policy
    from router.core.registry import PolicyVersion

SHOWN: Final = 3  # versions that the audit names


def undo(
    *,
    to: Annotated[
        int | None, typer.Option(min=0, help="Take back all that people have changed since this version.")
    ] = None,
    why: Why = "",
) -> None:
    """Take back the last change of the policy by a person; run again, the one before it, and so on.

    What routers and the leader have decided since stays, and so does what somebody has changed again.
    """

    async def take_back(registry: RedisRegistry) -> tuple[Policy, list[PolicyVersion], Undone, PolicyVersion | None]:
        from router.bootstrap.registry import entry_by_hand  # noqa: PLC0415 - --help stays quick

        while True:  # until no other change comes first
            now, versions = await registry.policy(), await registry.history()
            if to is not None and to > now.version:
                raise typer.BadParameter(
                    f"there is no version {to} yet; the newest is {now.version}", param_hint="--to"
                )
            chosen = to_undo(versions, to)
            if (against := why_not_undone(versions, chosen)) is not None:
                typer.echo(against, err=True)
                raise typer.Exit(1)
            found = undone(now, versions, chosen)
            numbers = tuple(version.policy.version for version in chosen)
            entry = entry_by_hand("undo", audit_text(_named(numbers), why), back_to=numbers[-1] - 1)
            if await registry.change_policy(found.policy, entry):
                rest = [version for version in versions if version.policy.version not in numbers]
                return now, chosen, found, next(iter(to_undo(rest)), None)

    before, chosen, found, further = ask(take_back)
    for version in chosen:
        typer.echo(f"Taken back: {_told(version)}")
    for reason in found.kept:
        typer.echo(f"Stays: {reason}")
    for line in what_stays(before, found.policy, look().cells):
        typer.echo(line)
    if further is not None:
        typer.echo(f"The next undo takes back: {_told(further)}")


def what_stays(before: Policy, after: Policy, cells: Mapping[str, CellRecord]) -> Iterator[str]:
    """Say, a line for each cell, what stays done of the orders that `before` holds and `after` takes back."""
    for cell_id in sorted({*before.to_evict, *before.to_replace}):
        ordered, record = before.ordered_up_to(cell_id), cells.get(cell_id)
        if record is None or ordered <= after.ordered_up_to(cell_id):
            continue
        if record.generation > ordered:
            yield f"{cell_id}: generation {ordered} is gone already, and generation {record.generation} stays"
        elif record.launching:
            yield f"{cell_id}: generation {record.launching} is launched already, and takes over when it is ready"


def _told(version: PolicyVersion) -> str:
    entry = version.audit
    return f"{entry.action} {entry.why} (version {version.policy.version}, by {entry.who}, {time_text(entry.at_ms)})"


def _named(numbers: Sequence[int]) -> str:
    some = [str(number) for number in numbers[:SHOWN]] + ["…"] * (len(numbers) > SHOWN)
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(some)}"
