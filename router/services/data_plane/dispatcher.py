"""Messages become events, events go into lanes, and each answer decides where its event goes next.

Guarantees: every event of an accepted message ends in exactly one of three ways. Its cell confirmed it; or it was
written to its cell's hold queue, to the quarantine queue or to the dead-letter queue; or its message was let go and
comes again. Only the first two settle it. No lane waits for another one. Events that must keep their order (those of a
FIFO source, unless they are dead), or that fit in no message but their own, are never written to a hold queue: they
wait in their own queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

from router.core.detection.samples import MAX_TENANTS, CellSample, tenants_told
from router.core.errors import UnconfirmedSubscriptionError
from router.core.lanes import retry
from router.core.lanes.admission import MAX_KILLS, Admission, OverLimit, ToQuarantine, into_quarantine, why_dead
from router.core.lanes.lane import LaneLimits
from router.core.messages.batches import BATCH
from router.core.messages.parser import Parser, can_be_held
from router.core.models import Contact, DeadLetterReason, Event, HoldCause, Outcome, Result, Traffic
from router.core.policy import FifoHead, Policy
from router.core.slot_map.routing import Routing
from router.core.slot_map.slots import NO_MOVE, SlotMap
from router.core.telemetry import EventHeld, SetupMessageSeen, SubscriptionUnconfirmed
from router.ports import CellClient, Clock, Observer
from router.services.data_plane.access import AccessWatch
from router.services.data_plane.archive.archivist import Archivist
from router.services.data_plane.dead_letter_queue import DeadLetterQueue
from router.services.data_plane.fifo.aside import AsideQueue
from router.services.data_plane.fifo.groups import Groups
from router.services.data_plane.forwarder import RELEASE_DELAY_S
from router.services.data_plane.hold_queue import HoldQueue
from router.services.data_plane.inbox import Delivery, Inbox, Received, read
from router.services.data_plane.lane_runner import LaneRunner
from router.services.data_plane.quarantine import BlockedHead, QuarantineQueue
from router.services.unforeseen import Unforeseen

SHED: Final = 2 * BATCH  # events that a lane sheds at once: more than one poll brings, few enough not to disturb others
UNFORESEEN_S: Final = 30  # until a message comes again that this router failed on
UNROUTED_S: Final = 1  # until a message comes again that was received before there is a slot map
MOVING_S: Final = 1  # how long an event stays in the hold queue while its key moves: a move takes little longer


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """How events are retried, and how much all lanes together may hold; they share it evenly when it is tight."""

    retry: retry.RetryPolicy
    max_events: int
    max_bytes: int
    max_kills: int = MAX_KILLS  # instances that an event may kill


@dataclass(frozen=True, slots=True)
class SideQueues:
    """The queues for events that can't go to their cell, or not now."""

    dead_letters: DeadLetterQueue
    hold_of: Callable[[str], HoldQueue]  # by cell
    quarantine: QuarantineQueue
    aside: AsideQueue | None = None  # of a FIFO source alone


@dataclass(slots=True, eq=False)
class CellPath:
    """One cell's lane and its hold queue."""

    lane: LaneRunner
    hold: HoldQueue


