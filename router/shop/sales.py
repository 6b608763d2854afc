"""Reads the objects with sales in the cells' buckets: Parquet, or a row of JSON in each line."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from cell_worker.contract.protocol import resource_name
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.aws_errors import AWS_ERRORS, error_code, error_words
from router.core.errors import CellRouterError
from router.core.models import Reason
from router.ports import Clock
from router.shop.core.names import Listing, listings, may_hold_sales
from router.shop.core.sales import COLUMNS, Goods, SaleRow, chosen, day_of, once, read_lines, read_record

MAX_OBJECTS: Final = 100_000
MAX_BYTES: Final = 512 * 1024 * 1024  # of all objects of one question
MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
MAX_ROWS: Final = 5_000_000
MAX_NEW: Final = 2000  # objects that a dashboard reads at once
MAX_COUNTED: Final = 1_000_000  # rows of a day that a dashboard counts
AT_ONCE: Final = 16
SOLD_S: Final = 15.0
PARQUET: Final = b"PAR1"
Place = tuple[str, str]
"""A bucket and a key."""


class SalesUnavailableError(CellRouterError):
    """The sales can't be read; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class SalesFound:
    """The sales of a question, each line of an order once."""

    rows: Sequence[SaleRow]
    objects: int
    unread: Sequence[Reason]  # why objects can't be read, each with its name


class SalesObjects:
    """The objects with sales of one environment's cells."""

    def __init__(self, prefix: str, environment: str, s3: Any) -> None:
        self._prefix = prefix
        self._environment = environment
        self._s3 = s3
        self._places = asyncio.Semaphore(AT_ONCE)

    async def read(self, cells: Sequence[str], shop: str = "", day: str = "") -> SalesFound:
        """Read the sales of these cells: of one shop and one day, or of all. Raises SalesUnavailableError."""
        found, size = list[Place](), 0
        for cell_id in cells:
            async for place, length in self.objects(cell_id, listings([shop] if shop else (), day)):
                found.append(place)
                size += length
                if len(found) > MAX_OBJECTS or size > MAX_BYTES:
                    raise SalesUnavailableError("there are more sales than are read at once: name --shop, or --day")
        rows, unread = await self.rows(found)
        return SalesFound(chosen(once(rows), shop, day), len(found), unread)

    async def objects(self, cell_id: str, wanted: Sequence[Listing]) -> AsyncIterator[tuple[Place, int]]:
        """List the objects that may hold such sales, each with its size; none where there is no bucket."""
        bucket, pages = (
            resource_name(self._prefix, self._environment, cell_id),
            self._s3.get_paginator("list_objects_v2"),
        )
        try:
            for listing in wanted:
                async for page in pages.paginate(Bucket=bucket, Prefix=listing.prefix, StartAfter=listing.after):
                    for each in page.get("Contents", ()):
                        if may_hold_sales(each["Key"], listing):
                            yield (bucket, each["Key"]), int(each["Size"])
        except AWS_ERRORS as error:
            if error_code(error) != "NoSuchBucket":
                raise SalesUnavailableError(f"the bucket {bucket} can't be read: {error_words(error)}") from error

    async def rows(self, places: Sequence[Place]) -> tuple[list[SaleRow], list[Reason]]:
        """Read objects, and say which hold no sales. Raises SalesUnavailableError."""
        rows, unread = list[SaleRow](), list[Reason]()
        for place, found in zip(places, await asyncio.gather(*map(self._read, places)), strict=True):
            if isinstance(found, Unreadable):
                unread.append(f"s3://{place[0]}/{place[1]}: {found.why}")
            else:
                rows += found
        return rows, unread

    async def _read(self, place: Place) -> list[SaleRow] | Unreadable:
        bucket, key = place
        try:
            async with self._places:
                answer = await self._s3.get_object(Bucket=bucket, Key=key)
                async with answer["Body"] as stream:
                    if int(answer["ContentLength"]) > MAX_OBJECT_BYTES:
                        return Unreadable(f"it has more than {MAX_OBJECT_BYTES} bytes")
                    raw = await stream.read()
        except AWS_ERRORS as error:
            raise SalesUnavailableError(f"s3://{bucket}/{key} can't be read: {error_words(error)}") from error
        return read_object(raw)


@dataclass(slots=True)
class SoldToday:
    """Counts what was sold today, for dashboards: each object is read once, and at most every quarter of a minute."""

    sales: SalesObjects
    clock: Clock
    _day: str = ""
    _read_at: float = float("-inf")
    _seen: set[Place] = field(default_factory=set)
    _lines: set[int] = field(default_factory=set)  # hashes of the lines that are counted
    _sold: Counter[Goods] = field(default_factory=Counter)

    async def counted(self, shops: Mapping[str, Collection[str]]) -> Mapping[Goods, int]:
        """Return the pieces of each product, as of a quarter of a minute ago; `shops` are those of each cell."""
        now, day = self.clock.monotonic(), day_of(self.clock.time_ms())
        if now < self._read_at + SOLD_S and day == self._day:
            return self._sold
        self._read_at = now
        if day != self._day:
            self._day = day
            for kept in (self._seen, self._lines, self._sold):
                kept.clear()
        try:
            for cell_id, names in shops.items():
                await self._count(cell_id, listings(names, day))
        except SalesUnavailableError:
            pass  # the next look reads on where this one has stopped
        return self._sold

    async def _count(self, cell_id: str, wanted: Sequence[Listing]) -> None:
        found = [place async for place, _ in self.sales.objects(cell_id, wanted)]
        new = list(islice((place for place in found if place not in self._seen), MAX_NEW))
        rows, _ = await self.sales.rows(new)
        self._seen.update(new)
        for row in chosen(rows, "", self._day):
            name = hash((row.shop, row.order_id, row.line))
            if name not in self._lines and len(self._lines) < MAX_COUNTED:
                self._lines.add(name)
                self._sold[row.shop, row.product] += row.quantity


def read_object(raw: bytes) -> list[SaleRow] | Unreadable:
    """Return the rows of an object, or the reason why they can't be read. Never raises for what is in it.

    Raises SalesUnavailableError for Parquet where pyarrow is not installed.
    """
    return _read_parquet(raw) if raw[:4] == PARQUET else read_lines(raw)


def _read_parquet(raw: bytes) -> list[SaleRow] | Unreadable:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and slow to import
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError as error:
        raise SalesUnavailableError("the sales are Parquet, which needs: pip install 'cellrouter[shop]'") from error
    try:
        file = parquet.ParquetFile(io.BytesIO(raw))
        if file.metadata.num_rows > MAX_ROWS:
            return Unreadable(f"it has {file.metadata.num_rows} rows, more than {MAX_ROWS}")
        records = file.read(columns=list(COLUMNS)).to_pylist()
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        return Unreadable(f"{error!s:.200}")
    rows: list[SaleRow] = []
    for record in records:
        row = read_record(record)
        if isinstance(row, Unreadable):
            return row
        rows.append(row)
    return rows
