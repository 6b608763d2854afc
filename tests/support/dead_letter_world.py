"""A dead-letter queue on virtual time, with a source behind it, of which single calls can be made to go wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from router.adapters.memory import MemorySource
from router.core.errors import SourceUnavailableError
from router.core.messages import dead_letter
from router.core.messages.dead_letter import Entry, Filter
from router.core.messages.parser import Extraction, Parser
from router.core.models import MAX_MESSAGE_BYTES, Draft, Event, Message
from router.ports import Clock
from router.services.dead_letters import DeadLetters, EntryReport, Tally
from tests.support.attribute_keys import KEYS
from tests.support.fake_clock import FakeClock, play

ALL = Filter()
HOUR_MS = 3_600_000
PARSER = Parser(Extraction())


class CrashError(Exception):
    """The process ends here, as far as the queues know."""


class Queue(MemorySource):
    """A queue of which single calls can be made to go wrong."""

    def __init__(self, name: str, clock: Clock, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        super().__init__(name, clock, max_bytes)
        self.sent: list[tuple[float, Draft]] = []  # when, what: all that was ever taken
        self.calls: list[int] = []  # how many drafts in each send
        self.receives = 0
        self.reply_s = 0.0  # how many seconds a reply takes
        self.on_delete: Callable[[], object] = lambda: None
        self.on_receive: Callable[[], object] = lambda: None
        self.refuses: Callable[[Draft], bool] = lambda _: False
        self.fails_with: Callable[[Draft], bool] = lambda _: False
        self._time = clock

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        self.receives += 1
        self.on_receive()
        messages = await super().receive(max_messages, wait_s, visibility_s)
        await self._reply()
        return messages

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        self.on_delete()
        return await super().delete(messages)

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        self.calls.append(len(drafts))
        if any(self.fails_with(draft) for draft in drafts):
            raise SourceUnavailableError(f"queue {self.name}: no")
        taken = [draft for draft in drafts if not self.refuses(draft)]
        await super().send(taken)
        self.sent += [(self._time.monotonic(), draft) for draft in taken]
        await self._reply()
        return [position for position, draft in enumerate(drafts) if self.refuses(draft)]

    async def _reply(self) -> None:
        if self.reply_s:
            await self._time.sleep(self.reply_s)

    def visible(self) -> int:
        """Count the messages that a receiver could get now."""
        return sum(stored.visible_at <= self._time.monotonic() for stored in self._stored.values())


class World:
    """A dead-letter queue, its source, and runs of an operator through them."""

    def __init__(self, source: str = "source") -> None:
        self.clock = FakeClock()
        self.dead = Queue("dead", self.clock)
        self.source = Queue(source, self.clock)
        self.queues = {queue.name: queue for queue in (self.dead, self.source)}
        self.letters = DeadLetters(self.dead, source, lambda name, _: name == source, self.open, KEYS, self.clock)
        self.steps: list[EntryReport] = []
        self.shown: list[Entry] = []
        self.tally = Tally()

    def open(self, name: str) -> Queue:
        """Return the queue of this name; the first call makes it."""
        return self.queues.setdefault(name, Queue(name, self.clock))

    def play(self, story: Coroutine[Any, Any, Any]) -> None:
        """Run a story on virtual time."""
        play(self.clock, story)

    async def bury(self, count: int, reason: str = "rejected", source: str = "", body: bytes = b"{}") -> None:
        """Put so many dead events into the queue: e0, e1 an hour older, and so on."""
        for number in range(count):
            letter = dead_letter.of_event(
                Event(f"e{number}", f"key-{number % 2}", body, 5),
                Message(f"m{number}", "r", "", 1, 1),
                reason=reason,
                error="no",
                source=source or self.source.name,
                dead_at_ms=self.clock.time_ms() - HOUR_MS * number,
            )
            await self.dead.send(dead_letter.to_drafts(letter))

    async def look(self, where: Filter = ALL) -> None:
        """Look through the queue, showing entries into `shown`."""
        await self.letters.look(where, self.tally, self.shown.append)

    async def redrive(self, where: Filter = ALL, **more: Any) -> Tally:
        """Redrive in a run with a tally of its own."""
        tally = Tally()
        await self.letters.redrive(where, tally, self.steps.append, **more)
        return tally

    async def drop(self, where: Filter = ALL, **more: Any) -> Tally:
        """Drop in a run with a tally of its own."""
        tally = Tally()
        await self.letters.drop(where, tally, self.steps.append, **more)
        return tally

    def arrived(self) -> list[str]:
        """List the ids of the events at the source, as a router would read them."""
        events = [PARSER.parse(Message("new", "r", d.body, 1, 1, d.attributes)) for _, d in self.source.sent]
        return [event.event_id for (event,) in events]


def ids(count: int) -> list[str]:
    """List e0, e1, …, sorted as text."""
    return sorted(f"e{number}" for number in range(count))
