"""Messages → events → lanes, and from each answer to where the event goes next.

Guarantees: every event of an accepted message ends in exactly one of these ways: its cell confirmed it; it was
written to its cell's hold queue; it was written to the dead-letter queue; or its message was let go and comes again.
Only the first three settle it. No lane waits for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from router.core import dead_letter, retry
from router.core.errors import MalformedMessageError
from router.core.lane import LaneLimits
from router.core.messages import Parser
from router.core.models import Event, Result, Target
from router.core.slots import SlotMap
from router.core.telemetry import EventDeadLettered, EventHeld
from router.ports import CellClient, Clock, EventSource, Observer
from router.services.batcher import BATCH
from router.services.delivery import Delivery
from router.services.forwarder import Forwarder
from router.services.hold import HoldQueue
from router.services.inbox import Held, Inbox
from router.services.lane_runner import LaneRunner


@dataclass(frozen=True, slots=True)
class Routing:
    """Which cell owns a key, and where each cell is now."""

    slot_map: SlotMap
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """What the dispatcher decides by."""

    source_name: str
    retry: retry.RetryPolicy
    max_events: int  # in all lanes together, shared evenly when it is tight
    max_bytes: int
    visibility_s: int
    wait_s: float  # of one long poll of a hold queue


@dataclass(slots=True, eq=False)
class CellPath:
    """A lane and its hold queue."""

    lane: LaneRunner
    hold: HoldQueue


class Dispatcher:
    """Owns the lanes."""

    def __init__(
        self,
        config: DispatcherConfig,
        parser: Parser,
        client: CellClient,
        dead_letters: EventSource,
        hold_queue: Callable[[str], EventSource],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._config = config
        self._parser = parser
        self._client = client
        self._dead_letters = Forwarder(dead_letters, clock)
        self._hold_queue = hold_queue
        self._clock = clock
        self._observer = observer
        self._group = asyncio.TaskGroup()
        self._routing: Routing | None = None
        self._stopping = False
        self.paths: dict[str, CellPath] = {}
        self.routed = asyncio.Event()  # set once there is a slot map

    @property
    def slot_map(self) -> SlotMap | None:
        """The map that events are routed by."""
        return self._routing.slot_map if self._routing else None

    async def run(self) -> None:
        """Run every lane until cancelled."""
        async with self._group:
            await self._dead_letters.run()

    def apply(self, routing: Routing) -> None:
        """Route by this from now on. Lanes of new cells are made; lanes of cells that left the map just run dry."""
        self._routing = routing
        cells = set(routing.slot_map.owners)
        for cell_id in sorted(cells - self.paths.keys()):
            self._open_path(cell_id)
        count = len(self.paths)
        limits = LaneLimits(max(BATCH, self._config.max_events // count), self._config.max_bytes // count)
        for cell_id, path in self.paths.items():
            path.lane.resize(limits)
            path.lane.retarget(routing.targets.get(cell_id))
        self.routed.set()

    def accept(self, inbox: Inbox, helds: Sequence[Held]) -> None:
        """Take messages of the source in. There must be a slot map: see `routed`."""
        self._accept(inbox, helds, from_hold=False)

    def relieve(self) -> None:
        """There is no room for more: when a cell lacks events, others' lanes shed what is over their share."""
        lanes = [path.lane for path in self.paths.values()]
        if any(lane.hungry() for lane in lanes):
            for lane in lanes:
                self._to_hold(lane, lane.shed(), "over share")

    def stop(self) -> None:
        """Send nothing more, and let go of what has not been sent, so that it is at once free for another router."""
        self._stopping = True
        for path in self.paths.values():
            path.hold.stop()
            for delivery in path.lane.clear():
                delivery.inbox.let_go(delivery.held, 0)

    def in_flight(self) -> int:
        """Events sent and not yet answered."""
        return sum(path.lane.in_flight for path in self.paths.values())

    async def drained(self) -> None:
        """After `stop`: wait until every answer has had its effect on the queues."""
        for path in self.paths.values():
            await path.hold.drained()
        await self._dead_letters.drained()

    def _open_path(self, cell_id: str) -> None:
        config = self._config
        lane = LaneRunner(cell_id, self._client, self._clock, self._observer, self._on_result, self._on_shut)
        queue = self._hold_queue(cell_id)
        hold = HoldQueue(queue, self._clock, self._observer, visibility_s=config.visibility_s, wait_s=config.wait_s)
        self.paths[cell_id] = CellPath(lane, hold)
        self._group.create_task(lane.run())
        self._group.create_task(hold.run(lane, partial(self._accept, from_hold=True)))

    def _accept(self, inbox: Inbox, helds: Sequence[Held], *, from_hold: bool) -> None:
        for held in helds:
            try:
                events = self._parser.parse(held.message)
            except MalformedMessageError as error:
                inbox.opened(held, 1)
                self._bury(
                    dead_letter.of_message(held.message, **self._circumstances("malformed", str(error))), inbox, held
                )
            else:
                inbox.opened(held, len(events))
                for event in events:
                    self._route(Delivery(event, held, inbox, from_hold))

    def _route(self, delivery: Delivery) -> None:
        assert self._routing is not None, "accept before the first apply"
        if self._stopping:
            delivery.inbox.let_go(delivery.held, 0)
            return
        path = self.paths[self._routing.slot_map.cell_of(delivery.event.partition_key)]
        if not path.lane.offer(delivery):
            self._hold(path, delivery, delivery.event, 0, "shut")

    def _on_result(self, lane: LaneRunner, delivery: Delivery, result: Result) -> None:
        receives, jitter = delivery.held.message.receive_count, self._clock.jitter()
        match retry.decide(self._config.retry, delivery.event, result, receives=receives, jitter=jitter):
            case retry.Settle():
                delivery.settle()
            case retry.Hold(event, delay_s):
                self._hold(self.paths[lane.cell_id], delivery, event, delay_s, result.outcome.value)
            case retry.DeadLetter(reason, error):
                circumstances = self._circumstances(reason, error, cell_id=lane.cell_id, generation=delivery.generation)
                letter = dead_letter.of_event(delivery.event, delivery.held.message, **circumstances)
                self._bury(letter, delivery.inbox, delivery.held)

    def _on_shut(self, lane: LaneRunner, waiting: list[Delivery]) -> None:
        self._to_hold(lane, waiting, "shut")

    def _to_hold(self, lane: LaneRunner, deliveries: list[Delivery], cause: str) -> None:
        for delivery in deliveries:
            self._hold(self.paths[lane.cell_id], delivery, delivery.event, 0, cause)

    def _hold(self, path: CellPath, delivery: Delivery, event: Event, delay_s: int, cause: str) -> None:
        self._observer.observe(EventHeld(path.lane.cell_id, cause))
        path.hold.put(delivery, event, delay_s)

    def _bury(self, letter: dead_letter.DeadLetter, inbox: Inbox, held: Held) -> None:
        self._observer.observe(EventDeadLettered(letter.reason))
        self._dead_letters.put(dead_letter.to_draft(letter), inbox, held)

    def _circumstances(self, reason: str, error: str, **more: Any) -> dict[str, Any]:
        source, now_ms = self._config.source_name, self._clock.time_ms()
        return {"reason": reason, "error": error, "source": source, "dead_at_ms": now_ms, **more}
