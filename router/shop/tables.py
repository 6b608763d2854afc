"""Reads the shops' items in the cells' DynamoDB tables. It never writes: only cells do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from cell_worker.contract.strict_reader import Unreadable
from router.adapters.aws_errors import AWS_ERRORS, error_code, error_words
from router.core.errors import CellRouterError
from router.shop.core.items import Metric, Product, SoldLine, VendorOrder, read_item
from router.shop.core.names import INDEX, KIND, METRIC, PRODUCT, VENDOR_ORDER, table_of
from router.shop.core.overview import Contents

MAX_PAGES: Final = 50  # of a listing: 50 MB of items
T = TypeVar("T")


class ShopUnavailableError(CellRouterError):
    """A shop's table can't be read now; the text says why."""


class ShopTables:
    """The tables of all cells of one environment, each shop's items in its own cell's."""

    def __init__(self, prefix: str, environment: str, dynamodb: Any) -> None:
        self._prefix = prefix
        self._environment = environment
        self._dynamodb = dynamodb

    async def products(self, cell_id: str, shop: str) -> list[Product]:
        """List what a shop sells, by the sparse index. Raises ShopUnavailableError."""
        found = [read_item(item, Product) async for item in self._of_kind(cell_id, PRODUCT, f"{shop}#")]
        return [product for product in found if isinstance(product, Product)]

    async def order(self, cell_id: str, shop: str, order_id: str) -> list[SoldLine]:
        """Return the lines of a shop's order, none of one that is not there yet. Raises ShopUnavailableError."""
        asked = {"KeyConditionExpression": "PK = :id", "ExpressionAttributeValues": {":id": {"S": order_id}}}
        found = [read_item(item, SoldLine) async for item in self._pages("query", cell_id, asked, consistent=True)]
        return [line for line in found if isinstance(line, SoldLine) and line.shop == shop]

    async def contents(self, cell_id: str) -> Contents:
        """List all products, metrics and vendor orders of a cell's shops. Raises ShopUnavailableError."""
        products, bad = await self._read(cell_id, PRODUCT, Product)
        metrics, worse = await self._read(cell_id, METRIC, Metric)
        vendors, worst = await self._read(cell_id, VENDOR_ORDER, VendorOrder)
        return Contents(products, metrics, vendors, bad + worse + worst)

    async def vendor_orders(self, cell_id: str) -> Sequence[VendorOrder]:
        """List what a cell's shops have ordered from vendors. Raises ShopUnavailableError."""
        found, _ = await self._read(cell_id, VENDOR_ORDER, VendorOrder)
        return found

    async def lines(self, cell_id: str) -> list[SoldLine]:
        """Read all order lines of a cell, by a scan of its table: for a ledger only. Raises ShopUnavailableError."""
        wanted = {"FilterExpression": "attribute_exists(quantity) AND attribute_not_exists(itemType)"}
        found = [read_item(item, SoldLine) async for item in self._pages("scan", cell_id, wanted, consistent=True)]
        return [line for line in found if isinstance(line, SoldLine) and line.SK.isdigit()]

    async def _read(self, cell_id: str, kind: str, record: type[T]) -> tuple[Sequence[T], int]:
        found = [read_item(item, record) async for item in self._of_kind(cell_id, kind)]
        good = [each for each in found if not isinstance(each, Unreadable)]
        return good, len(found) - len(good)

    def _of_kind(self, cell_id: str, kind: str, begins: str = "") -> AsyncIterator[Any]:
        asked: dict[str, Any] = {
            "IndexName": INDEX,
            "KeyConditionExpression": f"{KIND} = :kind" + (" AND begins_with(PK, :begins)" if begins else ""),
            "ExpressionAttributeValues": {":kind": {"S": kind}} | ({":begins": {"S": begins}} if begins else {}),
        }
        return self._pages("query", cell_id, asked)

    async def _pages(
        self, call: str, cell_id: str, asked: Mapping[str, Any], *, consistent: bool = False
    ) -> AsyncIterator[Any]:
        table, start = table_of(self._prefix, self._environment, cell_id), dict[str, Any]()
        more = {"ConsistentRead": True} if consistent else {}
        for _ in range(MAX_PAGES):
            try:
                answer = await getattr(self._dynamodb, call)(TableName=table, **asked, **more, **start)
            except AWS_ERRORS as error:
                none = error_code(error) == "ResourceNotFoundException"
                why = "is not there: no cell of a shop has made it yet" if none else f"can't be read: {_words(error)}"
                raise ShopUnavailableError(f"the table {table} {why}") from error
            for item in answer.get("Items", ()):
                yield item
            if not (last := answer.get("LastEvaluatedKey")):
                return
            start = {"ExclusiveStartKey": last}
        raise ShopUnavailableError(f"the table {table} has more items than are listed at once")


def _words(error: BaseException) -> str:
    return error_words(error)[:200]
