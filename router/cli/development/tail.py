"""`cellrouter tail`: the records that cells have emitted lately, from their own buckets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
import uvloop

from router.adapters.clock import SystemClock
from router.cli.policy import wanted_cells
from router.cli.registry import look
from router.core.errors import CellRouterError
from router.settings import Settings, load

FOLLOW_S: Final = 0.5  # between two looks
INTERRUPTED: Final = 130  # exit code, as shells have it for SIGINT
_CLOCK: Final = SystemClock()


class SinksUnavailableError(CellRouterError):
    """The cells' buckets can't be read; the text says why."""


def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many records at most, the newest.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Show the records that cells have emitted in this hour and the last, as they lie in the cells' own buckets.

    On this machine they are there at once; in AWS Firehose delivers them after a minute.
    """
    cells = wanted_cells(look())
    try:
        uvloop.run(_tail(load(os.environ), cells, lines, follow=follow))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


async def _tail(settings: Settings, cells: tuple[str, ...], lines: int, *, follow: bool) -> None:
    from router.adapters.aws.session import open_client  # noqa: PLC0415 - --help stays quick
    from router.adapters.aws_errors import AWS_ERRORS  # noqa: PLC0415 - --help stays quick
    from router.bootstrap.queues import aws_of, names_of  # noqa: PLC0415 - --help stays quick

    names = names_of(settings)
    async with AsyncExitStack() as stack:
        try:
            sinks = Sinks(await open_client(stack, aws_of(settings), "s3"), {cell: names.cell(cell) for cell in cells})
            _show((await sinks.new())[-lines:] if lines else [])
            while follow:
                await _CLOCK.sleep(FOLLOW_S)
                _show(await sinks.new())
        except AWS_ERRORS as error:
            raise SinksUnavailableError(f"the cells' buckets can't be read: {error}") from error


def _show(records: list[tuple[str, str]]) -> None:
    for cell_id, record in records:
        typer.echo(f"{cell_id}  {record}")


def hours(now_ms: int) -> list[str]:
    """Return where Firehose puts what comes now, and where it put what came in the hour before: `2026/11/28/22/`."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return [f"{now - timedelta(hours=ago):%Y/%m/%d/%H}/" for ago in (1, 0)]


class Sinks:
    """Reads each object in the cells' buckets once, those of the present hour and of the last."""

    def __init__(self, s3: Any, buckets: Mapping[str, str]) -> None:
        """`buckets` has the bucket of each cell."""
        self._s3 = s3
        self._buckets = buckets
        self._read: dict[str, set[str]] = {}  # by cell

    async def new(self) -> list[tuple[str, str]]:
        """Return the records that are new since the last call, each with its cell, the oldest object first."""
        prefixes = hours(_CLOCK.time_ms())
        found = await asyncio.gather(*(self._objects(cell_id, prefixes) for cell_id in self._buckets))
        objects = sorted((at, cell_id, key) for of_cell in found for at, cell_id, key in of_cell)
        return [(cell_id, line) for _, cell_id, key in objects for line in await self._lines(cell_id, key)]

    async def _objects(self, cell_id: str, prefixes: list[str]) -> list[tuple[datetime, str, str]]:
        new, there, known = [], set(), self._read.get(cell_id, set())
        for prefix in prefixes:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._buckets[cell_id], Prefix=prefix)
            async for page in pages:
                for found in page.get("Contents", ()):
                    there.add(found["Key"])
                    if found["Key"] not in known:
                        new.append((found["LastModified"], cell_id, found["Key"]))
        self._read[cell_id] = there
        return new

    async def _lines(self, cell_id: str, key: str) -> list[str]:
        answer = await self._s3.get_object(Bucket=self._buckets[cell_id], Key=key)
        async with answer["Body"] as stream:
            text: bytes = await stream.read()
        return [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
