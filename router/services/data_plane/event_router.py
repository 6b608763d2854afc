"""The data plane of one router process, from start to drain.

Guarantees: after a stop, every event that was sent to a cell and answered has been deleted or forwarded, and every
other one is visible in its queue again. Nothing is lost, and nothing that was confirmed is delivered again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from router.core.lanes.copies import RecentCopies
from router.core.lanes.standing import LOOK_AHEAD
from router.core.messages.parser import Parser
from router.core.messages.proofs import AttributeKeys
from router.core.models import RouterReport
from router.ports import CellClient, Clock, EventSource, EventTracer, Observer, PolicyStore, RouterRegistry
from router.services.canary import CanaryTimer, canary_through
from router.services.data_plane.access import AccessWatch
from router.services.data_plane.archive.archivist import Archivist
from router.services.data_plane.consumer import Consumer, ConsumerConfig
from router.services.data_plane.dead_letter_queue import DeadLetterQueue
from router.services.data_plane.depths import DepthWatch
from router.services.data_plane.dispatcher import Dispatcher, DispatcherConfig, SideQueues
from router.services.data_plane.fifo.aside import AsideConfig, AsideQueue
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.hold_queue import HoldQueue
from router.services.data_plane.inbox import Inbox
from router.services.data_plane.payloads import Payloads
from router.services.data_plane.quarantine import QuarantineConfig, QuarantineQueue
from router.services.data_plane.reporter import Reporter
from router.services.data_plane.routing import RoutingMemory, RoutingWatcher
from router.services.data_plane.watched_queue import WatchedQueue
from router.services.loop_lag import LoopLag
from router.services.prober import Prober
from router.services.rehearsals import Rehearsals
from router.services.supervisor import run_until
from router.services.unforeseen import Unforeseen

DRAIN_POLL_S: Final = 0.02
SWEEP_WAIT_S: Final = 1.0  # of one receive from the quarantine queue
ARCHIVE_CLOSE_S: Final = 5.0  # what the archive gets at most, after all that events need
DRAIN_FLOOR_S: Final = 1.0  # what the queues get to take what was answered, even when the time is up


@dataclass(frozen=True, slots=True)
class DataPlaneConfig:
    """The configuration of one router's data plane."""

    source_name: str  # of the source queue, for the envelopes of dead letters
    consumer: ConsumerConfig
    dispatcher: DispatcherConfig
    quarantine: QuarantineConfig
    visibility_s: int = 30
    lease_ttl_s: float = 2.0
    drain_timeout_s: float = 15.0  # from the signal to the end of the process
    look_ahead: int = LOOK_AHEAD  # messages of a FIFO source through which SQS looks for a group that may go on
    address: str = ""  # ip:port of the router's API, for its report
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues that a router reads and writes."""

    source: EventSource
    dead_letters: EventSource
    quarantine: EventSource
    hold_of: Callable[[str], EventSource]  # by cell
    aside: EventSource | None = None  # of a FIFO source alone


def assemble(
    config: DataPlaneConfig,
    queues: Queues,
    registry: RouterRegistry,
    memory: RoutingMemory,
    client: CellClient,
    parser: Parser,
    payloads: Payloads,
    keys: AttributeKeys,
    clock: Clock,
    observer: Observer,
    tracer: EventTracer | None = None,
    archive: Archivist | None = None,
) -> EventRouter:
    """Put the parts of one router's data plane together."""
    make = _Maker(config, payloads, AccessWatch(clock, observer), keys, clock, observer, tracer, archive)
    inbox, access = make.inbox_of(make.watched(queues.source)), make.access
    depths = make.depths(queues, inbox, lambda: dispatcher)
    side_queues = make.side_queues(queues, depths, registry)
    lag, unforeseen = LoopLag(clock), Unforeseen(observer, clock)
    dispatcher = Dispatcher(
        config.dispatcher, parser, client, side_queues, clock, observer, unforeseen, access, archive
    )
    mine = RouterReport(config.quarantine.who, 0, quiet=True, address=config.address, zone=config.zone)
    ttl_s = config.lease_ttl_s
    watcher = RoutingWatcher(mine, registry, memory, dispatcher, depths, clock, unforeseen, observer, ttl_s)
    probe, told = canary_through(client, unforeseen), dispatcher.samples
    prober = Prober(lambda: watcher.seen, CanaryTimer(probe, lag, clock), clock)
    rehearsals = Rehearsals(lambda: watcher.seen, partial(_keep_copies, dispatcher), probe, lag, clock)
    tries = prober.canaries, rehearsals.pairs
    return EventRouter(
        lag=lag,
        prober=prober,
        rehearsals=rehearsals,
        reporter=Reporter(mine.router_id, registry, told, *tries, lag, clock, unforeseen),
        inbox=inbox,
        access=access,
        depths=depths,
        consumer=Consumer(config.consumer, inbox, dispatcher.accept, dispatcher.relieve, access.at_standstill, clock),
        dispatcher=dispatcher,
        watcher=watcher,
        clock=clock,
        observer=observer,
        drain_timeout_s=config.drain_timeout_s,
        archive=archive,
    )


