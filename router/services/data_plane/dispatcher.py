"""Messages → events → lanes, and from each answer to where the event goes next.

Guarantees: every event of an accepted message ends in exactly one of these ways: its cell confirmed it; it was
written to its cell's hold queue, to the quarantine queue or to the dead-letter queue; or its message was let go and
comes again. Only the former settle it. No lane waits for another. Events of a FIFO source are never written to a
hold queue: they stay in their own, and so in order; so do those that fit in no other message than their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, Final

from router.core.detection.samples import CellSample
from router.core.errors import MalformedMessageError
from router.core.lanes import retry
from router.core.lanes.admission import Admission, Isolate, Wait
from router.core.lanes.lane import LaneLimits
from router.core.messages import dead_letter
from router.core.messages.batches import BATCH
from router.core.messages.parser import Parser, can_be_held
from router.core.models import Contact, Event, Outcome, Result, Traffic
from router.core.policy import Policy
from router.core.slot_map.routing import Routing
from router.core.slot_map.slots import NO_MOVE, SlotMap
from router.core.telemetry import EventDeadLettered, EventHeld
from router.ports import CellClient, Clock, Observer
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.groups import Groups
from router.services.data_plane.hold_queue import HoldQueue
from router.services.data_plane.inbox import Delivery, Inbox, Received
from router.services.data_plane.lane_runner import LaneRunner
from router.services.data_plane.quarantine import QuarantineQueue

UNEXPECTED: Final = "cellrouter failed on it, which is a bug:"
SHED: Final = 2 * BATCH  # events at once: more than one poll brings, and no more than others don't notice
MOVING_S: Final = 1  # how long an event of a key that moves isn't looked at: a move takes little longer
MAX_UNANSWERED: Final = 8  # generations in an event's history: it travels in a message attribute


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """What the dispatcher decides by."""

    source_name: str
    retry: retry.RetryPolicy
    max_events: int  # in all lanes together, shared evenly when it is tight
    max_bytes: int


@dataclass(frozen=True, slots=True)
class SideQueues:
    """Where events go that can't go to their cell."""

    dead_letters: Forwarder
    hold_of: Callable[[str], HoldQueue]
    quarantine: QuarantineQueue


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
        queues: SideQueues,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._config = config
        self._parser = parser
        self._client = client
        self._queues = queues
        self._clock = clock
        self._observer = observer
        self._group = asyncio.TaskGroup()
        self._groups = Groups(self._route)
        self._admission = Admission(lambda: self._limits.share_events // 4)
        self._limits = LaneLimits()
        self._routing: Routing | None = None
        self._cells: frozenset[str] = frozenset()  # those that own slots
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
            self._group.create_task(self._queues.quarantine.run(partial(self._accept, from_hold=True)))
            await self._queues.dead_letters.run()

    def apply(self, routing: Routing, policy: Policy) -> None:
        """Route by this from now on. Lanes of new cells are made; those of cells that left the map run dry.

        What waits in the hold queue of a cell that left goes to the keys' new owners. What is about to move to another
        cell waits in that one's.
        """
        self._routing = routing
        self._admission.policy = self._queues.quarantine.apply(policy)
        self._cells = routing.slot_map.cells()
        if not self._stopping:
            for cell_id in sorted((self._cells | routing.cells) - self.paths.keys()):
                self._open_path(cell_id)
        if routing.slot_map.move is not NO_MOVE:
            for path in self.paths.values():
                self._to_hold(path.lane, path.lane.take_out(self._moves), "moving", MOVING_S)
        count = max(1, len(self._cells))
        self._limits = LaneLimits(max(BATCH, self._config.max_events // count), self._config.max_bytes // count)
        for cell_id, path in self.paths.items():
            path.lane.resize(self._limits)
            path.lane.retarget(routing.targets.get(cell_id))
            unsent = path.lane.eject(ejected=cell_id in routing.ejected, abandon=cell_id in routing.useless)
            self._to_hold(path.lane, unsent, "ejected")
        self.routed.set()

    def accept(self, inbox: Inbox, batch: Sequence[Received]) -> None:
        """Take messages of the source in. There must be a slot map: see `routed`."""
        self._accept(inbox, batch, from_hold=False)

    def relieve(self) -> None:
        """There is no room for more: when a cell lacks events, others' lanes shed what is over their share."""
        lanes = [path.lane for path in self.paths.values()]
        if any(lane.hungry() for lane in lanes):
            for lane in lanes:
                self._to_hold(lane, lane.shed(SHED), "over share")

    def stop(self) -> None:
        """Send nothing more, and let go of what has not been sent, so that it is at once free for another router."""
        self._stopping = True
        self._queues.quarantine.stop()
        for path in self.paths.values():
            path.hold.stop()
            for delivery in path.lane.clear():
                delivery.inbox.let_go(delivery.received, 0)

    def quiet(self) -> bool:
        """Whether nothing of what the map moves is on its way to a cell."""
        moving = self._routing is not None and self._routing.slot_map.move is not NO_MOVE
        return not (moving and any(path.lane.sends(self._moves) for path in self.paths.values()))

    def traffic(self) -> dict[str, Traffic]:
        """What went to each cell so far."""
        lanes = [path.lane for path in self.paths.values()]
        return {lane.cell_id: Traffic(lane.answered, len(lane.tenants)) for lane in lanes if lane.answered}

    def samples(self, tenants: int) -> dict[str, CellSample]:
        """What was seen of each cell's instance since the last call. `tenants`: to remember, of all cells together."""
        suspect = self._routing.suspect if self._routing is not None else frozenset()
        each = tenants // max(1, len(self.paths))
        found = {
            cell_id: path.lane.sample(learning=cell_id not in suspect, tenants=each)
            for cell_id, path in self.paths.items()
        }
        return {cell_id: sample for cell_id, sample in found.items() if sample is not None}

    def in_flight(self) -> int:
        """Events sent and not yet answered."""
        return sum(path.lane.in_flight for path in self.paths.values())

    async def drained(self) -> None:
        """After `stop`: wait until every answer has had its effect on the queues."""
        holds = [self._queues.quarantine.hold, *(path.hold for path in self.paths.values())]
        for hold in holds:
            await hold.stopped()
        for hold in holds:
            await hold.forwarded()
        await self._queues.dead_letters.drained()
        for hold in holds:  # last: what was forwarded is settled in the queue that it came from
            await hold.settled()

    def _open_path(self, cell_id: str) -> None:
        lane = LaneRunner(cell_id, self._client, self._clock, self._observer, self._on_result, self._on_shut)
        hold = self._queues.hold_of(cell_id)
        path = self.paths[cell_id] = CellPath(lane, hold)
        self._group.create_task(lane.run())
        self._group.create_task(hold.run(partial(self._demand, path), partial(self._accept, from_hold=True)))

    def _demand(self, path: CellPath) -> int:
        """How many messages of the cell's hold queue are wanted; their keys may have another owner by now."""
        if len(path.hold) >= 2 * self._limits.share_events or path.hold.bytes >= 2 * self._limits.share_bytes:
            return 0
        return path.lane.demand() if path.lane.cell_id in self._cells else BATCH

    def _accept(self, inbox: Inbox, batch: Sequence[Received], *, from_hold: bool) -> None:
        deliveries = [delivery for received in batch for delivery in self._opened(inbox, received, from_hold=from_hold)]
        if inbox.fifo and not self._stopping:
            self._groups.add(deliveries)
        else:
            for delivery in deliveries:
                self._route(delivery)

    def _opened(self, inbox: Inbox, received: Received, *, from_hold: bool) -> list[Delivery]:
        events, fault = self._parsed(received)
        inbox.opened(received, 1 if fault else len(events))
        if fault:
            letter = dead_letter.of_message(received.message, **self._circumstances("malformed", fault))
            self._bury(letter, inbox, received)
            return []
        return [Delivery(self._counted(event, received), received, inbox, from_hold) for event in events]

    def _counted(self, event: Event, received: Received) -> Event:
        failures = self._groups.failures_of(received.message.message_id, event.event_id)
        return replace(event, attempt=failures + 1) if failures else event

    def _parsed(self, received: Received) -> tuple[list[Event], str]:
        """The events, or why there are none."""
        if received.fault:
            return [], received.fault
        try:
            return self._parser.parse(received.message), ""
        except MalformedMessageError as error:
            return [], str(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours; one message must not end every router that gets it
            return [], f"{UNEXPECTED} {type(error).__name__}: {error}"

    def _route(self, delivery: Delivery) -> None:
        assert self._routing is not None, "accept before the first apply"
        if self._stopping:
            delivery.inbox.let_go(delivery.received, 0)
            return
        event, slot_map = delivery.event, self._routing.slot_map
        path = self.paths[slot_map.cell_of(event.partition_key)]
        if slot_map.move is not NO_MOVE and self._moves(event.partition_key):
            self._hold(path, delivery, event, MOVING_S, "moving")
            return
        generation = path.lane.target.generation if path.lane.target else None
        if isolate := self._admission.quarantine(event, generation, self._clock.time_ms()):
            self._isolate(path, delivery, isolate)
        elif generation is None or not path.lane.passable():
            self._hold(path, delivery, event, 0, "ejected" if path.lane.ejected else "shut")
        else:
            self._admit(path, delivery, generation)

    def _admit(self, path: CellPath, delivery: Delivery, generation: int) -> None:
        now = self._clock.monotonic()
        match self._admission.check(delivery.event, generation, path.lane.waiting_of, now):
            case Wait(delay_s, cause):
                self._hold(path, delivery, delivery.event, ceil(delay_s), cause)
            case passes:
                delivery.suspect = passes.suspect
                if not path.lane.offer(delivery, passes.cap):
                    self._hold(path, delivery, delivery.event, 0, "shut")

    def _isolate(self, path: CellPath, delivery: Delivery, isolate: Isolate) -> None:
        if isolate.why:
            self._quarantine_key(path, delivery.event.partition_key, isolate.why)
        event = replace(delivery.event, unanswered=())  # a fresh start once it is released
        if self._stays(delivery):
            delivery.inbox.let_go(delivery.received, self._queues.quarantine.wait_s(isolate.left_s))
        else:
            self._queues.quarantine.put(path.lane.cell_id, delivery, event, isolate.left_s)

    def _quarantine_key(self, path: CellPath, key: str, why: str) -> None:
        self._admission.poison.forget(key)
        self._admission.policy = self._queues.quarantine.quarantine(key, path.lane.cell_id, why)

    def _on_result(self, lane: LaneRunner, delivery: Delivery, result: Result) -> None:
        path, event = self.paths[lane.cell_id], self._judged(lane, delivery, result)
        receives, jitter = delivery.received.message.receive_count, self._clock.jitter()
        match retry.decide(self._config.retry, event, result, receives=receives, jitter=jitter):
            case retry.Settle():
                delivery.settle()
            case retry.Hold(event, delay_s):
                self._hold(path, delivery, event, delay_s, result.outcome.value)
            case retry.ToDeadLetters(reason, error):
                circumstances = self._circumstances(reason, error, cell_id=lane.cell_id, generation=delivery.generation)
                letter = dead_letter.of_event(delivery.event, delivery.received.message, **circumstances)
                self._bury(letter, delivery.inbox, delivery.received)

    def _judged(self, lane: LaneRunner, delivery: Delivery, result: Result) -> Event:
        """Note what the result says of the key; the event as it goes on."""
        event, poison = delivery.event, self._admission.poison
        if result.contact is Contact.NOT_REACHED:
            return event
        if result.contact is Contact.SILENT:
            poison.unanswered(event.partition_key, delivery.generation)
            seen = (*(g for g in event.unanswered if g != delivery.generation), delivery.generation)
            return replace(event, unanswered=seen[-MAX_UNANSWERED:])
        poison.answered(event.partition_key, delivery.generation)
        if result.outcome is Outcome.OK:
            poison.succeeded(event.partition_key)
            return event
        if result.outcome is Outcome.FAILED:
            count = poison.failed(event.partition_key, event.event_id, lane.answered)
            if count >= self._config.retry.max_attempts:
                why = f"failed {count} times in a row, while other keys of its cell did not: {result.reason:.200}"
                self._quarantine_key(self.paths[lane.cell_id], event.partition_key, why)
        return replace(event, unanswered=()) if event.unanswered else event

    def _on_shut(self, lane: LaneRunner, waiting: list[Delivery]) -> None:
        self._to_hold(lane, waiting, "shut")

    def _to_hold(self, lane: LaneRunner, deliveries: list[Delivery], cause: str, delay_s: int = 0) -> None:
        for delivery in deliveries:
            self._hold(self.paths[lane.cell_id], delivery, delivery.event, delay_s, cause)

    def _hold(self, path: CellPath, delivery: Delivery, event: Event, delay_s: int, cause: str) -> None:
        self._observer.observe(EventHeld(path.lane.cell_id, cause))
        if not self._stays(delivery):
            self._owner(event, path).hold.put(delivery, event, delay_s)
            return
        message = delivery.received.message
        if event.attempt > delivery.event.attempt:
            self._groups.failed(message.message_id, event.event_id)
        pause = delay_s or retry.delay_s(self._config.retry, message.receive_count, self._clock.jitter())
        delivery.inbox.let_go(delivery.received, max(1, pause))

    def _owner(self, event: Event, path: CellPath) -> CellPath:
        """The path of the key's owner, or of the one to come: the cell that the event was for may have left the map."""
        assert self._routing is not None, "held before the first apply"
        slot_map, key = self._routing.slot_map, event.partition_key
        return self.paths.get(slot_map.destination_of(key) or slot_map.cell_of(key), path)

    def _moves(self, key: str) -> bool:
        assert self._routing is not None, "asked before the first apply"
        return self._routing.slot_map.destination_of(key) is not None

    def _stays(self, delivery: Delivery) -> bool:
        """Whether an event that has to wait does so in its own queue: for its order, or for its size."""
        return delivery.inbox.fifo or not can_be_held(delivery.event)

    def _bury(self, letter: dead_letter.DeadLetter, inbox: Inbox, received: Received) -> None:
        self._observer.observe(EventDeadLettered(letter.reason))
        self._queues.dead_letters.put(dead_letter.to_draft(letter), inbox, received)

    def _circumstances(self, reason: str, error: str, **more: Any) -> dict[str, Any]:
        source, now_ms = self._config.source_name, self._clock.time_ms()
        return {"reason": reason, "error": error, "source": source, "dead_at_ms": now_ms, **more}
