"""The messages of one queue that are here and not yet deleted.

Guarantees: a message is deleted only after every one of its events was settled, and until then it stays hidden from
other receivers. It is here at most once, with its newest receipt. A message that is let go comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from router.core.errors import MalformedMessageError, SourceDeniedError, SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.lanes.latency import MeanAge
from router.core.lanes.retry import DENIED_RETRIES, DENIED_S, LONE_RETRIES, LONE_S
from router.core.messages.batches import chunks
from router.core.messages.origin import origin_of
from router.core.messages.parser import Parser
from router.core.messages.proofs import AttributeKeys, believed
from router.core.models import Event, Message, Reason
from router.core.telemetry import BadInput, MessagesDeleted, MessagesReceived
from router.ports import Clock, EventSource, EventTrace, EventTracer, Observer
from router.services.data_plane.access import PAYLOADS, AccessWatch
from router.services.data_plane.batcher import LINGER_S, Batcher
from router.services.data_plane.payloads import Payloads

MAX_HIDDEN_S: Final = 6 * 3600  # SQS hides a message for 12 h at most, counted from its receipt
FETCH_DELAY_S: Final = 10  # how long a message stays hidden whose body could not be fetched
LONGEST_FETCH_DELAY_S: Final = 300  # while others can be fetched
MAX_REMEMBERED: Final = 10_000  # messages whose failed fetches are counted; the oldest is forgotten first
TELL_EVERY_S: Final = 10.0
UNEXPECTED: Final = "cellrouter failed on it, which is a bug:"
_UNPROVEN: Final = (
    "its cellrouter. attributes are not signed by a router with a secret that is valid now, so they are ignored, and "
    "its attempts count anew: somebody else has written them, or the secret was replaced since"
)
DELETE_LINGER_S: Final = 0.1
"""How long a delete waits for nine more that go with it, which are one request then. Nobody waits for it; only of a
FIFO queue does the next message of its group, so there it goes sooner."""
DELETE_TRIES: Final = 8  # about 15 s; then the message comes again, and its cell knows its events


class Received(msgspec.Struct, eq=False):
    """A message that this router has received and not yet deleted or let go."""

    message: Message
    size: int  # of its body, in characters, and of its attributes
    received_at: float  # monotonic seconds
    hidden_until: float  # monotonic seconds
    open_events: int = 0  # not yet settled
    fault: Reason | None = None  # why its body can't be fetched at all
    # Told of each event that is settled (None), and of the message being let go (its delay in seconds).
    after: Callable[[Received, int | None], None] | None = None
    traces: list[EventTrace] | None = None  # of its events that are traced


class Inbox:
    """Receives messages from a queue, keeps them hidden, and deletes those whose events are all settled."""

    def __init__(
        self,
        source: EventSource,
        payloads: Payloads,
        clock: Clock,
        observer: Observer,
        visibility_s: int,
        keys: AttributeKeys,
        access: AccessWatch,
        tracer: EventTracer | None = None,
    ) -> None:
        self.tracer = tracer
        self._source = source
        self._payloads = payloads
        self._clock = clock
        self._observer = observer
        self._visibility_s = visibility_s
        self._keys = keys
        self._access = access
        self._tell_at = 0.0  # of messages that speak in our name
        self._received: dict[str, Received] = {}
        linger_s = LINGER_S if source.fifo else DELETE_LINGER_S
        self._deletes: Batcher[Received] = Batcher(
            self._delete, self._forget, clock, max_tries=DELETE_TRIES, linger_s=linger_s
        )
        self._releases: Batcher[tuple[Received, int]] = Batcher(self._release, _nothing, clock, max_tries=1)
        self._unfetched: dict[str, tuple[int, int]] = {}  # message id → lone failures, bodies fetched before the last
        self.age = MeanAge()
        self.bytes = 0  # of the bodies of all messages that are here
        self.freed = asyncio.Event()  # set whenever a message leaves

    @property
    def queue(self) -> EventSource:
        """The queue that holds the messages."""
        return self._source

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._source.name

    @property
    def fifo(self) -> bool:
        """Whether the queue keeps the order within message groups."""
        return self._source.fifo

    def __len__(self) -> int:
        return len(self._received)

    async def receive(self, max_messages: int, wait_s: float) -> list[Received]:
        """Receive up to `max_messages` (1 to 10) and return those that were not here yet, with their bodies from S3.

        Waits up to `wait_s` seconds for the first. Raises SourceUnavailableError.
        """
        messages = await self._source.receive(max_messages, wait_s, self._visibility_s)
        now = self._clock.monotonic()
        new = [received for message in messages if (received := self._take_in(message, now))]
        now_ms = self._clock.time_ms()
        ages_s = [_age_s(message, now_ms) for message in messages]
        first_s = [age_s for age_s, message in zip(ages_s, messages, strict=True) if message.receive_count == 1]
        duplicates, oldest_s = len(messages) - len(new), max(ages_s, default=0.0)
        self.age.note(oldest_s, now)
        told = MessagesReceived(self._source.name, len(messages), duplicates, first_s, oldest_s)
        self._observer.observe(told)
        if any(received.message.body.startswith("[") for received in new):  # as every S3 pointer does
            await self._resolve(new)
            new = [received for received in new if received.message.message_id in self._received]
        return new

    def opened(self, received: Received, events: int) -> None:
        """Note how many events the message turned out to hold; a message without any is deleted."""
        received.open_events = events
        if not events:
            self._deletes.put(received)

    def followed(self, received: Received, deliveries: list[Delivery]) -> list[Delivery]:
        """Begin the traces of a message's events, of those that are sampled, and return the deliveries."""
        if self.tracer is None:
            return deliveries
        message, age_s = received.message, self._clock.monotonic() - received.received_at
        for delivery in deliveries:
            first = message.receive_count == 1 and not delivery.from_hold
            trace = self.tracer.received(delivery.event, self.name, message.message_id, age_s, first=first)
            if trace is not None:
                delivery.trace = trace
                received.traces = [*(received.traces or ()), trace]
        return deliveries

    def settle(self, received: Received) -> None:
        """Settle one event of the message; the message is deleted with the last of them."""
        received.open_events -= 1
        if received.open_events == 0:
            self._deletes.put(received)
            if received.traces is not None:
                for trace in received.traces:
                    trace.acknowledging(self.name)
        if received.after is not None:
            received.after(received, None)

    def let_go(self, received: Received, delay_s: int) -> None:
        """Give the message back: it is visible after `delay_s` seconds and comes again, here or at another router."""
        if self._forget(received, delay_s):
            self._releases.put((received, min(delay_s, MAX_HIDDEN_S)))
            if received.after is not None:
                received.after(received, delay_s)

    async def run(self) -> None:
        """Delete what is settled and keep the rest hidden, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deletes.run())
            group.create_task(self._releases.run())
            group.create_task(self._keep_hidden())

    async def drained(self) -> None:
        """Wait until everything settled so far is deleted, and everything let go so far visible."""
        await self._deletes.drained()
        await self._releases.drained()

    def _take_in(self, message: Message, now: float) -> Received | None:
        known = self._received.get(message.message_id)
        if known is not None:
            known.message = replace(known.message, receipt=message.receipt)
            known.hidden_until = now + self._visibility_s
            return None
        given, message = message, believed(message, self._keys)
        if given is not message:
            self._tell(given)
        received = Received(message, len(message.body) + _beside(message), now, now + self._visibility_s)
        self._received[message.message_id] = received
        self.bytes += received.size
        return received

    def _tell(self, message: Message) -> None:
        """Tell of a message whose attributes speak in our name without proof, and not of every one in a flood."""
        now = self._clock.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            name = f"{self._source.name}: {message.message_id}"
            self._observer.observe(BadInput("message attributes", name, _UNPROVEN))

    async def _resolve(self, batch: Sequence[Received]) -> None:
        """Fetch the bodies that lie in S3. What can't be fetched now is let go, with the FIFO group behind it."""
        late: dict[str | None, int] = {}
        for received, delay_s in zip(batch, await asyncio.gather(*map(self._fetch, batch)), strict=True):
            group = received.message.group_id if self.fifo else received.message.message_id
            if delay_s or group in late:
                self.let_go(received, late.setdefault(group, delay_s))

    async def _fetch(self, received: Received) -> int:
        """Fetch the message's body, or note why it can't be had; the seconds until it has to be tried again, or 0."""
        try:
            found = await self._payloads.resolve(received.message)
        except MalformedMessageError as error:
            received.fault = str(error)
        except SourceUnavailableError as error:
            return self._not_fetched(received, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours; one message must not end every router that gets it
            received.fault = f"its S3 pointer can't be followed, which is a bug: {type(error).__name__}: {error}"
        else:
            if found.pointer:
                self._access.served(PAYLOADS, found.message_id)
            received.message = replace(received.message, body=found.body, pointer=found.pointer)
            self._resize(received, len(found.body) + _beside(found))
        self._unfetched.pop(received.message.message_id, None)
        return 0

    def _not_fetched(self, received: Received, error: SourceUnavailableError) -> int:
        """Count a failed fetch if another body was fetched since the last one; too many are a fault."""
        message_id, fetched = received.message.message_id, self._payloads.fetched
        most, least_s = LONE_RETRIES, LONE_S
        if isinstance(error, SourceDeniedError):
            self._access.denied(PAYLOADS, message_id, message_id, str(error))
            most, least_s = DENIED_RETRIES, DENIED_S
        count, before = self._unfetched.pop(message_id, (0, fetched))
        count += fetched > before
        if count >= most and _age_s(received.message, self._clock.time_ms()) >= least_s:
            received.fault = f"its S3 pointer could not be followed {count} times, while others could: {error}"
            return 0
        if len(self._unfetched) >= MAX_REMEMBERED:
            del self._unfetched[next(iter(self._unfetched))]
        self._unfetched[message_id] = count, fetched
        return round(backoff(FETCH_DELAY_S, LONGEST_FETCH_DELAY_S, count)) if count else FETCH_DELAY_S

    def _resize(self, received: Received, size: int) -> None:
        self.bytes += size - received.size
        received.size = size

    def _forget(self, received: Received, let_go_s: int | None = None) -> bool:
        if self._received.get(received.message.message_id) is not received:
            return False  # it was let go before, and is perhaps here again as another one
        del self._received[received.message.message_id]
        self.bytes -= received.size
        if received.traces is not None:
            for trace in received.traces:
                trace.end(let_go_s)
        self.freed.set()
        return True

    async def _delete(self, batch: Sequence[Received]) -> Sequence[Received]:
        failed = {m.message_id for m in await self._source.delete([received.message for received in batch])}
        for received in batch:
            if received.message.message_id not in failed:
                self._forget(received)
        self._observer.observe(MessagesDeleted(self._source.name, len(batch) - len(failed), len(failed)))
        return [received for received in batch if received.message.message_id in failed]

    async def _release(self, batch: Sequence[tuple[Received, int]]) -> Sequence[tuple[Received, int]]:
        for delay_s in {delay_s for _, delay_s in batch}:
            await self._source.set_visibility([received.message for received, d in batch if d == delay_s], delay_s)
        return ()

    async def _keep_hidden(self) -> None:
        """Renew the visibility timeout of every message that has used up half of it."""
        while True:
            await self._clock.sleep(self._visibility_s / 8)
            now = self._clock.monotonic()
            due = [
                received for received in self._received.values() if received.hidden_until - now < self._visibility_s / 2
            ]
            for chunk in chunks(due):
                try:
                    await self._source.set_visibility([received.message for received in chunk], self._visibility_s)
                except SourceUnavailableError:
                    break  # the next turn tries again; there is time for three more
                for received in chunk:
                    received.hidden_until = now + self._visibility_s


def read(received: Received, parser: Parser) -> tuple[list[Event], MalformedMessageError | None]:
    """Return the events of a message, or why it can't be read."""
    if received.fault is not None:
        return [], MalformedMessageError(received.fault)
    try:
        events = parser.parse(received.message)
        origin = origin_of(received.message, events)
        return [replace(event, origin=origin) for event in events], None
    except MalformedMessageError as error:
        return [], error
    except Exception as error:  # noqa: BLE001 - a fault of ours; one message must not end every router that gets it
        return [], MalformedMessageError(f"{UNEXPECTED} {type(error).__name__}: {error}")


def _nothing(_: object) -> None:
    """Do nothing: a message that couldn't be released becomes visible by itself when its visibility timeout ends."""


def _age_s(message: Message, now_ms: int) -> float:
    """How long ago the message was sent; its queue's clock is another one."""
    return max(0, now_ms - message.sent_at_ms) / 1000


def _beside(message: Message) -> int:
    """How much a message's attributes hold; most have none."""
    texts = sum(map(len, message.attributes.values())) if message.attributes else 0
    return texts + (sum(map(len, message.binaries.values())) if message.binaries else 0)


class Delivery(msgspec.Struct, eq=False):
    """An event on its way to a cell, with the message and the queue that it came in."""

    event: Event
    received: Received
    inbox: Inbox
    from_hold: bool  # it came from a hold queue or the quarantine queue
    suspect: bool = False  # it is sent alone: an instance may have died of it
    sent_at: float = 0.0  # monotonic seconds, when its batch left
    answered_at: float = 0.0  # monotonic seconds, when its cell answered, or is known not to
    generation: int = 0  # of the instance that it was sent to
    trace: EventTrace | None = None  # None: it is not traced

    @property
    def size(self) -> int:
        """How many bytes the event occupies: those of its body, and of what came beside it."""
        origin = self.event.origin
        return len(self.event.body) + (origin.size if origin else 0)

    def settle(self) -> None:
        """Settle the event in its queue, because it is done or safe in another queue."""
        self.inbox.settle(self.received)
