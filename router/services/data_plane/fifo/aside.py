"""The aside queue of a FIFO source, as a router sees it: what stands still in the source goes there, and on from there.

SQS looks through the first 120 000 messages of a FIFO queue for one whose group may go on. Before groups that stand
still fill that look-ahead, their slots go aside: everything of theirs in the source goes into the aside queue, in
order, and from there to its cell.

Guarantees: all routers go by the slot map, which says whose way leads through the aside queue; planned moves see to it
that no event still goes by an older map. A message leaves the source only after the aside queue has taken it, and while
the map that says so was confirmed within FRESH_S. So whatever dies, a group's events lie aside before those in the
source, and in their order; what lies there twice was there before, and its cell knows it. Slots come back only when
nothing of them has been aside for EMPTY_FOR_S, in which nothing can be on its way there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf
from typing import Final

import msgspec

from router.core.errors import PolicyRefusedError, RegistryUnavailableError, SourceUnavailableError
from router.core.lanes.standing import LOOK_AHEAD, Standing, Waiting, may_come_back, slots_to_add
from router.core.messages.batches import BATCH
from router.core.messages.parser import can_be_held, held_draft
from router.core.messages.proofs import AttributeKeys
from router.core.models import Message
from router.core.policy import Policy
from router.core.registry import AuditEntry, RouterAction
from router.core.slot_map.slots import SlotMap, slot_of
from router.core.telemetry import BadInput, QueueDepth
from router.ports import Clock, EventSource, Observer, PolicyStore
from router.services import policy
from router.services.data_plane.depths import ASK_EVERY_S, DepthWatch
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.hold_queue import HoldQueue
from router.services.data_plane.inbox import Delivery, Inbox, Received
from router.services.unforeseen import Unforeseen

FRESH_S: Final = 5.0  # without word of the registry for so long, what goes aside stays in the source
EMPTY_FOR_S: Final = 300.0
"""SQS' figures are right a minute after the last message was sent. Until a delete is given up that was begun while the
map was fresh, it may take five."""
LEAVE_S: Final = 60.0
"""How long a router without word of the registry leaves the queue to others, once it had to let something go: it may go
by an older map or policy than they do."""
WAIT_S: Final = 5  # how long an event stays in the source that may not go aside now
MAX_OPEN: Final = 500  # messages of the aside queue that are here at once
MAX_BYTES: Final = 16 * 1024 * 1024  # of their bodies, and one receive more


@dataclass(frozen=True, slots=True)
class AsideConfig:
    """Who puts slots aside, and how far the source's server looks ahead."""

    who: str  # the router, for the audit stream
    look_ahead: int = LOOK_AHEAD  # messages
    wait_s: float = 10.0  # of one long poll


