"""A serverless shop: the second workload that ships. Orders, stock, vendor orders and sales, in one table a cell."""

from cell_worker.handlers.shop.handler import Shop

__all__ = ["Shop"]
