"""`cellrouter dev HANDLER`: one's own handler in cells on this machine, without Docker and AWS."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from router.cli.registry import run

HIGHEST_FIRST_PORT = 65_535 - 3  # of four in a row


def dev(
    handler: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The handler, as my_package.orders:handle.")],
    *,
    cells: Annotated[int, typer.Option(min=1, max=50, help="How many cells.")] = 2,
    port: Annotated[
        int,
        typer.Option(min=1024, max=HIGHEST_FIRST_PORT, help="The first of four ports."),
    ] = 8180,
) -> None:
    """Run your handler in cells on this machine, and replace them when its code changes.

    A controller, a router, a Valkey as Redis and MiniStack as AWS run beside it, as long as this command does. What the
    workers log and what the controller does is shown. CELLROUTER_* and CELL_* variables count, those of AWS don't.
    """
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - as above
    from router.cli.texts import Screen  # noqa: PLC0415 - as above
    from router.demo.dev import DevOptions, run_dev  # noqa: PLC0415 - as above

    raise typer.Exit(run(run_dev(DevOptions(handler, cells, port), os.environ, Screen(), SystemClock())))
