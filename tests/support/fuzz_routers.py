"""What stress runs and drills read of routers' answers, as functions of the bytes that came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast

from router.core.registry import Snapshot
from router.demo.drills.live import LiveLoad
from router.demo.stress.events import StressError
from router.demo.stress.routers import StressRouters
from router.services.drills import UnseenError
from tests.support.fake_clock import FakeClock
from tests.support.fuzz_answers import Response

NOTHING: Final = Snapshot(0, None, {}, (), "")


class _AnsweringRouter:
    """A session to a router that answers everything with the same bytes."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @asynccontextmanager
    async def get(self, *_: Any, **__: Any) -> AsyncIterator[Response]:
        yield Response(self._raw, 200, "")


def lanes_of_a_router(raw: bytes) -> object:
    """Look at the load of live, twice."""
    load = LiveLoad(cast("Any", _AnsweringRouter(raw)), ["http://router"] * 2, FakeClock())
    with suppress(UnseenError):
        asyncio.run(load.seen(NOTHING))
        return asyncio.run(load.seen(NOTHING))
    return None


def counts_of_a_stress_run(raw: bytes) -> object:
    """Add up what two routers have counted, and take the figures of it."""
    with suppress(StressError):
        totals = asyncio.run(StressRouters(cast("Any", _AnsweringRouter(raw)), ["http://router"] * 2, "run").totals())
        return [each.quantile(0.99) for tenants in totals.tenants.values() for each in tenants.values()]
    return None


OF_ROUTERS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "lanes": lanes_of_a_router,
    "stress run": counts_of_a_stress_run,
}
