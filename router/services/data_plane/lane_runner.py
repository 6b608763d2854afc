"""Runs one lane: sends the batches that the lane lets through, and hands on each answer as it comes.

Guarantees: each event taken in comes out exactly once, through `on_result`, through `on_shut` or as what a method gives
back, unless the task is cancelled; then its message was not deleted and comes again. The events of a batch share no
fate: each result counts when it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from msgspec.structs import replace

from router.core.detection.samples import INTERVAL_S, CellSample, CellSampler
from router.core.errors import CellRefusedError, CellUnavailableError, NoDescriptorError
from router.core.lanes.copies import RecentCopies
from router.core.lanes.lane import Lane, LaneLimits
from router.core.lanes.latency import RecentLatency
from router.core.lanes.neighbours import Neighbours
from router.core.load.marks import ATTRIBUTE as STRESS
from router.core.messages.batches import BATCH
from router.core.models import Contact, Event, HoldCause, Outcome, Reason, Result, Target
from router.core.policy import Policy
from router.core.telemetry import BatchSent, BodyDiffers, EventAnswered, EventTimed, LaneFailed
from router.ports import CellClient, Clock, Observer
from router.services.data_plane.inbox import TELL_EVERY_S, Delivery
from router.services.unforeseen import Unforeseen

MAX_TENANTS: Final = 10_000  # keys remembered of a cell; beyond that it is enough to know "as many"
_OK, _ANSWERED = Outcome.OK, Contact.ANSWERED  # Python 3.11 takes its time to find an enum's member by name
REST_S: Final = 1.0  # after so long a resting lane looks whether its rest is over, or the trial is
LINGER_S: Final = 0.002
"""How long events for a busy cell wait for others to travel with. Events for an idle cell leave at once."""


class LaneRunner:
    """Runs the lane of one cell.

    `on_result` gets every event with its result, `on_shut` the events that a failure of the path left unsent.
    """

    def __init__(
        self,
        cell_id: str,
        client: CellClient,
        clock: Clock,
        observer: Observer,
        on_result: Callable[[LaneRunner, Delivery, Result], None],
        on_shut: Callable[[LaneRunner, list[Delivery]], None],
    ) -> None:
        self.cell_id = cell_id
        self.answered = 0  # events with outcome ok since the start
        self.tenants: set[int] = set()  # the hashes of those events' keys, MAX_TENANTS at most
        self.latency = RecentLatency()
        self.copies: RecentCopies | None = None  # of the events done from now on; None: none are kept
        self._sampler = CellSampler()
        self._neighbours = Neighbours()
        self._lane: Lane[Delivery] = Lane(LaneLimits())
        self._client = client
        self._clock = clock
        self._observer = observer
        self._on_result = on_result
        self._on_shut = on_shut
        self._unforeseen = Unforeseen(observer, clock)
        self._wake = asyncio.Event()
        self._tell_at = 0.0  # of a body that differs, by the monotonic clock
        self._rests = False  # the lane is woken when its rest is over
        # By batch under way: its events that have no answer yet, by their index in it.
        self._batches: dict[asyncio.Timeout, dict[int, Delivery]] = {}

    @property
    def target(self) -> Target | None:
        """The instance that gets the cell's traffic; None without one."""
        return self._lane.target

    @property
    def ejected(self) -> bool:
        """Whether nothing is sent to the cell, because the leader or a person said so."""
        return self._lane.ejected

    @property
    def waiting(self) -> int:
        """How many events the lane has taken in and not yet sent."""
        return self._lane.waiting

    @property
    def window(self) -> int:
        """How many events may be in flight at the present instance."""
        return self._lane.window

    @property
    def in_flight(self) -> int:
        """How many events were sent and are not yet answered."""
        return self._lane.in_flight

    def passable(self) -> bool:
        """Whether events can be sent to the cell now."""
        return self._lane.passable(self._clock.monotonic())

    def demand(self) -> int:
        """How many messages the lane wants from its hold queue now: one while probing, else a full receive or none."""
        if not self.passable() or self._lane.room_for_held() < BATCH:
            return 0
        return 1 if self._lane.probing else BATCH

    def waiting_of(self, key: str) -> int:
        """Count the events of a key that wait, without suspects."""
        return self._lane.waiting_of(key)

    def offer(self, delivery: Delivery, cap: int) -> bool:
        """Take an event in; False when the path is shut, so that it must wait in the hold queue.

        At most `cap` events of its key are in flight at once from now on; 0 for any number.
        """
        taken = self._lane.offer(
            delivery.event.partition_key,
            delivery,
            delivery.size,
            from_hold=delivery.from_hold,
            now=self._clock.monotonic(),
            cap=cap,
            suspect=delivery.suspect,
        )
        if taken:
            self._wake.set()
            if delivery.trace is not None:
                delivery.trace.waits(self.cell_id)
        return taken

    def lone(self, key: str) -> bool:
        """Whether a retry of the key that was just answered is the event's own, since other keys are processed."""
        return self._neighbours.lone(key)

    def sample(self, *, learning: bool, tenants: int, told: int) -> CellSample | None:
        """Return what was seen of the instance since the last call; None without an instance.

        `learning` says whether it counts for the cell's baseline, `tenants` how many tenants to remember and `told` how
        many to tell of.
        """
        if self._lane.target is None:
            return None
        now, generation = self._clock.monotonic(), self._lane.target.generation
        pending = [delivery for delivery in self._pending() if delivery.generation == generation]
        oldest_s = max((now - delivery.sent_at for delivery in pending), default=0.0)
        waiting = len({delivery.event.partition_key for delivery in pending})
        sample = self._sampler.sample(
            generation,
            now,
            oldest_s=oldest_s,
            waiting_tenants=waiting,
            learning=learning,
            tenants=tenants,
            told=told,
        )
        self._lane.had(sample.busy_s / INTERVAL_S)  # Little's law
        return sample

    def cushion(self, *, cushioned: bool, tried: bool, routers: int) -> None:
        """Send less at once from now on (`cushioned`, or `tried`: little), or as much as the window allows again.

        So many routers do the same, and share what the cell gets.
        """
        self._lane.cushion(cushioned=cushioned, tried=tried, routers=routers)
        self._wake.set()

    def eject(self, *, ejected: bool, abandon: bool = False) -> list[Delivery]:
        """Send nothing from now on (`ejected`), or send again; return the events that can't be sent now.

        `abandon` says that answers are not waited for either.
        """
        changed = ejected != self._lane.ejected
        self._lane.eject(ejected=ejected)
        if changed:
            self._sampler.replaced()  # what was seen before says nothing of what comes
            self._wake.set()
        if changed and abandon:
            self._stop_waiting()
        return self._lane.clear() if ejected else []

    def resize(self, limits: LaneLimits, policy: Policy, routers: int) -> None:
        """Set the limits that hold from now on, how keys take turns, and what the cell bears, of all routers."""
        self._lane.limits = limits
        self._lane.weigh(policy.fairness)
        self._lane.pace(policy.cell_rate() / routers)

    def retarget(self, target: Target | None) -> None:
        """Send to this instance from now on; without one (None), give up what is in flight and what waits."""
        if target is not None and not target.same_instance(self._lane.target):
            self._sampler.replaced()
        self._lane.retarget(target)
        if target is None:
            self._abandon()
        self._wake.set()

    def lacks_events(self) -> bool:
        """Whether the lane could send more than it is given."""
        return self._lane.lacks_events(self._clock.monotonic())

    @property
    def why_over(self) -> HoldCause:
        """Why the lane has more than its share: its cell bears no more, or does what it can."""
        return HoldCause.CELL_RATE if self._lane.paced(self._clock.monotonic()) else HoldCause.OVER_SHARE

    def shed(self, most: int) -> list[Delivery]:
        """Give back at most so many events that are over the lane's share, for the hold queue."""
        return self._lane.shed(most)

    def clear(self) -> list[Delivery]:
        """Give back all events that have not been sent."""
        return self._lane.clear()

    def take_out(self, wanted: Callable[[str], bool]) -> list[Delivery]:
        """Give back the events of the wanted keys that have not been sent."""
        return self._lane.take_out(wanted)

    def sends(self, wanted: Callable[[str], bool]) -> bool:
        """Whether an event of the wanted keys was sent and has no answer yet."""
        return any(wanted(delivery.event.partition_key) for delivery in self._pending())

    async def run(self) -> None:
        """Send batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                if self._lane.in_flight and self._lane.waiting < self._lane.limits.batch_events:
                    await self._clock.sleep(LINGER_S)
                self._wake.clear()
                while (target := self._lane.target) and (batch := self._lane.take(self._clock.monotonic())):
                    group.create_task(self._send(target, [delivery for delivery, _ in batch]))
                if not self._rests and (rest_s := self._lane.rests_s(self._clock.monotonic())):
                    self._rests = True
                    group.create_task(self._wake_after(min(rest_s, REST_S)))

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._rests = False
        self._wake.set()

    async def _send(self, target: Target, batch: list[Delivery]) -> None:
        sent_at = self._clock.monotonic()
        waits_s = [sent_at - delivery.received.received_at for delivery in batch]
        self._observer.observe(BatchSent(self.cell_id, len(batch), waits_s))
        for delivery in batch:
            delivery.sent_at = sent_at
            delivery.generation = target.generation
        pending = dict(enumerate(batch))
        events = [_sent(each, target) if each.suspect or each.trace is not None else each.event for each in batch]
        error, contact, broke = "the cell's answer ended early", Contact.SILENT, True
        try:
            async with asyncio.timeout(None) as timeout:
                self._batches[timeout] = pending
                async for result in self._client.process(target, events):
                    self._answer(pending.pop(result.index), result)
        except NoDescriptorError as failure:
            error, contact, broke = str(failure), Contact.NOT_REACHED, False
        except CellUnavailableError as failure:
            error = str(failure)
            contact = Contact.SILENT if failure.reached else Contact.NOT_REACHED
        except CellRefusedError as failure:
            error, contact, broke = str(failure), Contact.NOT_REACHED, False
        except TimeoutError:
            error, broke = "its answer is not waited for any longer", False
        except Exception as failure:  # noqa: BLE001 - no fault of a client or a cell may end the other lanes
            error = self._unforeseen.note("lane", failure)
        finally:
            self._batches.pop(timeout, None)
        if pending:
            self._failed(target, pending, error, contact, broke=broke)
        else:
            self._lane.answered()

    def _failed(
        self, target: Target, pending: dict[int, Delivery], error: Reason, contact: Contact, *, broke: bool
    ) -> None:
        """Give the events that got no answer the outcome `retry`, and shut the lane for a while."""
        self._observer.observe(LaneFailed(self.cell_id, error))
        if broke and target.same_instance(self._lane.target):
            self._sampler.broke([delivery.event.partition_key for delivery in pending.values()])
        for index, delivery in pending.items():
            self._answer(delivery, Result(index, Outcome.RETRY, error, contact=contact))
        if target.same_instance(self._lane.target) and (waiting := self._lane.failed(self._clock.monotonic())):
            self._on_shut(self, waiting)

    def _answer(self, delivery: Delivery, result: Result) -> None:
        now, key, outcome = self._clock.monotonic(), delivery.event.partition_key, result.outcome
        delivery.answered_at, latency = now, now - delivery.sent_at
        if delivery.trace is not None:
            delivery.trace.answered(result)
        if result.contact is _ANSWERED:
            self._lane.timed(latency, delivery.generation)
            if self._lane.tried:
                self._lane.rest(latency, delivery.generation, now, self._clock.jitter())
            if not result.duplicate:  # what was done before needs no infrastructure
                self._neighbours.note(key, outcome, now)
            if (target := self._lane.target) is not None and target.generation == delivery.generation:
                self._watch_answer(key, result, latency - result.waited_s, now)
        self._lane.settled(key, delivery.size, delivery.generation, suspect=delivery.suspect)
        age_s = self._age_s(delivery.event) if outcome is _OK else None
        told = EventAnswered(self.cell_id, outcome, latency, result.duplicate, result.other_body, age_s)
        self._observer.observe(told)
        self._tell_of_mark(delivery.event, result)
        if result.other_body and now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            self._observer.observe(BodyDiffers(self.cell_id, key, delivery.event.event_id))
        if outcome is _OK:
            self.answered += 1
            if len(self.tenants) < MAX_TENANTS:
                self.tenants.add(hash(key))
            self.latency.add(latency)
            if self.copies is not None and not result.duplicate and not delivery.suspect:
                self.copies.add(delivery.event)
        self._wake.set()
        self._on_result(self, delivery, result)

    def _tell_of_mark(self, event: Event, result: Result) -> None:
        """Tell of an event of a stress run, which says itself when it was meant to be sent."""
        if event.origin is not None and (mark := event.origin.attributes.get(STRESS)) is not None:
            told = (self.cell_id, event.partition_key, mark, self._clock.time_ms(), result.outcome, result.duplicate)
            self._observer.observe(EventTimed(*told))

    def _age_s(self, event: Event) -> float | None:
        """Return how long ago the event was first sent; the producer's queue has another clock."""
        sent_at_ms = event.origin.sent_at_ms if event.origin is not None else 0
        return max(0, self._clock.time_ms() - sent_at_ms) / 1000 if sent_at_ms else None

    def _watch_answer(self, key: str, result: Result, latency_s: float, now: float) -> None:
        if result.outcome is _OK:
            if not result.duplicate:  # what was done before costs the cell nothing
                self._sampler.answered(key, latency_s, now)
        elif result.denied:
            self._sampler.denied(now)
        elif result.outcome is not Outcome.REJECTED:
            self._sampler.failed(key, now)

    def _pending(self) -> Iterator[Delivery]:
        """The events that were sent and have no answer yet."""
        for pending in self._batches.values():
            yield from pending.values()

    def _stop_waiting(self) -> None:
        for timeout in self._batches:
            timeout.reschedule(0)

    def _abandon(self) -> None:
        """Stop waiting for answers, and give back what waits: there is no instance to send it to."""
        self._stop_waiting()
        if waiting := self._lane.clear():
            self._on_shut(self, waiting)


def _sent(delivery: Delivery, target: Target) -> Event:
    """The event as it is sent: with what its cell should know of this try."""
    trace = "" if delivery.trace is None else delivery.trace.sent(target)
    return replace(delivery.event, suspect=delivery.suspect, trace=trace)
