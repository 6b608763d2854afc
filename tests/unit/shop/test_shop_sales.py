"""Which objects are read for sales, in both layouts, and how a dashboard counts them without reading any twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, Self, cast

import msgspec
import pytest
from botocore.exceptions import ClientError

from router.demo.shop.books import BookKeeper, UnreadBooksError
from router.shop.cells import ShopCells
from router.shop.core.items import Metric, SoldLine
from router.shop.core.overview import Contents
from router.shop.core.sales import SaleRow
from router.shop.sales import SOLD_S, SalesObjects, SalesUnavailableError, SoldToday
from router.shop.tables import ShopTables
from tests.support.aio import run
from tests.support.fake_clock import FakeClock, play

CELL: Final = "cell-0000"
BUCKET: Final = "cellrouter-live-cell-0000"
DAY_MS: Final = 86_400_000


class Body:
    """The content of an object, as a client of S3 streams it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def read(self) -> bytes:
        return self._raw


class Bucket:
    """S3 with one bucket, two keys a page."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads: list[str] = []
        self.listed: list[str] = []
        self.down = False

    def get_paginator(self, _: str) -> Bucket:
        return self

    async def paginate(self, *, Bucket: str, Prefix: str, StartAfter: str) -> AsyncIterator[dict[str, Any]]:  # noqa: N803
        self.listed.append(Prefix)
        if Bucket != BUCKET or self.down:
            code = "AccessDenied" if self.down else "NoSuchBucket"
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ListObjectsV2")
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > StartAfter)
        for begin in range(0, len(keys), 2):
            yield {"Contents": [{"Key": key, "Size": len(self.objects[key])} for key in keys[begin : begin + 2]]}

    async def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        self.reads.append(Key)
        return {"Body": Body(self.objects[Key]), "ContentLength": len(self.objects[Key])}

    def put(self, key: str, *rows: SaleRow) -> None:
        self.objects[key] = b"\n".join(map(msgspec.json.encode, rows))


def sold(shop: str, order: str, at_ms: int, quantity: int = 1) -> SaleRow:
    """Make a sale."""
    return SaleRow(shop, "cup", order, 1, quantity, quantity, 0, 100, at_ms)


CLOCK: Final = FakeClock()
NOW: Final = CLOCK.time_ms()
TODAY, YESTERDAY = "2023-11-14", "2023-11-13"


def a_bucket() -> Bucket:
    """Make a bucket with sales in both layouts, of two shops and two days, one line twice, and what others put."""
    bucket = Bucket()
    bucket.put(f"sales/shop=a/day={TODAY}/hour=22/1.json", sold("a", "1", NOW, 2))
    bucket.put(f"sales/shop=a/day={YESTERDAY}/hour=01/1.json", sold("a", "2", NOW - DAY_MS))
    bucket.put("2023/11/14/22/stream-1", sold("a", "1", NOW, 2), sold("b", "3", NOW, 4))
    bucket.put("2023/11/14/00/late", sold("b", "4", NOW - DAY_MS))
    bucket.put("2023/11/13/01/stream-1", sold("b", "5", NOW - DAY_MS))
    bucket.objects |= {"notes.txt": b"\xff", "2023-report": b"\xff", "salesmen/a": b"\xff"}
    return bucket


@pytest.mark.parametrize(
    ("shop", "day", "orders"),
    [
        ("", "", ["1", "2", "3", "4", "5"]),
        ("a", "", ["1", "2"]),
        ("b", YESTERDAY, ["4", "5"]),
        ("", TODAY, ["1", "3"]),
        ("a", YESTERDAY, ["2"]),
    ],
)
def test_sales_are_found_in_both_layouts_and_count_once(shop: str, day: str, orders: list[str]) -> None:
    """By shop and day, also those that Firehose got after midnight; what others put there is not read."""
    bucket = a_bucket()
    objects = SalesObjects("cellrouter", "live", bucket)
    found = play(FakeClock(), objects.read([CELL, "cell-0009"], shop, day))
    assert sorted(row.order_id for row in found.rows) == orders
    assert found.unread == []
    assert not any("/day=" in key and day and f"/day={day}/" not in key for key in bucket.reads)


def test_what_holds_no_sales_is_named_and_a_bucket_that_is_denied_is_an_error() -> None:
    """An answer never lacks sales without saying so."""
    bucket = a_bucket()
    bucket.objects["2023/11/14/22/broken"] = b'{"shop": 1}'
    objects = SalesObjects("cellrouter", "live", bucket)
    (why,) = play(FakeClock(), objects.read([CELL])).unread
    assert why.startswith(f"s3://{BUCKET}/2023/11/14/22/broken: line 1: ")
    bucket.down = True
    with pytest.raises(SalesUnavailableError, match=BUCKET):
        play(FakeClock(), objects.read([CELL]))


def test_a_dashboard_reads_each_object_of_today_once_and_begins_anew_at_midnight() -> None:
    """It lists by shop and day, and goes on where a bucket was out of reach."""
    clock, bucket = FakeClock(), a_bucket()
    counter = SoldToday(SalesObjects("cellrouter", "live", bucket), clock)

    def look() -> dict[tuple[str, str], int]:
        return dict(play(clock, counter.counted({CELL: ["a", "b"]})))

    assert look() == {("a", "cup"): 2, ("b", "cup"): 4}
    assert set(bucket.listed) == {f"sales/shop={shop}/day={TODAY}/" for shop in "ab"} | {"2"}
    reads = len(bucket.reads)
    bucket.put("2023/11/14/23/stream-2", sold("b", "6", NOW))
    assert look() == {("a", "cup"): 2, ("b", "cup"): 4}
    bucket.down, clock.now = True, clock.now + SOLD_S
    assert look() == {("a", "cup"): 2, ("b", "cup"): 4}
    bucket.down, clock.now = False, clock.now + SOLD_S
    assert look() == {("a", "cup"): 2, ("b", "cup"): 5}
    assert len(bucket.reads) == reads + 1
    clock.now += DAY_MS / 1000
    assert look() == {}


def test_a_book_keeper_reads_each_object_once_and_never_compares_with_less_than_all() -> None:
    """It asks SQL and the minutes about the same rows; an object that holds no sales is said."""
    pytest.importorskip("duckdb", reason="of the extra `shop`")
    bucket = a_bucket()

    class Cells:
        async def all(self) -> list[str]:
            return [CELL]

    class Tables:
        async def contents(self, _: str) -> Contents:
            return Contents(metrics=[Metric("a#METRIC#ordered", 3)])

        async def lines(self, _: str) -> list[SoldLine]:
            return []

    sales = SalesObjects("cellrouter", "live", bucket)
    keeper = BookKeeper(cast("ShopCells", Cells()), cast("ShopTables", Tables()), sales)
    books = run(keeper.books())
    assert books.minutes == books.sql == {("a", "cup"): 3, ("b", "cup"): 6}
    assert books.metrics == {("a", "ordered"): 3}
    reads = len(bucket.reads)
    bucket.put("2023/11/14/23/stream-2", sold("b", "6", NOW))
    assert run(keeper.books()).sql == {("a", "cup"): 3, ("b", "cup"): 7}
    assert len(bucket.reads) == reads + 1
    of_one_street = run(BookKeeper(keeper.cells, keeper.tables, keeper.sales, street="b").books())
    assert (of_one_street.sql, of_one_street.metrics) == ({("b", "cup"): 7}, {})
    bucket.objects["2023/11/14/23/broken"] = b"{"
    with pytest.raises(UnreadBooksError, match="broken"):
        run(keeper.books())
