"""Everything that the author of a handler imports.

`CELL_HANDLER=package.module:name` names the handler. It is one of two things:

- a coroutine function `async def handle(event: Event, cell: Cell) -> Mapping | None`, or
- a class with the same coroutine as its `__call__`, of which the worker makes one object, without arguments. When the
  class has `start` and `stop` too (see `Handler`), they open and close what it needs.

What the worker promises, and what it asks for:

- **Concurrency.** At most CELL_CONCURRENCY calls run at once, in one event loop, and never two for the same event. A
  handler must not block that loop: it hands long work on the CPU to a thread.
- **Deadline.** A call that takes too long is cancelled, and its event counts as failed. When it goes on all the same,
  its place is given to another event, and nothing that it does is committed.
- **Exactly one effect.** Records that a handler emits are committed together with the event's id when the handler
  returns: all of them or none. A handler may be called again for an event that it has not finished, so effects of its
  own, outside `emit`, must be idempotent.
- **Errors.** `RejectEvent` sends the event to the dead-letter queue. `RetryEvent` has it delivered again and counts
  nothing; `DeniedEvent` is one for rights that are refused. Any other exception counts as a failed attempt; after the
  router's `max_attempts` the event is a dead letter.

A class may also have a coroutine method `canary(cell)`. It does what an event would do, at a fixed cost: with an input
of its own and without effects. The worker calls it about once a second, beside the events and without taking one of
their places, to learn how well this instance is. It should be cheap, and slow whenever events would be slow. Whatever
it raises is reported as the reason why the instance is not well.

A class whose events have no effect but what they emit may have a coroutine method `rehearse(event, cell)`. By it the
class declares that it can do what an event would do without any effect: `rehearse = __call__`, where even that is true.
When the instance seems slow, copies of events that it has just done are rehearsed on it and on a new one beside it, and
the times are compared. The worker drops what is emitted and returned, commits nothing, and sets `side_effects` to
False. Write nothing, send nothing, call nobody who would. RejectEvent says that this event can't be rehearsed.

A component may have a coroutine method `run()`, which makes it a background component: see `Background`. `start` may
also ask the cell for what lasts: a table of its own (`cell.table`), a component that follows the table's changes
(`cell.follow`), and a commit of records once for all (`cell.commit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from cell_worker.api.tables import (
    MAX_WRITES,
    Apply,
    CellTable,
    Change,
    ItemKey,
    ItemValue,
    Put,
    TableItem,
    key_in,
)
from cell_worker.contract.protocol import EventName

__all__ = [
    "MAX_WRITES",
    "Apply",
    "Background",
    "Cell",
    "CellTable",
    "Change",
    "Component",
    "DeniedEvent",
    "Durables",
    "Event",
    "Handler",
    "ItemKey",
    "ItemValue",
    "Put",
    "RejectEvent",
    "RetryEvent",
    "TableItem",
    "key_in",
]


class RejectEvent(Exception):
    """Raise this when the event can never succeed: it goes to the dead-letter queue, with this text as the reason."""


class RetryEvent(Exception):
    """Raise this when infrastructure is at fault and not the event: it is delivered again and no attempt is counted."""


class DeniedEvent(RetryEvent):
    """Raise this when you are denied what the event needs, by a policy, a key or for your credentials.

    It is delivered again. When many events are denied, nothing is counted and one alert says so; when others get what
    they need for an hour and this one never, it is a failed attempt.
    """


@dataclass(frozen=True, slots=True)
class Event:
    """One unit of work, as it came from the source queue."""

    event_id: str
    """The same for every delivery of this event, and of no other event with this partition key."""
    partition_key: str
    """The tenant, account or whatever else the event was routed to this cell by."""
    attempt: int
    """How often the event has been tried, this call included: 1 at first. Retries are not counted."""
    body: bytes
    """The body as JSON, exactly as it came."""
    sent_at_ms: int = 0
    """When the source queue took the event's message, in ms since 1970. Retries and redrives don't change it."""
    attributes: Mapping[str, str | bytes] = field(default_factory=dict)
    """The attributes of that message: a String or a Number as text, as it came; a Binary one as bytes."""
    types: Mapping[str, str] = field(default_factory=dict)
    """The types of those attributes whose type isn't `String`, such as `Number` or `Binary.png`."""
    trace_header: str = ""
    """The message's AWSTraceHeader, by which X-Ray knows the trace; empty where it had none."""
    trace: str = ""
    """The span of this try, as a W3C traceparent; empty unless its router traces it. Send it on to whom you call."""

    @property
    def traceparent(self) -> str:
        """The trace context that its producer sent in the attribute `traceparent`, as W3C has it; empty for none."""
        given = self.attributes.get("traceparent", "")
        return given if isinstance(given, str) else ""

    @property
    def identity(self) -> str:
        """One text for partition key and id, which no other event has: the idempotency key for calls of others."""
        return EventName(self.partition_key, self.event_id).identity

    def json(self) -> Any:
        """Decode the body. Raises RejectEvent when it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (ValueError, RecursionError) as error:  # DecodeError and UnicodeDecodeError are ValueErrors
            raise RejectEvent(f"body is not JSON: {error}") from error

    def read(self, kind: Any) -> Any:
        """Decode the body as a value of this type, as msgspec knows types. Raises RejectEvent with what is wrong."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise RejectEvent(f"body is not as it should be: {error}") from error


