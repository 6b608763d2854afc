"""What the author of a handler imports.

A handler is named by `CELL_HANDLER=package.module:name`, where the name is either a coroutine function
`async def handle(event, cell) -> None | dict`, or a class of the shape of `Handler` below, made once per instance.

The handler is called with at most the declared concurrency, may be cancelled at its deadline, and may be called again
for an event it has not finished: what it emits is committed together with the event's id, all or nothing, when it
returns. Effects of its own, outside `emit`, must be idempotent.

A handler that is a class may have a coroutine method `canary(cell)`: its real way at a fixed cost, on an input of its
own and without effects. It is asked for about once a second, beside the events and with none of their places, to see
how well this instance is: it should be cheap, and slow when events would be. Whatever it raises says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import structlog


class RejectEvent(Exception):
    """The event can never succeed: it goes to the dead-letter queue with this reason."""


class RetryEvent(Exception):
    """Infrastructure is at fault, not the event: try again later; never counts as an attempt."""


@dataclass(frozen=True, slots=True)
class Event:
    """One unit of work."""

    event_id: str
    partition_key: str
    attempt: int  # from 1
    body: bytes  # JSON

    def json(self) -> Any:
        """The body, decoded. Raises RejectEvent when it isn't JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RejectEvent(f"body is not JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Cell:
    """The cell as one event sees it."""

    cell_id: str
    generation: int
    environment: str
    side_effects: bool  # False: observe and report, change nothing outside the cell
    log: structlog.stdlib.BoundLogger
    emitted: list[Mapping[str, Any]] = field(default_factory=list)
    resources: str = ""  # the name of the cell's own bucket and Firehose stream

    def emit(self, record: Mapping[str, Any]) -> None:
        """Add a JSON object to the cell's sink, committed with the event when the handler returns."""
        self.emitted.append(record)


class Component(Protocol):
    """What GET /components shows and POST /v1/components/{name}/restart restarts."""

    @property
    def name(self) -> str:
        """One word, unique in the cell: worker, store, sink, and so on."""
        ...

    async def check(self) -> str:
        """Describe a healthy state in a few words. Any exception means unhealthy, and its text is shown."""
        ...

    async def restart(self) -> None:
        """Drop what may be broken (connections, caches) and build it anew. Loses no event. Idempotent."""
        ...


class Handler(Protocol):
    """A handler with a life of its own: clients to open, components to show."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        """Open what events need and return it as components. Raising ends the worker, with the error in its log."""
        ...

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any] | None:
        """Process one event. Raise RejectEvent or RetryEvent; any other exception counts as `failed`.

        A returned mapping goes into the cell's log line for the event.
        """
        ...

    async def stop(self) -> None:
        """Close what start opened."""
        ...
