"""CellClient over HTTP, as the wire contract says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from cell_worker.contract import protocol
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.adapters.cells.calls import CellCalls, UnprovenError
from router.core.models import Contact, Event, Origin, Outcome, Result, Target

_OUTCOMES: Final = {outcome: Outcome(outcome.value) for outcome in protocol.Outcome}
_BESIDE: Final = ("sent_at_ms", "trace_header", "attributes", "binaries", "types")
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
            open_ = set(range(len(batch)))
            while open_ and (lines := await answer.lines()):
                for line in lines[: len(open_)]:
                    yield self._read(line, open_)

    def _encode(self, target: Target, batch: Sequence[Event]) -> bytes:
        events = [
            protocol.WireEvent(
                *(event.event_id, event.partition_key, event.attempt, msgspec.Raw(event.body)),
                canary=event.canary,
                suspect=event.suspect,
                rehearse=event.rehearse,
                trace=event.trace,
                **(_beside(event.origin) if event.origin else {}),
            )
            for event in batch
        ]
        return _encoder.encode(
            protocol.EventBatch(target.cell_id, target.generation, target.epoch, self._deadline_s, events)
        )

    def _read(self, line: bytes | None, open_: set[int]) -> Result:
        """Read one result line, of an event that is open and is not any longer. Raises ValueError."""
        if line is None:
            raise UnprovenError("a result line")
        found = _result.read(line)
        if isinstance(found, Unreadable):
            raise ValueError(f"a bad result line: {found.why}")  # noqa: TRY004 - it is a value's fault, not a type's
        if found.index not in open_:
            raise ValueError(f"a result for event {found.index}, which is not open")
        open_.remove(found.index)
        return Result(
            found.index,
            _OUTCOMES[found.outcome],
            found.reason[: protocol.MAX_REASON_CHARS] if found.reason else None,
            found.duplicate,
            found.other_body,
            Contact.ANSWERED if found.begun else Contact.NOT_REACHED,
            # A call may not last longer than patience_s, so a wait that can't be (or is NaN) counts as none.
            waited_s=found.waited_s if 0 <= found.waited_s <= self._patience_s else 0.0,
            denied=found.denied,
            emitted=found.emitted,
            emitted_digest=found.emitted_digest,
        )


def _beside(origin: Origin) -> dict[str, Any]:
    """What came beside an event's body, as fields of the wire."""
    return {name: getattr(origin, name) for name in _BESIDE}