class Dispatcher:
    """Owns the lanes and decides, event by event, which queue or lane each goes to."""

    def __init__(
        self,
        config: DispatcherConfig,
        parser: Parser,
        client: CellClient,
        queues: SideQueues,
        clock: Clock,
        observer: Observer,
        unforeseen: Unforeseen,
        access: AccessWatch,
        archive: Archivist | None = None,
    ) -> None:
        self._config = config
        self._parser = parser
        self._client = client
        self._queues = queues
        self._clock = clock
        self._observer = observer
        self._unforeseen = unforeseen
        self._access = access
        self._archive = archive
        self._group = asyncio.TaskGroup()
        self.aside = queues.aside
        self._groups = Groups(self._route, self.aside.note if self.aside is not None else lambda *_: None)
        self._admission = Admission(lambda: self._limits.share_events // 4, config.max_kills)
        self._limits = LaneLimits()
        self._routing: Routing | None = None
        self._cells: frozenset[str] = frozenset()  # those that own slots
        self._stopping = False
        self._set_up: set[str] = set()  # queues of which a message about their set-up was told
        self.paths: dict[str, CellPath] = {}  # by cell
        self.routed = asyncio.Event()  # set once there is a slot map

    @property
    def slot_map(self) -> SlotMap | None:
        """The slot map that events are routed by; None until there is one."""
        return self._routing.slot_map if self._routing else None

    async def run(self) -> None:
        """Run every lane and side queue until cancelled."""
        async with self._group:
            self._group.create_task(self._queues.quarantine.run(partial(self._accept, from_hold=True)))
            await self._queues.dead_letters.run(self._keep_dead)

    def apply(self, routing: Routing, policy: Policy) -> None:
        """Route by this from now on. New cells get lanes; the lanes of cells that left the map run dry.

        What waits in the hold queue of a cell that left goes to the keys' new owners. Events of keys that are about to
        move to another cell wait in that cell's hold queue.
        """
        self._routing = routing
        if self.aside is not None:
            self.aside.apply(routing.slot_map)
        self._admission.policy = self._queues.quarantine.apply(policy)
        self._cells = routing.slot_map.cells()
        if not self._stopping:
            for cell_id in sorted((self._cells | routing.cells) - self.paths.keys()):
                self._open_path(cell_id)
        if routing.slot_map.move is not NO_MOVE:
            for path in self.paths.values():
                self._hold_all(path.lane, path.lane.take_out(self._moves), HoldCause.MOVING, MOVING_S)
        count = max(1, len(self._cells))
        self._limits = LaneLimits(max(BATCH, self._config.max_events // count), self._config.max_bytes // count)
        for cell_id, path in self.paths.items():
            path.lane.resize(self._limits, policy, routing.routers)
            path.lane.retarget(routing.targets.get(cell_id))
            tried, cushioned = cell_id in routing.tried, cell_id in routing.cushioned
            path.lane.cushion(cushioned=cushioned, tried=tried, routers=routing.routers)
            unsent = path.lane.eject(ejected=cell_id in routing.ejected, abandon=cell_id in routing.abandoned)
            self._hold_all(path.lane, unsent, HoldCause.EJECTED)
        self.routed.set()

    def accept(self, inbox: Inbox, batch: Sequence[Received]) -> None:
        """Take in messages of the source. Before there is a slot map (see `routed`) they are let go."""
        self._accept(inbox, batch, from_hold=False)

    def relieve(self) -> None:
        """Make room for new messages: when a cell lacks events, the others' lanes shed what is over their share."""
        lanes = [path.lane for path in self.paths.values()]
        if any(lane.lacks_events() for lane in lanes):
            for lane in lanes:
                self._hold_all(lane, lane.shed(SHED), lane.why_over)

    def stop(self) -> None:
        """Send nothing more, and let go of what has not been sent, so that another router gets it at once."""
        self._stopping = True
        self._queues.quarantine.stop()
        if self.aside is not None:
            self.aside.stop()
        for path in self.paths.values():
            path.hold.stop()
            for delivery in path.lane.clear():
                delivery.inbox.let_go(delivery.received, 0)

    def quiet(self) -> bool:
        """Whether no event of a key that the slot map moves is on its way to a cell, or left aside."""
        moving = self._routing is not None and self._routing.slot_map.move is not NO_MOVE
        none_aside = self.aside is None or self.aside.quiet()
        return none_aside and not (moving and any(path.lane.sends(self._moves) for path in self.paths.values()))

    def traffic(self) -> dict[str, Traffic]:
        """Count what each cell has processed for this router so far; cells without traffic are left out."""
        lanes = [path.lane for path in self.paths.values()]
        return {lane.cell_id: Traffic(lane.answered, len(lane.tenants)) for lane in lanes if lane.answered}

    def samples(self, number: int) -> Iterator[tuple[str, CellSample | None]]:
        """Yield what was seen of each cell's instance since the last call, which had the number before this one.

        None where there is nothing to tell. Others may run in between.
        """
        unwell = self._routing.unwell if self._routing is not None else frozenset()
        paths = list(self.paths.items())
        for place, (cell_id, path) in enumerate(paths):
            learning, told = cell_id not in unwell, tenants_told(place, len(paths), number)
            sample = path.lane.sample(learning=learning, tenants=MAX_TENANTS // len(paths), told=told)
            yield cell_id, sample if sample is not None and not sample.idle else None

    def blocked_s(self, cell_id: str) -> float:
        """How long ago the oldest event was sent that keeps a FIFO group of the cell waiting; 0.0 for none."""
        return self._queues.quarantine.blocked_s(cell_id)

    def in_flight(self) -> int:
        """Count the events that were sent and not yet answered."""
        return sum(path.lane.in_flight for path in self.paths.values())

    async def drained(self) -> None:
        """Wait, after `stop`, until every answer has had its effect on the queues."""
        holds = [self._queues.quarantine.hold, *(path.hold for path in self.paths.values())]
        for hold in holds:
            await hold.stopped()
        await self._queues.dead_letters.drained()  # before the others: they get what this one doesn't take
        for hold in holds:
            await hold.forwarded()
        for hold in holds:  # last, because what was forwarded is settled in the queue that it came from
            await hold.settled()

    def _open_path(self, cell_id: str) -> None:
        on_shut = partial(self._hold_all, cause=HoldCause.SHUT)
        lane = LaneRunner(cell_id, self._client, self._clock, self._observer, self._on_result, on_shut)
        path = self.paths[cell_id] = CellPath(lane, self._queues.hold_of(cell_id))
        self._group.create_task(lane.run())
        self._group.create_task(path.hold.run(partial(self._demand, path), partial(self._accept, from_hold=True)))

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
        events, fault = read(received, self._parser)
        if fault is not None:
            if isinstance(fault, UnconfirmedSubscriptionError):
                self._observer.observe(SubscriptionUnconfirmed(inbox.name, str(fault)))
            inbox.opened(received, 1)
            self._queues.dead_letters.put_malformed(inbox, received, str(fault))
            return []
        if not events and inbox.name not in self._set_up:
            self._set_up.add(inbox.name)
            self._observer.observe(SetupMessageSeen(inbox.name))
        inbox.opened(received, len(events))
        again = partial(self._groups.reminded, message_id=received.message.message_id)
        return inbox.followed(received, [Delivery(again(event), received, inbox, from_hold) for event in events])

    def _route(self, delivery: Delivery) -> None:
        if self._stopping or self._routing is None:
            delivery.inbox.let_go(delivery.received, 0 if self._stopping else UNROUTED_S)
            return
        try:
            if self._queues.dead_letters.put_again(delivery) or (self.aside and self.aside.takes(delivery)):
                return
            now_ms, slot_map = self._clock.time_ms(), self._routing.slot_map
            event = delivery.event
            if self._admission.policy.quarantined and self._stays(delivery, event, self._queues.quarantine.hold):
                event = delivery.event = self._admission.reminded(event, now_ms)
            path = self.paths[slot_map.cell_of(event.partition_key)]
            if slot_map.move is not NO_MOVE and self._moves(event.partition_key):
                self._hold(path, delivery, event, MOVING_S, HoldCause.MOVING)
                return
            generation = target.generation if (target := path.lane.target) else None
            if found := self._admission.quarantine(event, generation, now_ms):
                self._quarantine(path, delivery, found, generation)
            elif generation is None or not path.lane.passable():
                self._hold(path, delivery, event, 0, HoldCause.EJECTED if path.lane.ejected else HoldCause.SHUT)
            else:
                self._admit(path, delivery, generation)
        except Exception as error:  # noqa: BLE001 - one event must not end every router that gets it
            self._failed_on(delivery, error)

    def _admit(self, path: CellPath, delivery: Delivery, generation: int) -> None:
        now = self._clock.monotonic()
        match self._admission.check(delivery.event, generation, path.lane.waiting_of, now):
            case OverLimit(delay_s, cause):
                self._hold(path, delivery, delivery.event, ceil(delay_s), cause)
            case to_lane:
                delivery.suspect = to_lane.suspect
                if to_lane.suspect:
                    self._queues.quarantine.blocked.pop(delivery.event.partition_key, None)
                if not path.lane.offer(delivery, to_lane.cap):
                    self._hold(path, delivery, delivery.event, 0, HoldCause.SHUT)

    def _quarantine(self, path: CellPath, delivery: Delivery, found: ToQuarantine, generation: int | None) -> None:
        event, cell_id = into_quarantine(delivery.event, generation), path.lane.cell_id
        stops = delivery.inbox.fifo and self._admission.policy.fifo_head is FifoHead.STOP
        if found.guilty and not stops:
            self._admission.poison.forget(event.partition_key)  # its other events may be innocent
            delivery.event, delivery.generation = event, event.killed[-1]
            self._queues.dead_letters.put_event(delivery, cell_id, DeadLetterReason.KILLED_CELL, why_dead(event))
            return
        if found.why is not None:
            self._quarantine_key(path, event.partition_key, found)
        if not self._stays(delivery, event, self._queues.quarantine.hold):
            self._queues.quarantine.put(cell_id, delivery, event, found.left_s)
            return
        message = delivery.received.message
        if event != delivery.event:
            self._groups.remember(event, message.message_id)
        if delivery.inbox.fifo:
            self._queues.quarantine.blocked[event.partition_key] = BlockedHead(cell_id, message.sent_at_ms)
        delivery.inbox.let_go(delivery.received, self._queues.quarantine.wait_s(found.left_s))

    def _quarantine_key(self, path: CellPath, key: str, found: ToQuarantine) -> None:
        self._admission.poison.forget(key)
        self._admission.policy = self._queues.quarantine.quarantine(key, path.lane.cell_id, found)

    def _on_result(self, lane: LaneRunner, delivery: Delivery, result: Result) -> None:
        try:
            path = self.paths[lane.cell_id]
            event = self._admission.note(delivery.event, delivery.generation, result)
            if result.outcome is Outcome.OK and not result.duplicate:
                self._access.served(lane.cell_id, event.partition_key)
            if result.outcome is not Outcome.OK and result.contact is Contact.ANSWERED:
                if result.outcome is Outcome.RETRY and self._is_own(lane, event, result):
                    event, result = retry.counted(event, result, self._clock.time_ms() // 1000)
                if result.outcome is Outcome.FAILED and not result.denied:  # a handler that is denied harms nobody
                    self._on_failed(path, event, result)
            receives, jitter = delivery.received.message.receive_count, self._clock.jitter()
            match retry.decide(self._config.retry, event, result, receives=receives, jitter=jitter):
                case retry.Settle():
                    delivery.settle()
                    if self._archive is not None:
                        self._archive.done(delivery, lane.cell_id, result)
                case retry.ToHoldQueue(event, delay_s):
                    cause = HoldCause.DENIED if result.denied else HoldCause(result.outcome.value)
                    self._hold(path, delivery, event, delay_s, cause)
                case retry.ToDeadLetters(reason, error):
                    self._queues.dead_letters.put_event(delivery, lane.cell_id, reason, error)
        except Exception as fault:  # noqa: BLE001 - one event must not end every router that gets it
            self._failed_on(delivery, fault)

    def _is_own(self, lane: LaneRunner, event: Event, result: Result) -> bool:
        """Whether a retry is the event's own trouble, going by what becomes of others."""
        if not result.denied:
            return lane.lone(event.partition_key)
        self._access.denied(lane.cell_id, event.partition_key, event.event_id, result.reason)
        return self._access.own(lane.cell_id)

    def _on_failed(self, path: CellPath, event: Event, result: Result) -> None:
        max_failures = self._config.retry.max_attempts
        if why := self._admission.why_poisonous(event, result, path.lane.answered, max_failures):
            self._quarantine_key(path, event.partition_key, ToQuarantine(0.0, why))

    def _hold_all(self, lane: LaneRunner, deliveries: list[Delivery], cause: HoldCause, delay_s: int = 0) -> None:
        for delivery in deliveries:
            try:
                self._hold(self.paths[lane.cell_id], delivery, delivery.event, delay_s, cause)
            except Exception as error:  # noqa: BLE001 - the others have to be held all the same
                self._failed_on(delivery, error)

    def _keep_dead(self, delivery: Delivery, event: Event) -> None:
        """Keep an event that the dead-letter queue doesn't take in a hold queue, where each router sees its death."""
        try:
            self._groups.remember(event, delivery.received.message.message_id)  # perhaps no other queue takes it either
            assert self._routing is not None, "whatever has died was routed"
            path = self.paths[self._routing.slot_map.cell_of(event.partition_key)]
            self._hold(path, delivery, event, RELEASE_DELAY_S, HoldCause.DEAD)
        except Exception as error:  # noqa: BLE001 - one event must not end every router that gets it
            self._failed_on(delivery, error)

    def _failed_on(self, delivery: Delivery, error: Exception) -> None:
        """Let an event go that this router can't deal with: another router, or a later one, may."""
        self._unforeseen.note("event", error)
        delivery.inbox.let_go(delivery.received, UNFORESEEN_S)

    def _hold(self, path: CellPath, delivery: Delivery, event: Event, delay_s: int, cause: HoldCause) -> None:
        self._observer.observe(EventHeld(path.lane.cell_id, cause))
        hold = self._owner(event, path).hold
        if not self._stays(delivery, event, hold):
            hold.put(delivery, event, delay_s)
            return
        message = delivery.received.message
        if event != delivery.event:
            self._groups.remember(event, message.message_id)
        pause = delay_s or retry.delay_s(self._config.retry, message.receive_count, self._clock.jitter())
        delivery.inbox.let_go(delivery.received, max(1, pause))

    def _owner(self, event: Event, path: CellPath) -> CellPath:
        """The path of the key's owner, or of the owner to come: the event's own cell may have left the map."""
        if self._routing is None:
            return path
        slot_map, key = self._routing.slot_map, event.partition_key
        return self.paths.get(slot_map.destination_of(key) or slot_map.cell_of(key), path)

    def _moves(self, key: str) -> bool:
        return self._routing is not None and self._routing.slot_map.stops(key)

    def _stays(self, delivery: Delivery, event: Event, hold: HoldQueue) -> bool:
        """Whether an event that has to wait does so in its own queue, because of its order or its size.

        A dead one has no place in its group's order any more.
        """
        return (delivery.inbox.fifo and event.death is None) or not can_be_held(event, hold.max_bytes)