class AsideQueue:
    """Puts what stands still aside, takes it out again, and has the policy say which slots go that way."""

    def __init__(
        self,
        config: AsideConfig,
        queue: EventSource,
        inbox: Inbox,
        depths: DepthWatch,
        store: PolicyStore,
        keys: AttributeKeys,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._config = config
        self._queue = queue
        self._inbox = inbox
        self._depths = depths
        self._store = store
        self._keys = keys
        self._clock = clock
        self._observer = observer
        self._forwarder = Forwarder(queue, clock)
        self._hold = HoldQueue(inbox, self._forwarder, clock, config.wait_s, keys)
        self._unforeseen = Unforeseen(observer, clock)
        self._slot_map: SlotMap | None = None
        self._heard_at = -inf  # when the registry last confirmed the map, in monotonic seconds
        self._leave_until = -inf  # monotonic seconds
        self._on_the_way = 0  # events that the queue has not yet taken
        self._left: int | None = None  # messages in the queue, as SQS said last; None when it said nothing
        self._empty_since: float | None = None  # monotonic seconds
        self._told = False  # that the queue says nothing
        self._standing = Standing()  # in the source
        self._standing_aside = Standing()  # in the aside queue

    def apply(self, slot_map: SlotMap) -> None:
        """Go by this map from now on."""
        if self._slot_map is None or slot_map.epoch != self._slot_map.epoch:
            self._empty_since = None
        self._slot_map = slot_map

    def confirm(self) -> None:
        """Note that the registry has no newer map than the one that was applied last."""
        self._heard_at = self._clock.monotonic()

    def takes(self, delivery: Delivery) -> bool:
        """Put an event of the source aside, or let it wait there; False for one that may go to its cell by the map."""
        slot_map, group = self._slot_map, delivery.received.message.group_id or ""
        if slot_map is None or not slot_map.aside or delivery.inbox is self._inbox:
            return False
        if (slot := slot_of(group)) not in slot_map.aside:
            return False
        max_bytes = self._forwarder.max_bytes
        if not self._leads_aside(slot) or not can_be_held(delivery.event, max_bytes):
            delivery.inbox.let_go(delivery.received, WAIT_S)
            return True
        draft = held_draft(delivery.event, 0, self._keys, max_bytes)
        draft = msgspec.structs.replace(draft, group_id=group, dedup_id=_name_of(delivery))
        self._on_the_way += 1
        self._forwarder.put(
            [draft], delivery.inbox, delivery.received, self._ended, may_settle=lambda: self._leads_aside(slot)
        )
        return True

    def note(self, inbox: Inbox, group: str, head: Message | None) -> None:
        """Note that the head of a group was let go, or that an event of the group was settled (None)."""
        standing = self._standing_aside if inbox is self._inbox else self._standing
        if head is None:
            standing.went_on(group)
        else:
            if inbox is self._inbox and not self._is_fresh():
                self._leave_until = self._clock.monotonic() + LEAVE_S
            age_s, now = self._clock.time_ms() / 1000 - head.sent_at_ms / 1000, self._clock.monotonic()
            standing.came_back(group, age_s=age_s, receives=head.receive_count, now=now)

    def quiet(self) -> bool:
        """Whether no slot comes back, or nothing has been aside for long enough that all may."""
        if self._slot_map is None or not self._slot_map.coming_back:
            return True
        since = self._empty_since
        return since is not None and self._clock.monotonic() - since >= EMPTY_FOR_S

    def stop(self) -> None:
        """Take nothing more out of the queue."""
        self._hold.stop()

    async def drained(self) -> None:
        """Wait, after `stop`, until all that was put aside is there, and all that was settled is deleted."""
        await self._hold.stopped()
        await self._hold.forwarded()
        await self._hold.settled()

    async def run(self, accept: Callable[[Inbox, list[Received]], None]) -> None:
        """Put events aside, hand out those that are there and watch how many are left, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hold.run(self._demand, accept))
            group.create_task(self._watch())

    def _leads_aside(self, slot: int) -> bool:
        """Whether the slot's way leads through the aside queue, beyond doubt."""
        slot_map = self._slot_map
        if slot_map is None or slot not in slot_map.aside or slot in slot_map.move.aside:
            return False
        return self._is_fresh()

    def _is_fresh(self) -> bool:
        return self._clock.monotonic() - self._heard_at <= FRESH_S

    def _ended(self, _taken: bool) -> None:
        self._on_the_way -= 1

    def _demand(self) -> int:
        """How many messages are wanted: also those that a map says nothing of any more."""
        if self._slot_map is None or not (self._slot_map.aside or self._left):
            return 0
        if self._clock.monotonic() < self._leave_until and not self._is_fresh():
            return 0
        return BATCH if len(self._hold) < MAX_OPEN and self._hold.bytes < MAX_BYTES else 0

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - the next look may end well
                self._unforeseen.note("aside queue", error)
            await self._clock.sleep(ASK_EVERY_S)

    async def _look(self) -> None:
        """See how much is left aside, and propose which slots go that way. Without a word of the queue none do."""
        try:
            depth = await self._queue.depth()
        except SourceUnavailableError as error:
            self._left = self._empty_since = None
            if not self._told:
                self._told = True
                why = f"{error}; without it groups that stand still may stop all others: see docs/explanation/fifo.md"
                self._observer.observe(BadInput("what is left in the aside queue", self._queue.name, why))
            return
        self._told = False
        self._observer.observe(QueueDepth(self._queue.name, depth))
        self._left = depth.messages
        now = self._clock.monotonic()
        if self._left or self._on_the_way:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        if self._slot_map is not None and (source := self._depths.source) is not None:
            back = self._standing_aside.slots_back(now, 2 * ASK_EVERY_S)
            await self._propose(self._slot_map, Waiting(source.waiting, self._left, self._standing.slots(now), back))

    async def _propose(self, slot_map: SlotMap, seen: Waiting) -> None:
        """Have the policy say which slots go aside, where that has to change."""
        added = slots_to_add(seen, slot_map.coming_back, self._config.look_ahead) - slot_map.aside_soon
        if added:
            why = f"{seen.in_source} messages wait in the source, and the groups of {len(added)} slots stand still"
            await self._change(lambda found: replace(found, aside=found.aside | added), why)
        elif slot_map.aside and not slot_map.coming_back and may_come_back(seen, self._config.look_ahead):
            why = f"{seen.in_source} messages wait in the source and {seen.aside} aside, and none stands still there"
            await self._change(lambda found: replace(found, aside=found.aside - slot_map.aside), why)

    async def _change(self, edit: Callable[[Policy], Policy], why: str) -> None:
        audit = AuditEntry(self._clock.time_ms(), self._config.who, RouterAction.ASIDE, "", why)
        try:
            await policy.change(self._store, edit, audit)
        except (RegistryUnavailableError, PolicyRefusedError):
            return  # the next look tries again


def _name_of(delivery: Delivery) -> str:
    """Return the same deduplication id for the same event, whichever router puts it aside, and however often."""
    event = delivery.event
    parts = (delivery.received.message.message_id, event.partition_key, event.event_id)
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
