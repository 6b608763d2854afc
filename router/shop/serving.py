"""Opens what the shop stands on, as an environment's settings say, and serves it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

from fastapi import FastAPI

from cell_worker.contract.http_guard import GuardedApp
from cell_worker.contract.http_server import HttpServer, listen_on
from router.adapters.aws.session import open_client
from router.adapters.clock import SystemClock
from router.bootstrap.queues import aws_of, queues_of
from router.bootstrap.registry import keyring_of, registry_of
from router.core.errors import CellRouterError
from router.ports import CellRegistry
from router.settings import Settings
from router.shop.cells import ShopCells
from router.shop.desk import OrderDesk
from router.shop.front import POLICIES, create_shop
from router.shop.sales import SalesObjects, SoldToday
from router.shop.tables import ShopTables

PLACES: Final = 500  # connections at once
GOODBYE_S: Final = 5
_CLOCK = SystemClock()


class NoPortError(CellRouterError):
    """The shop can't listen where it should; the text says why."""


def cells_of(registry: CellRegistry) -> ShopCells:
    """Make what finds the cells of shops by this registry's slot map."""
    return ShopCells(registry.snapshot, _CLOCK)


async def tables_of(stack: AsyncExitStack, settings: Settings) -> ShopTables:
    """Open the tables of the environment's cells."""
    dynamodb = await open_client(stack, aws_of(settings), "dynamodb", connections=50, read_timeout_s=10)
    return ShopTables(settings.aws.prefix, settings.environment, dynamodb)


async def sales_of(stack: AsyncExitStack, settings: Settings) -> SalesObjects:
    """Open the objects with the sales of the environment's cells."""
    s3 = await open_client(stack, aws_of(settings), "s3", connections=20)
    return SalesObjects(settings.aws.prefix, settings.environment, s3)


@asynccontextmanager
async def opened_desk(settings: Settings) -> AsyncIterator[OrderDesk]:
    """Open the order desk of an environment, and close it afterwards."""
    async with AsyncExitStack() as stack:
        registry = registry_of(stack, settings, keyring_of(settings))
        source, _ = await queues_of(stack, settings)
        sold = SoldToday(await sales_of(stack, settings), _CLOCK)
        yield OrderDesk(source.send, cells_of(registry), await tables_of(stack, settings), sold.counted, _CLOCK)


def guarded(app: FastAPI, settings: Settings) -> GuardedApp:
    """Put before the shop what stands before every page: whom it is served to, and what a browser may do."""
    hosts = {settings.api.host, *re.split(r",\s*", settings.api.allowed_hosts)}
    return GuardedApp(app, hosts, "api.allowed_hosts", POLICIES)


@asynccontextmanager
async def served(settings: Settings, host: str, port: int) -> AsyncIterator[OrderDesk]:
    """Serve the shop while the context is open. Raises NoPortError."""
    async with opened_desk(settings) as desk:
        try:
            listener = listen_on(host, port)
        except OSError as error:
            raise NoPortError(f"can't listen on {host}, port {port}: {error.strerror or error}") from error
        with listener:
            app: Any = guarded(create_shop(desk), settings)
            server = HttpServer(app, places=PLACES, goodbye_s=GOODBYE_S)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield desk
            finally:
                server.should_exit = True
                with suppress(asyncio.CancelledError):
                    await serving


async def serve(settings: Settings, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve the shop until a signal stops it."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with served(settings, host, port):
        tell(f"The storefront is at http://{host}:{port}/, the operations dashboard at http://{host}:{port}/operations")
        await stop.wait()
