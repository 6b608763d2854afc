"""Reads the records that cells have emitted lately, as they lie in the cells' own buckets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from router.core.errors import CellRouterError
from router.ports import Clock


class SinksUnavailableError(CellRouterError):
    """The cells' buckets can't be read; the text says why."""


def hours(now_ms: int) -> list[str]:
    """Return where Firehose puts what comes now, and where it put what came in the hour before: `2026/11/28/22/`."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return [f"{now - timedelta(hours=ago):%Y/%m/%d/%H}/" for ago in (1, 0)]


class Sinks:
    """Reads each object in the cells' buckets once, those of the present hour and of the last."""

    def __init__(self, s3: Any, buckets: Mapping[str, str], clock: Clock) -> None:
        """`buckets` has the bucket of each cell."""
        self._clock = clock
        self._s3 = s3
        self._buckets = buckets
        self._read: dict[str, set[str]] = {}  # by cell

    async def new(self, at_most: int | None = None) -> list[tuple[str, str]]:
        """Return the records that are new since the last call, each with its cell, the oldest object first.

        With `at_most`, the newest of them: no object is read that none of these is in.
        """
        prefixes = hours(self._clock.time_ms())
        objects = await asyncio.gather(*(self._objects(cell_id, prefixes) for cell_id in self._buckets))
        records: deque[tuple[str, str]] = deque()
        for _, cell_id, key in sorted((each for of_cell in objects for each in of_cell), reverse=True):
            if at_most is not None and len(records) >= at_most:
                break
            lines = await self._lines(cell_id, key)
            room = lines if at_most is None else lines[-(at_most - len(records)) :]
            records.extendleft((cell_id, line) for line in reversed(room))
        return list(records)

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
