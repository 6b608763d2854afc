"""`cellrouter shop …`: the storefront of the shop, and SQL over its sales."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.options import AsJson
from router.cli.registry import configured, run
from router.shop.core.names import why_no_shop

if TYPE_CHECKING:
    from router.settings import Settings
    from router.shop.sales import SalesFound

DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
MAX_TOLD: Final = 5  # objects that can't be read

app = typer.Typer(help="Serve the shop, and ask for its sales by SQL.", no_args_is_help=True)


def _a_day(day: str) -> str:
    if day and DAY.fullmatch(day) is None:
        raise typer.BadParameter(f"{day!r} is no day: write it as 2026-03-31")
    return day


def _a_shop(shop: str) -> str:
    if shop and (why := why_no_shop(shop)) is not None:
        raise typer.BadParameter(why)
    return shop


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8090,
) -> None:
    """Serve the order API, the storefront at / and the operations dashboard at /operations."""
    from router.shop.serving import serve as serve_shop  # noqa: PLC0415 - --help stays quick

    run(serve_shop(configured(), host, port, lambda text: typer.echo(text, err=True)))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the table `sales`.")],
    *,
    shop: Annotated[str, typer.Option(callback=_a_shop, help="Read the sales of this shop only.")] = "",
    day: Annotated[str, typer.Option(callback=_a_day, help="Read the sales of this day (UTC) only.")] = "",
    as_json: AsJson = False,
) -> None:
    """Answer SQL over the sales, as they lie in the cells' buckets: shop, product, order_id, line, quantity, taken,
    back_ordered, price_cents, at_ms.

    DuckDB answers, with the packages of the extra `shop`. The query sees that table, and no file, network or setting. A
    line of an order counts once, however often it was delivered. Exits 1 when an object can't be read: it is named, and
    the answer lacks it.
    """  # noqa: D205 - a list of names
    from router.shop.sql import answer  # noqa: PLC0415 - --help stays quick

    found = run(_sales(configured(), shop, day))
    told = answer(sql, found.rows)
    if as_json:
        typer.echo(json.dumps([dict(zip(told.columns, row, strict=True)) for row in told.rows], default=str))
    else:
        _print(told.columns, [[str(value) for value in row] for row in told.rows])
    if told.cut:
        typer.echo(f"There are more rows: these are the first {len(told.rows)}.", err=True)
    for why in found.unread[:MAX_TOLD]:
        typer.echo(f"not read: {why}", err=True)
    if found.unread:
        typer.echo(f"{len(found.unread)} of {found.objects} objects can't be read", err=True)
        raise typer.Exit(1)


def _print(names: Sequence[str], rows: list[list[str]]) -> None:
    from router.cli.texts import Column, Screen, fitted  # noqa: PLC0415 - --help stays quick

    screen = Screen()
    screen.print(fitted([Column(name, len(names) - place) for place, name in enumerate(names)], rows, screen.width))


async def _sales(settings: Settings, shop: str, day: str) -> SalesFound:
    from router.bootstrap.registry import open_registry  # noqa: PLC0415 - --help stays quick
    from router.shop.serving import cells_of, sales_of  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        cells = cells_of(await stack.enter_async_context(open_registry(settings)))
        wanted = [await cells.of(shop)] if shop else await cells.all()
        return await (await sales_of(stack, settings)).read(wanted, shop, day)
