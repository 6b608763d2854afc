"""Delivers emitted lines from the cell's outbox to its Firehose stream.

Guarantee: no line is lost, since a line leaves the outbox only after Firehose has taken it. When the worker is killed
between the two, the line arrives twice, byte for byte the same. Therefore lines carry ids. While the outbox can't be
written, as when the disk is full, nothing is delivered: what was delivered last must leave it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog

from cell_worker import clock
from cell_worker.aws import AWS_ERRORS, AwsClient
from cell_worker.contract.protocol import Reason
from cell_worker.store.store import FencedError, Store, StoreError

MAX_LINE_BYTES: Final = 1000 * 1024
"""Firehose takes no longer record."""
MAX_PUT_BYTES: Final = 4 * 1024 * 1024
"""Firehose takes no larger call."""
MAX_PUT_LINES: Final = 500
"""Firehose takes no more records in one call."""
IDLE_S: Final = 0.1
"""How long the sink waits before it looks into an empty outbox again."""
LAST_BACKOFF_S: Final = 10.0
"""The longest wait between two failures."""
UNHEALTHY_AFTER_S: Final = 10.0
"""The sink is unhealthy when it has failed for so long."""


class SinkError(Exception):
    """Firehose did not take everything; the text says what it refused and why."""


class _Delivered(NamedTuple):
    """The lines of one batch by their numbers in the outbox: all up to the last one, but not the refused ones."""

    last_seq: int
    refused: Sequence[int]


class FirehoseSink:
    """The sink of a cell that has a Firehose stream. It empties the outbox in the background."""

    name = "sink"

    def __init__(self, store: Store, stream: str) -> None:
        self._store = store
        self._stream = stream
        self._log = structlog.get_logger("sink")
        self._client = AwsClient("firehose")
        self._putting = asyncio.Lock()
        self._delivered: _Delivered | None = None  # what Firehose has taken and the store has not deleted yet
        self._failing_since: float | None = None
        self._why_failing: Reason | None = None

    async def run(self) -> None:
        """Deliver lines until cancelled. Raises FencedError: the rest is for the successor to deliver."""
        failures = 0
        while True:
            try:
                busy = await self.deliver()
            except FencedError:
                raise
            except (StoreError, SinkError, *AWS_ERRORS) as error:
                self._note_failure(error)
                failures = min(failures + 1, 16)
                await clock.sleep(min(LAST_BACKOFF_S, 0.1 * 2**failures) * clock.jitter())
            else:
                self._note_success()
                failures = 0
                if not busy:
                    await clock.sleep(IDLE_S)

    async def deliver(self) -> bool:
        """Put one batch of lines to Firehose. False when the outbox was empty.

        Raises SinkError when any line of the batch was refused, one of AWS_ERRORS, or StoreError.
        """
        async with self._putting:  # a flush beside `run` would put the same lines again
            await self._delete_delivered()
            batch = await self._store.outbox(MAX_PUT_LINES, MAX_PUT_BYTES)
            if not batch:
                return False
            client = await self._client.get()
            records = [{"Data": line} for _, line in batch]
            answer = await client.put_record_batch(DeliveryStreamName=self._stream, Records=records)
            errors = _errors(answer, len(batch))
            refused = [seq for (seq, _), error in zip(batch, errors, strict=True) if error]
            self._delivered = _Delivered(batch[-1][0], refused)
            await self._delete_delivered()
        if refused:
            raise SinkError(f"{len(refused)} of {len(batch)} records were refused: {next(filter(None, errors))}")
        return True

    async def flush(self) -> None:
        """Deliver lines until the outbox is empty. Raises what `deliver` raises."""
        while await self.deliver():
            pass

    async def check(self) -> str:
        """Say how many lines wait. Raises SinkError when every try of the last UNHEALTHY_AFTER_S seconds has failed."""
        if self._failing_since is not None and clock.monotonic() - self._failing_since > UNHEALTHY_AFTER_S:
            raise SinkError(self._why_failing)
        return f"{self._stream}, {await self._store.outbox_size()} lines wait"

    async def restart(self) -> None:
        """Close the client; the next call opens a new one."""
        await self.close()

    async def close(self) -> None:
        """Close the client with its connections."""
        await self._client.close()

    async def _delete_delivered(self) -> None:
        if self._delivered is not None:
            await self._store.delete(self._delivered.last_seq, keep=self._delivered.refused)
            self._delivered = None

    def _note_failure(self, error: Exception) -> None:
        self._why_failing = f"{type(error).__name__}: {error}"
        if self._failing_since is None:
            self._failing_since = clock.monotonic()
            self._log.warning("the sink fails", error=self._why_failing)

    def _note_success(self) -> None:
        if self._failing_since is not None:
            self._log.info("the sink works again", failed_s=round(clock.monotonic() - self._failing_since, 1))
        self._failing_since = self._why_failing = None


class NullSink:
    """The sink of a cell that has no Firehose stream. It deletes lines from the outbox without delivering them."""

    name = "sink"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = structlog.get_logger("sink")

    async def run(self) -> None:
        """Delete lines until cancelled. Raises FencedError."""
        while True:
            try:
                await self.flush()
            except FencedError:
                raise
            except StoreError as error:
                self._log.warning("can't empty the outbox", error=str(error))
                await clock.sleep(LAST_BACKOFF_S)
            await clock.sleep(IDLE_S)

    async def flush(self) -> None:
        """Delete every line of the outbox. Raises StoreError or FencedError."""
        while batch := await self._store.outbox(MAX_PUT_LINES):
            await self._store.delete(batch[-1][0])

    async def check(self) -> str:
        """Say that the cell has no sink, which is always healthy."""
        return "none"

    async def restart(self) -> None:
        """Do nothing: there is no client to replace."""

    async def close(self) -> None:
        """Do nothing: there is no client to close."""


def _errors(answer: Any, count: int) -> list[Reason | None]:
    """Firehose's error code for each record, None for one that it took. Raises SinkError for any other answer."""
    match answer:
        case {"RequestResponses": [*entries]} if len(entries) == count:
            return [entry.get("ErrorCode") or None for entry in entries]
    raise SinkError(f"the answer to {count} records is not one of Firehose's")
