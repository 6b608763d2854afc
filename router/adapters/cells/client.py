"""CellClient over HTTP, as the wire contract says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from math import isfinite

import aiohttp
import msgspec

from cell_worker.contract import protocol
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.adapters.cells.calls import CellAnswer, CellCalls
from router.core.models import Contact, Event, Outcome, Result, Target

_encoder = msgspec.json.Encoder()
_result = StrictReader[protocol.EventResult]("result line", protocol.EventResult, protocol.MAX_RESULT_LINE_BYTES)


class HttpCellClient:
    """POSTs batches and reads the results as they stream back.

    A cell's answer is not trusted: its size and its time are bounded, and every line is checked.
    """

    def __init__(self, calls: CellCalls, event_timeout_s: float) -> None:
        self._calls = calls
        self._deadline_s = event_timeout_s
        # 5 s longer than the cell's own deadline: its `failed` says more than that the router gave up.
        self._patience_s = event_timeout_s + 5
        self._timeout = aiohttp.ClientTimeout(total=self._patience_s, sock_connect=2)

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        """POST the batch to the instance and yield its results as they arrive."""
        body = self._encode(target, batch)
        async with self._calls.call("POST", target, protocol.EVENTS_PATH, body, self._timeout) as answer:
            async for result in _results(answer, len(batch), self._patience_s):
                yield result

    def _encode(self, target: Target, batch: Sequence[Event]) -> bytes:
        events = [
            protocol.WireEvent(
                *(event.event_id, event.partition_key, event.attempt, msgspec.Raw(event.body)),
                canary=event.canary,
                suspect=event.suspect,
            )
            for event in batch
        ]
        return _encoder.encode(
            protocol.EventBatch(target.cell_id, target.generation, target.epoch, self._deadline_s, events)
        )


async def _results(answer: CellAnswer, count: int, patience_s: float) -> AsyncIterator[Result]:
    """Yield each index at most once. Raises ValueError for garbage, and ValueError or LineTooLong for long lines."""
    open_ = set(range(count))
    while open_:
        line = await answer.next_line()
        if not line:
            return
        found = _result.read(answer.proven(line))
        if isinstance(found, Unreadable):
            raise ValueError(f"a bad result line: {found.why}")  # noqa: TRY004 - it is a value's fault, not a type's
        if found.index not in open_:
            raise ValueError(f"a result for event {found.index}, which is not open")
        open_.discard(found.index)
        yield Result(
            found.index,
            Outcome(found.outcome.value),
            (found.reason or "")[: protocol.MAX_REASON_CHARS] or None,
            found.duplicate,
            Contact.ANSWERED if found.begun else Contact.NOT_REACHED,
            waited_s=_plausible(found.waited_s, patience_s),
        )


def _plausible(waited_s: float, patience_s: float) -> float:
    """Return the wait that the cell states, in seconds; 0 where it can't be, since the call may not last that long."""
    return waited_s if isfinite(waited_s) and 0 <= waited_s <= patience_s else 0.0
