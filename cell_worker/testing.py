"""For tests of your handler: it runs as in a worker, but in the test's own process, with a store that is thrown away.

    from cell_worker.testing import Harness

    def test_an_order_is_taxed() -> None:
        with Harness(handle) as cell:
            answer = cell.give({"id": 1, "total": 10.0}, key="acme")
        assert (answer.outcome, answer.emitted) == ("ok", [{"order": 1, "tax": 1.9}])

Time limits, outcomes, duplicates and what is committed are the worker's own: nothing here imitates them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from cell_worker.api import Component
from cell_worker.containment.abandoned import HandlerThreads
from cell_worker.contract.protocol import EventBatch, EventName, EventResult, Outcome, Reason, WireEvent, table_name
from cell_worker.handling import lines_of, load_handler, start_handler, stop_handler, usable
from cell_worker.metrics import WorkerMetrics
from cell_worker.runtime import Identity, Runtime
from cell_worker.store.sqlite import SqliteStore
from cell_worker.tables.durables import LentDurables
from cell_worker.tables.memory import MemoryTable
from cell_worker.tables.reader import TableReader

T = TypeVar("T")
_MOST_LINES = 1_000_000  # that one event may emit


@dataclass(frozen=True, slots=True)
class Answer:
    """What the worker would answer the router about one event, and what the event has left in the cell."""

    outcome: Outcome
    """`ok`, `rejected` (RejectEvent), `retry` (RetryEvent, DeniedEvent) or `failed` (anything else, a timeout too)."""
    reason: Reason | None
    """The text of the exception; None when the outcome is `ok`."""
    emitted: list[Any]
    """The committed records, as they reach the sink; none unless the outcome is `ok`."""
    duplicate: bool
    """Whether the event was done before, so that the handler was not called."""
    denied: bool
    """Whether the handler has raised DeniedEvent."""


class Harness:
    """One cell with one worker around a handler. Entering it starts the handler, and leaving it stops the handler.

    All calls of one harness run in one event loop, which runs only during a call.
    """

    def __init__(
        self,
        handler: Any,
        *,
        cell_id: str = "cell-0000",
        side_effects: bool = True,
        event_timeout_s: float = 60.0,
        table_of: Callable[[str], MemoryTable] = MemoryTable,
    ) -> None:
        """`handler` is a function, a class, an object of one, or a name such as `orders:handle`.

        `table_of` makes the cell's own tables, in memory, by their full names. Raises HandlerError, as the start of a
        worker does, when the handler can't be used.
        """
        self._table_of = table_of
        self.tables: dict[str, MemoryTable] = {}
        """The cell's own tables that the handler has asked for, by their short names."""
        self.done: list[EventName] = []
        """The events that are done, by key and id, in the order in which they were committed."""
        self.components: dict[str, Component] = {}
        """What the handler's `start` has returned, by name: check and restart them with `run`."""
        self._handler = load_handler(handler) if isinstance(handler, str) else usable(handler)
        self._identity = Identity(cell_id, 1, "test", side_effects, f"cellrouter-test-{cell_id}")
        self._timeout_s = event_timeout_s
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="cell-")))
            self._runner = stack.enter_context(asyncio.Runner())
            threads = HandlerThreads(concurrency=1)
            stack.callback(self._leave_threads, threads)
            self._runner.get_loop().set_default_executor(threads)
            self._store = SqliteStore(folder / "store.db")
            stack.callback(lambda: self.run(self._store.close()))
            self.run(self._start())
            stack.callback(lambda: self.run(stop_handler(self._handler)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the handler's own loop, such as a call of its clients or `component.check()`."""
        return self._runner.run(work)

    def give(
        self,
        body: Mapping[str, Any] | bytes | str,
        *,
        key: str = "tenant",
        event_id: str | None = None,
        attempt: int = 1,
        attributes: Mapping[str, str | bytes] | None = None,
        sent_at_ms: int = 0,
    ) -> Answer:
        """Have the handler process one event, and wait for the answer.

        Without an `event_id` it is an event that never came before. A mapping becomes JSON; text and bytes are taken as
        they are, also when they are no JSON.
        """
        given = (attributes or {}).items()
        return self._answer(
            WireEvent(
                event_id or uuid.uuid4().hex,
                key,
                attempt,
                msgspec.Raw(_encoded(body)),
                sent_at_ms=sent_at_ms,
                attributes={name: value for name, value in given if isinstance(value, str)},
                binaries={name: value for name, value in given if isinstance(value, bytes)},
            )
        )

    def canary(self) -> Answer:
        """Send a canary, as routers and the leader do: it is `ok`, or `retry` with what the handler's canary raises."""
        return self._answer(WireEvent("canary", "", 1, msgspec.Raw(b"{}"), canary=True))

    def catch_up(self) -> list[Any]:
        """Have every component that follows a table apply all changes. Returns the records that were committed."""
        return self.run(self._caught_up())

    async def _caught_up(self) -> list[Any]:
        readers = [each for each in self.components.values() if isinstance(each, TableReader)]
        while any([await reader.turn() for reader in readers]):
            pass
        return list(map(msgspec.json.decode, await self._lines()))

    def _table(self, name: str) -> MemoryTable:
        self.tables[name] = self._table_of(table_name(self._identity.resources, name))
        return self.tables[name]

    async def _start(self) -> None:
        metrics = WorkerMetrics()
        await self._store.open(self._identity.generation)
        await self._store.take()
        self._runtime = Runtime(
            self._identity, self._handler, self._store, metrics, concurrency=1, event_timeout_s=self._timeout_s
        )
        lent = LentDurables(self._store, self._table, lines_of, metrics.registry)
        cell = replace(self._identity.cell(), metrics=metrics.registry, durables=lent)
        found = await start_handler(self._handler, cell)
        self.components = {component.name: component for component in found}

    def _answer(self, event: WireEvent) -> Answer:
        result, lines = self.run(self._processed(event))
        if result.outcome is Outcome.OK and not event.canary and not result.duplicate:
            self.done.append(EventName(event.partition_key, event.event_id))
        return Answer(
            result.outcome, result.reason, list(map(msgspec.json.decode, lines)), result.duplicate, result.denied
        )

    async def _processed(self, event: WireEvent) -> tuple[EventResult, list[bytes]]:
        """The result of an event, and its lines, which are taken out of the store as the sink would."""
        batch = EventBatch(self._identity.cell_id, self._identity.generation, 1, self._timeout_s, [event])
        (result,) = [each async for together in self._runtime.process(batch) for each in together]
        return result, await self._lines()

    async def _lines(self) -> list[bytes]:
        lines = await self._store.outbox(_MOST_LINES, max_bytes=2**40)
        if lines:
            await self._store.delete(lines[-1][0])
        return [line for _, line in lines]

    def _leave_threads(self, threads: HandlerThreads) -> None:
        """Wait for no thread that a handler has left: the loop, which would, is given others."""
        self._runner.get_loop().set_default_executor(ThreadPoolExecutor(1))
        threads.shutdown(wait=False, cancel_futures=True)


def _encoded(body: Mapping[str, Any] | bytes | str) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)
