"""`cellrouter tail`: the records that cells have emitted lately, from their own buckets."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.options import INTERRUPTED
from router.cli.registry import configured, look, run
from router.core.fleet.routes import wanted_cells

if TYPE_CHECKING:
    from router.settings import Settings

FOLLOW_S: Final = 0.5  # between two looks


def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The most records: the newest.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Show the records that cells have emitted in this hour and the last, as they lie in the cells' own buckets.

    On this machine they are there at once; in AWS Firehose delivers them after a minute.
    """
    cells = wanted_cells(look())
    try:
        run(_tail(configured(), cells, lines, follow=follow))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


async def _tail(settings: Settings, cells: tuple[str, ...], lines: int, *, follow: bool) -> None:
    from router.adapters.aws.session import open_client  # noqa: PLC0415 - --help stays quick
    from router.adapters.aws_errors import AWS_ERRORS  # noqa: PLC0415 - --help stays quick
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - as above
    from router.bootstrap.queues import aws_of, names_of  # noqa: PLC0415 - as above
    from router.cli.development.sinks import Sinks, SinksUnavailableError  # noqa: PLC0415 - as above

    names, clock = names_of(settings), SystemClock()
    async with AsyncExitStack() as stack:
        try:
            s3 = await open_client(stack, aws_of(settings), "s3")
            sinks = Sinks(s3, {cell: names.cell(cell) for cell in cells}, clock)
            _show(await sinks.new(lines))
            while follow:
                await clock.sleep(FOLLOW_S)
                _show(await sinks.new())
        except AWS_ERRORS as error:
            raise SinksUnavailableError(f"the cells' buckets can't be read: {error}") from error


def _show(records: list[tuple[str, str]]) -> None:
    for cell_id, record in records:
        typer.echo(f"{cell_id}  {record}")
