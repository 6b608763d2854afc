"""Watches the fleet for the dashboard: reads the registry, remembers an hour, and tells every open page what is new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from router.api.components import Components
from router.api.views import cell_views
from router.core.errors import RegistryUnavailableError
from router.core.fleet.history import History
from router.core.fleet.overview import About, FleetStatus, Known, Overview, not_made, overview, without_registry
from router.core.models import Reason
from router.core.registry import Condition, Snapshot
from router.core.scaling.decision import ScalingDecision
from router.ports import Clock, FleetReader, InstanceControl
from router.services.unforeseen import Unforeseen

LIVE_S: Final = 1.0  # between two looks while somebody watches: the leader and routers say something new once a second
IDLE_S: Final = 10.0  # while nobody does: as often as the history has a step
SHARE: Final = 0.02  # of the process' time, which putting the page together may take at most
POLLED_S: Final = 10.0  # so long after a page has asked without a stream, somebody watches
MAX_STREAMS: Final = 16  # pages that are open at once; others ask every few seconds
AUDIT_READ: Final = 500  # entries, to name who has drained or frozen a cell


class FleetFeed:
    """Keeps the newest overview, and who is told of it.

    `spent` says how many seconds of the process' time the loop has taken.
    """

    def __init__(
        self,
        about: About,
        registry: FleetReader,
        instances: InstanceControl,
        troubles: Callable[[], Sequence[Reason]],
        clock: Clock,
        unforeseen: Unforeseen,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self.registry = registry
        self.history = History()
        self.components = Components(instances, clock)
        self._troubles = troubles
        self._clock = clock
        self._unforeseen = unforeseen
        self._spent = spent
        now = clock.time_ms()
        empty = overview(about, Known(Snapshot(now, None, {}, (), ""), (), {}, (), ()))
        self._about = about
        self._known = replace(
            empty, status=FleetStatus.UNKNOWN, headline="Nothing is known yet", needs=(), watched_ms=now, since_ms=now
        )
        self.shown = self._known  # as it was last, with what is amiss since
        self._began_at = clock.monotonic()
        self._read_at: float | None = None  # when the registry was last read
        self._polled_at = -POLLED_S
        self.streams = 0  # pages that are told of news
        self._published = asyncio.Event()
        self._closed = False

    @property
    def newest(self) -> bytes:
        """The newest overview as JSON, for a page that asks for it."""
        self._polled_at = self._clock.monotonic()
        return self._encoded()

    @property
    def full(self) -> bool:
        """Whether as many pages are told of news as may be."""
        return self.streams >= MAX_STREAMS or self._closed

    def close(self) -> None:
        """End all streams, so that the server need not wait for them."""
        self._closed = True
        self._published.set()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield the newest overview, and every one that comes after it, until the feed is closed."""
        self.streams += 1
        try:
            while not self._closed:
                published = self._published
                yield b"data: " + self._encoded() + b"\n\n"
                await published.wait()
        finally:
            self.streams -= 1

    async def run(self) -> None:
        """Look at the fleet again and again, until cancelled: often while somebody watches."""
        due = 0.0
        while True:
            began = self._clock.monotonic()
            if began >= due or self._watched(began):
                took_s = await self._look()
                due = began + max(IDLE_S, took_s / SHARE)
                await self._clock.sleep(max(LIVE_S, took_s / SHARE))
            else:
                await self._clock.sleep(LIVE_S)

    def _watched(self, now: float) -> bool:
        return self.streams > 0 or now - self._polled_at < POLLED_S

    async def _look(self) -> float:
        """Read and publish; returns how many seconds it took to put the page together."""
        took_s = 0.0
        try:
            snapshot = await self.registry.snapshot()
            conditions, samples = await self.registry.conditions(), await self.registry.samples()
            audit = await self.registry.audit(AUDIT_READ) if _kept_by_hand(snapshot) else []
            began, read_at = self._spent(), self._clock.monotonic()
            views = cell_views(snapshot, conditions)
            found = overview(
                self._about, Known(snapshot, views, samples, audit, self._troubles(), _scaling(conditions))
            )
            self.history.note(self._clock.time_ms(), found.load, found.cells)
            self.shown = self._known = self._dated(found)
            self._read_at = read_at
            took_s = self._spent() - began
        except RegistryUnavailableError as error:
            self.shown = self._dated(without_registry(self._known, str(error)))
        except Exception as error:  # noqa: BLE001 - what is shown must not end what routes
            self.shown = self._dated(not_made(self._known, self._unforeseen.note("dashboard", error)))
        published, self._published = self._published, asyncio.Event()
        published.set()
        return took_s

    def _dated(self, found: Overview) -> Overview:
        """Say since when the fleet is as it is, and how much has moved, as far back as this process has watched."""
        same = found.status is self.shown.status or self._read_at is None
        since_ms = self.shown.since_ms if same else self._clock.time_ms()
        moving, before = found.moving, self.shown.moving
        if moving is not None and before is not None:
            moving = replace(moving, most=max(moving.most, before.most))
        return replace(found, since_ms=since_ms, watched_ms=self.shown.watched_ms, moving=moving)

    def _encoded(self) -> bytes:
        read_at = self._began_at if self._read_at is None else self._read_at
        age_s = round(self._clock.monotonic() - read_at, 1)
        return msgspec.json.encode(replace(self.shown, age_s=age_s))


def _scaling(conditions: Mapping[str, Condition]) -> ScalingDecision | None:
    """Return what the leader says last of the number of cells."""
    newest = max(conditions.values(), key=lambda condition: condition.at_ms, default=None)
    return newest.scaling if newest is not None else None


def _kept_by_hand(snapshot: Snapshot) -> bool:
    policy = snapshot.policy
    return bool(policy.cordoned or policy.draining or policy.frozen or policy.ejected)