class Durables(Protocol):
    """What a cell has that outlives its instances, beside the store: a worker lends it to `start`."""

    def table(self, name: str) -> CellTable:
        """Return the cell's own table of this name."""
        ...

    def follow(self, table: CellTable, apply: Apply, name: str) -> Component:
        """Make the component that has the changes of a table applied."""
        ...

    async def commit(self, name: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Send records to the cell's sink, once for each name."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """The cell that a handler runs in, made anew for each event."""

    cell_id: str
    generation: int
    """Which instance of the cell this is. It only grows: a later instance has a higher generation."""
    environment: str
    side_effects: bool
    """False in a cell that only observes and reports: change nothing outside the cell then."""
    log: structlog.stdlib.BoundLogger
    """The worker's log, with the cell's id bound to it."""
    emitted: list[Mapping[str, Any]] = field(default_factory=list)
    """What `emit` has collected for this event so far."""
    resources: str = ""
    """The name of the cell's own S3 bucket, which is also that of its Firehose stream."""
    metrics: CollectorRegistry | None = None
    """Where `start` may register Prometheus metrics: the worker's `GET /metrics` shows them. None for events."""
    durables: Durables | None = None
    """What `table`, `follow` and `commit` are about. None for events."""

    def table(self, name: str) -> CellTable:
        """Return the cell's own table of this name, for `start` to keep. The setting `cells.table` has it made.

        It makes no call. In DynamoDB the table's name is `resources-NAME`.
        """
        return self._lent().table(name)

    def follow(self, table: CellTable, apply: Apply, name: str = "stream") -> Component:
        """Make a background component that has all changes of a table applied, for `start` to return.

        - Changes of one partition key come in their order. Those that `apply` has taken are remembered in the table.
        - They come at least once. After a crash, or in a table that was restored or not followed for a day, they come
          again, or all items come as new ones. Decide by what the table has now, and write by compare-and-set.
        - When `apply` raises, the component is not healthy, and the same changes come again after a pause.
        """
        return self._lent().follow(table, apply, name)

    async def commit(self, name: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Send records to the cell's sink, as `emit` does for events: all of them once, for each name.

        False when that was done before, by any instance, in the last 15 days. Raises RetryEvent when it can't be done
        now. For background components; a name is any text.
        """
        return await self._lent().commit(name, records)

    def _lent(self) -> Durables:
        if self.durables is None:
            raise RuntimeError("only the cell that `start` is given has tables: keep what you need of it")
        return self.durables

    def emit(self, record: Mapping[str, Any]) -> None:
        """Send a record to the cell's sink as one line of JSON, once the handler has returned without an error."""
        self.emitted.append(record)


class Component(Protocol):
    """A part of the cell that can be checked and restarted on its own, such as the client of a database.

    `GET /components` shows each one, and `POST /v1/components/{name}/restart` restarts it.
    """

    @property
    def name(self) -> str:
        """One word that no other component of the cell has. Taken are: worker, store, sink and hold."""
        ...

    async def check(self) -> str:
        """Describe the healthy state in a few words. Any exception means unhealthy, and its text is shown."""
        ...

    async def restart(self) -> None:
        """Replace what may be broken, such as connections and caches.

        A restart must lose no event, and two in a row must do no more than one. An exception is shown to whoever asked.
        """
        ...


class Background(Component, Protocol):
    """A component that also works by itself, such as one that follows a stream. `cell.follow` makes one."""

    async def run(self) -> None:
        """Work until cancelled. It runs only while the instance has the cell: never in two instances of it for long.

        When it raises or returns, the component is not healthy, and it runs again after a pause. It is cancelled, and
        runs again, when the component is restarted. Whatever it does must bear to be done again.
        """
        ...


class Handler(Protocol):
    """A handler that opens something when the worker starts, and closes it when the worker ends."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        """Open what events need, and return it as components. An exception ends the worker, and its log says why."""
        ...

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any] | None:
        """Process one event. A returned mapping goes into the cell's log line for the event and nowhere else.

        Raises RejectEvent or RetryEvent, as the module's text says; any other exception counts as a failed attempt.
        """
        ...

    async def stop(self) -> None:
        """Close what `start` has opened. By then every call has ended or has been cancelled."""
        ...