def _keep_copies(dispatcher: Dispatcher, cell_id: str, copies: RecentCopies | None) -> None:
    if (path := dispatcher.paths.get(cell_id)) is not None:
        path.lane.copies = copies


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the parts of which there are several."""

    config: DataPlaneConfig
    payloads: Payloads
    access: AccessWatch
    keys: AttributeKeys
    clock: Clock
    observer: Observer
    tracer: EventTracer | None
    archive: Archivist | None

    def side_queues(self, queues: Queues, depths: DepthWatch, store: PolicyStore) -> SideQueues:
        sweep = self.side_queue(queues.quarantine, SWEEP_WAIT_S)
        dead = Forwarder(self.watched(queues.dead_letters), self.clock)
        return SideQueues(
            dead_letters=DeadLetterQueue(dead, self.config.source_name, self.clock, self.observer, self.archive),
            hold_of=lambda cell_id: self.side_queue(queues.hold_of(cell_id), self.config.consumer.wait_s),
            quarantine=QuarantineQueue(self.config.quarantine, sweep, store, self.clock, self.observer),
            aside=self.aside(queues.aside, depths, store) if queues.aside is not None else None,
        )

    def depths(self, queues: Queues, source: Inbox, dispatcher: Callable[[], Dispatcher]) -> DepthWatch:
        named = {"source": queues.source, "dead letters": queues.dead_letters, "quarantine": queues.quarantine}

        def others() -> Iterable[EventSource]:
            return (path.hold.queue for path in dispatcher().paths.values())

        return DepthWatch(named, others, source.age, self.clock, self.observer)

    def watched(self, queue: EventSource) -> EventSource:
        return WatchedQueue(queue, self.clock, self.observer)

    def inbox_of(self, queue: EventSource) -> Inbox:
        visibility_s = self.config.visibility_s
        more = self.keys, self.access, self.tracer
        return Inbox(queue, self.payloads, self.clock, self.observer, visibility_s, *more)

    def side_queue(self, queue: EventSource, wait_s: float) -> HoldQueue:
        queue = self.watched(queue)
        return HoldQueue(self.inbox_of(queue), Forwarder(queue, self.clock), self.clock, wait_s, self.keys)

    def aside(self, queue: EventSource, depths: DepthWatch, store: PolicyStore) -> AsideQueue:
        queue, wait_s = self.watched(queue), self.config.consumer.wait_s
        way = AsideConfig(self.config.quarantine.who, self.config.look_ahead, wait_s)
        return AsideQueue(way, queue, self.inbox_of(queue), depths, store, self.keys, self.clock, self.observer)


@dataclass(frozen=True, slots=True)
class EventRouter:
    """The parts of one router's data plane, run together: from the consumer to the reporter."""

    lag: LoopLag
    prober: Prober
    rehearsals: Rehearsals
    reporter: Reporter
    inbox: Inbox
    access: AccessWatch
    depths: DepthWatch
    consumer: Consumer
    dispatcher: Dispatcher
    watcher: RoutingWatcher
    clock: Clock
    observer: Observer
    drain_timeout_s: float
    archive: Archivist | None = None  # None: there is none

    async def run(self, stop: asyncio.Event) -> None:
        """Route until `stop` is set, then drain. Raises TaskDiedError when a part of it dies."""
        ended = asyncio.Event()
        tasks = {
            "inbox": self.inbox.run(),
            "access": self.access.run(),
            "depths": self.depths.run(),
            "dispatcher": self.dispatcher.run(),
            "routing": self.watcher.run(),
            "lag": self.lag.run(),
            "prober": self.prober.run(),
            "rehearsals": self.rehearsals.run(),
            "reporter": self.reporter.run(),
            "consumer": self._consume(stop, ended),
        }
        if (aside := self.dispatcher.aside) is not None:
            tasks["aside"] = aside.run(self.dispatcher.accept)
        if self.archive is not None:
            tasks["archive"] = self.archive.run()
        await run_until(ended, tasks, self.observer)

    async def _consume(self, stop: asyncio.Event, ended: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            consuming = group.create_task(self._poll(stop))
            await stop.wait()
            deadline = self.clock.monotonic() + self.drain_timeout_s
            self.consumer.stop()
            self.dispatcher.stop()  # now, so that what is not sent is free for other routers while the last polls end
            while not (consuming.done() and not self.dispatcher.in_flight()) and self.clock.monotonic() < deadline:
                await self.clock.sleep(DRAIN_POLL_S)
            await self._drain(max(DRAIN_FLOOR_S, deadline - self.clock.monotonic()))
            consuming.cancel()
        if self.archive is not None:
            left_s = deadline - self.clock.monotonic()
            await self.archive.close(min(ARCHIVE_CLOSE_S, max(DRAIN_FLOOR_S, left_s)))
        ended.set()
        await asyncio.Event().wait()  # until cancelled: a task that ends ends the process

    async def _poll(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        routed = asyncio.create_task(self.dispatcher.routed.wait())
        try:
            await asyncio.wait([stopping, routed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            routed.cancel()
        if self.dispatcher.routed.is_set():
            await self.consumer.run()

    async def _drain(self, left_s: float) -> None:
        try:
            async with asyncio.timeout(left_s):
                await self.dispatcher.drained()
                if self.dispatcher.aside is not None:
                    await self.dispatcher.aside.drained()
                await self.inbox.drained()
        except TimeoutError:
            return  # what is left becomes visible by itself when its visibility timeout ends
