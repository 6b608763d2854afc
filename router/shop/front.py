"""The order API and the two pages of the shop: the storefront for customers, and the operations dashboard."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from hashlib import sha256
from pkgutil import get_data
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response, status
from fastapi.responses import JSONResponse

from cell_worker.contract.http_guard import OWN_FILES
from cell_worker.contract.strict_reader import Unreadable
from router.core.errors import CellRouterError
from router.shop.core.items import SoldLine, state_of_order
from router.shop.core.names import placed_at_ms, why_no_shop
from router.shop.desk import OrderDesk

PAGES: Final = {"/": "storefront.html", "/operations": "operations.html"}
POLICIES: Final = dict.fromkeys(PAGES, OWN_FILES)
"""The content security policies of the pages: they load files of this process, and have no inline script."""
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_NAMES: Final = ("shop.css", "storefront.js", "operations.js", "elements.js", "icon.svg")
_FOREVER: Final = {"cache-control": "public, max-age=31536000, immutable"}  # another version has other paths
_JSON: Final = re.compile(r"application/json(;\s*charset=utf-8)?", re.IGNORECASE)


class LineView(msgspec.Struct, frozen=True):
    """One line of an order, as its customer sees it."""

    product: str
    title: str
    quantity: int
    price_cents: int
    taken: int
    back_ordered: int


class OrderView(msgspec.Struct, frozen=True):
    """How an order stands. It never says who has placed it."""

    order_id: str
    state: str
    lines: list[LineView]


def static_file(name: str) -> bytes:
    """Read one of the pages' files. Raises FileNotFoundError."""
    return get_data(__name__, f"static/{name}") or b""


STATIC: Final = {name: static_file(name) for name in _NAMES}
"""The scripts, styles and pictures of the pages, by name."""
STATIC_VERSION: Final = sha256(b"\0".join(STATIC.values())).hexdigest()[:16]


def create_shop(desk: OrderDesk) -> FastAPI:
    """Make the application: API, storefront and operations dashboard."""
    app = FastAPI(title="cellrouter shop", openapi_url=None)
    app.add_exception_handler(CellRouterError, _unavailable)
    _add_files(app)
    _add_orders(app, desk)

    @app.get("/shops", summary="Lists the shops that sell anything.")
    async def shops() -> Response:
        names, missing = await desk.shops()
        return _json({"shops": names, "missing": missing})

    @app.get("/shops/{shop}/products", summary="Lists what a shop sells, and the time that its orders go by.")
    async def products(shop: str) -> Response:
        if (why := why_no_shop(shop)) is not None:
            return _refused(why)
        found = await desk.catalogue(shop)
        kept = [
            {"product": each.product, "title": each.title, "price_cents": each.price_cents, "stock": each.stock}
            for each in found
        ]
        answer = {"shop": shop, "now_ms": desk.now_ms(), "products": kept}
        return _json(answer, status.HTTP_200_OK if kept else status.HTTP_404_NOT_FOUND)

    @app.get("/operations/now", summary="Tells how one shop stands, or all of them: stock, orders, vendor orders.")
    async def operations(shop: str = "") -> Response:
        if shop and (why := why_no_shop(shop)) is not None:
            return _refused(why)
        return _json(await desk.overview(shop))

    @app.get("/healthz", summary="Answers while the process runs.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "role": "shop"}

    return app


def _add_orders(app: FastAPI, desk: OrderDesk) -> None:
    @app.post("/shops/{shop}/orders", summary="Takes an order; the same order_id again is the same order.")
    async def place(shop: str, request: Request) -> Response:
        if _JSON.fullmatch(request.headers.get("content-type", "")) is None:
            why = "send JSON in UTF-8 with the header Content-Type: application/json"
            return _refused(why, status.HTTP_415_UNSUPPORTED_MEDIA_TYPE)
        order = await desk.place(shop, await request.body())
        if isinstance(order, Unreadable):
            return _refused(order.why)
        state = f"/shops/{shop}/orders/{order.order_id}"
        return _json({"order_id": order.order_id, "state_at": state}, status.HTTP_202_ACCEPTED, {"location": state})

    @app.get("/shops/{shop}/orders/{order_id}", summary="Tells how an order stands; unknown until its cell has it.")
    async def order(shop: str, order_id: str) -> Response:
        why = why_no_shop(shop)
        if why is not None or placed_at_ms(order_id) is None:
            return _refused(why or "this is no order's id")
        lines = await desk.order(shop, order_id)
        view = OrderView(order_id, state_of_order(lines), [_line(line) for line in lines])
        return _json(view)


def _add_files(app: FastAPI) -> None:
    for path, name in PAGES.items():
        page = static_file(name).replace(b"{version}", STATIC_VERSION.encode())
        app.add_api_route(path, _answering(page, "text/html", {}), include_in_schema=False)
    for name, content in STATIC.items():
        kind = _KINDS[name.rpartition(".")[2]]
        app.add_api_route(f"/static/{STATIC_VERSION}/{name}", _answering(content, kind, _FOREVER))


def _answering(content: bytes, kind: str, headers: Mapping[str, str]) -> Callable[[], Awaitable[Response]]:
    async def answer(content: bytes) -> Response:
        return Response(content, media_type=kind, headers=dict(headers))

    return partial(answer, content)


def _line(line: SoldLine) -> LineView:
    return LineView(line.product, line.title, line.quantity, line.price_cents, line.taken, line.back_ordered)


def _refused(why: str, code: int = status.HTTP_422_UNPROCESSABLE_CONTENT) -> Response:
    return JSONResponse({"detail": why}, code)


async def _unavailable(_: Request, error: Exception) -> Response:
    """Say that what stands behind the shop can't be reached; whoever asks may ask again."""
    return JSONResponse({"detail": str(error)}, status.HTTP_503_SERVICE_UNAVAILABLE, {"retry-after": "1"})


def _json(content: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), code, dict(headers or {}), "application/json")
