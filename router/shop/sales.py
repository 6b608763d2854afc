"""Reads the objects with sales in the cells' buckets: Parquet, or a row of JSON in each line."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cell_worker.contract.protocol import resource_name
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.aws_errors import AWS_ERRORS, error_code, error_words
from router.core.errors import CellRouterError
from router.core.models import Reason
from router.shop.core.names import SALES
from router.shop.core.sales import COLUMNS, SaleRow, once, read_lines, read_record

MAX_OBJECTS: Final = 20_000
MAX_BYTES: Final = 512 * 1024 * 1024  # of all objects of one question
MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
MAX_ROWS: Final = 5_000_000
PARQUET: Final = b"PAR1"


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

    async def read(self, cells: Sequence[str], shop: str = "", day: str = "") -> SalesFound:
        """Read the sales of these cells: of one shop and one day, or of all. Raises SalesUnavailableError."""
        rows, unread, objects, size = list[SaleRow](), list[Reason](), 0, 0
        for cell_id in cells:
            bucket = resource_name(self._prefix, self._environment, cell_id)
            async for key, length in self._keys(bucket, f"{SALES}shop={shop}/" if shop else SALES, day):
                objects, size = objects + 1, size + length
                if objects > MAX_OBJECTS or size > MAX_BYTES or len(rows) > MAX_ROWS:
                    raise SalesUnavailableError("there are more sales than are read at once: name --shop, or --day")
                found = await self._read(bucket, key, length)
                if isinstance(found, Unreadable):
                    unread.append(f"s3://{bucket}/{key}: {found.why}")
                else:
                    rows += found
        return SalesFound(once(rows), objects, unread)

    async def _keys(self, bucket: str, prefix: str, day: str) -> AsyncIterator[tuple[str, int]]:
        """The keys and sizes of a bucket's objects; none where there is no bucket."""
        try:
            async for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for each in page.get("Contents", ()):
                    if not day or f"/day={day}/" in each["Key"]:
                        yield each["Key"], int(each["Size"])
        except AWS_ERRORS as error:
            if error_code(error) != "NoSuchBucket":
                raise SalesUnavailableError(f"the bucket {bucket} can't be read: {error_words(error)}") from error

    async def _read(self, bucket: str, key: str, size: int) -> list[SaleRow] | Unreadable:
        if size > MAX_OBJECT_BYTES:
            return Unreadable(f"it has {size} bytes, more than {MAX_OBJECT_BYTES}")
        try:
            answer = await self._s3.get_object(Bucket=bucket, Key=key)
            async with answer["Body"] as stream:
                raw = await stream.read(MAX_OBJECT_BYTES + 1)
        except AWS_ERRORS as error:
            raise SalesUnavailableError(f"s3://{bucket}/{key} can't be read: {error_words(error)}") from error
        return read_object(raw)


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
