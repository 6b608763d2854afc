"""The dashboard of a fleet that nobody runs, served as a router serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial

from prometheus_client import CollectorRegistry

from cell_worker.contract.http_server import listen_on
from router.adapters.api_tokens import Tokens, TokenSource
from router.api.app import create_app
from router.api.dashboard import add_dashboard
from router.bootstrap.admin import admin_api
from router.bootstrap.processes import serve_api
from router.core.errors import RegistryUnavailableError
from router.core.registry import AuditEntry
from router.services.dead_letters import DeadLetters
from router.services.unforeseen import Unforeseen
from router.settings import load
from tests.support.attribute_keys import KEYS
from tests.support.dead_letter_world import Queue
from tests.support.fleet_world import FleetWorld, WallClock
from tests.support.keys import SECRET


class Rig:
    """Where the dashboard is, and what it shows."""

    def __init__(self, world: FleetWorld, dead: Queue, url: str, serving: asyncio.Task[None]) -> None:
        self.world = world
        self.dead = dead  # the dead-letter queue
        self.url = url
        self._serving = serving
        self._feeding: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Have the process look at its fleet."""
        self._feeding = asyncio.create_task(self.world.feed.run())

    async def stop(self) -> None:
        """Have the process say nothing more, and keep its connections."""
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)

    def end(self) -> None:
        """End the server, as a process does that has been told to stop."""
        self._serving.cancel()

    async def ended(self) -> None:
        """Wait until the server has ended."""
        await asyncio.gather(self._serving, return_exceptions=True)


@asynccontextmanager
async def dashboard(cells: int = 24, tokens: str = "") -> AsyncIterator[Rig]:
    """Serve the dashboard of so many cells on a port of its own, with the Admin API for who has one of the tokens."""
    clock = WallClock()
    world = FleetWorld(clock, cells, sign_in=bool(tokens))
    dead, source = Queue("dead", clock), Queue("source", clock)
    letters = DeadLetters(dead, "source", lambda *_: True, {"source": source}.__getitem__, KEYS, clock)
    believers, unforeseen = [Tokens(TokenSource(tokens), clock)], Unforeseen(world, clock)
    admin = admin_api(believers, world.registry, world.feed, lambda: nullcontext(letters), clock, unforeseen)
    app = create_app("router", CollectorRegistry(), list, list, _nothing, partial(_audit, world))
    add_dashboard(app, world.feed)
    with listen_on("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(serve_api(app, world.feed, listener, load({"CELLROUTER_SECRET": SECRET}), admin))
        rig = Rig(world, dead, f"http://127.0.0.1:{listener.getsockname()[1]}/", serving)
        rig.start()
        try:
            yield rig
        finally:
            await rig.stop()
            rig.end()
            await rig.ended()


async def _audit(world: FleetWorld, limit: int) -> Sequence[AuditEntry]:
    try:
        return await world.registry.audit(limit)
    except RegistryUnavailableError:
        return []


async def _nothing() -> list[object]:
    return []
