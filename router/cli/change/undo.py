"""`cellrouter undo`: takes back what people have changed in the policy, further back each time."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli.options import Why
from router.cli.registry import operate


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
    found = operate(lambda operator: operator.undo(to, why), "--to")
    for text in found.taken_back:
        typer.echo(f"Taken back: {text}")
    for reason in found.kept:
        typer.echo(f"Stays: {reason}")
    for text in found.done:
        typer.echo(text)
    if found.further:
        typer.echo(f"The next undo takes back: {found.further}")
