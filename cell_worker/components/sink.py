"""The way of emitted lines from the cell's outbox to its Firehose stream.

Guarantees: no line is lost: it leaves the outbox only after Firehose has taken it. A line may arrive twice (after a
kill between the two), byte for byte the same, so lines carry ids.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from cell_worker import clock
from cell_worker.aws import AWS_ERRORS, AwsClient
from cell_worker.store.store import FencedError, Store, StoreError

MAX_LINE_BYTES: Final = 1000 * 1024  # Firehose's limit for a record
MAX_PUT_BYTES: Final = 4 * 1024 * 1024  # and for a call
MAX_PUT_LINES: Final = 500
IDLE_S: Final = 0.1
LAST_BACKOFF_S: Final = 10.0
UNHEALTHY_AFTER_S: Final = 10.0


class SinkError(Exception):
    """Firehose did not take everything."""


class FirehoseSink:
    """Empties the outbox in the background. A component of the cell."""

    name = "sink"

    def __init__(self, store: Store, stream: str) -> None:
        self._store = store
        self._stream = stream
        self._log = structlog.get_logger("sink")
        self._client = AwsClient("firehose")
        self._putting = asyncio.Lock()
        self._failing_since: float | None = None
        self._last_error = ""

    async def run(self) -> None:
        """Forward until cancelled. Raises FencedError: what is left is for the successor to deliver."""
        failures = 0
        while True:
            try:
                busy = await self.forward()
            except FencedError:
                raise
            except (StoreError, SinkError, *AWS_ERRORS) as error:
                self._note(error)
                failures = min(failures + 1, 16)
                await clock.sleep(min(LAST_BACKOFF_S, 0.1 * 2**failures) * clock.jitter())
            else:
                self._well()
                failures = 0
                if not busy:
                    await clock.sleep(IDLE_S)

    async def forward(self) -> bool:
        """Put one batch; False when nothing was there. Raises when anything of it wasn't taken."""
        async with self._putting:  # a flush beside `run` would put the same lines again
            batch = await self._store.outbox(MAX_PUT_LINES, MAX_PUT_BYTES)
            if not batch:
                return False
            client = await self._client.get()
            records = [{"Data": line} for _, line in batch]
            answer = await client.put_record_batch(DeliveryStreamName=self._stream, Records=records)
            errors = _errors(answer, len(batch))
            refused = [seq for (seq, _), error in zip(batch, errors, strict=True) if error]
            await self._store.delete(batch[-1][0], keep=refused)
        if refused:
            raise SinkError(f"{len(refused)} of {len(batch)} records were refused: {next(filter(None, errors))}")
        return True

    async def flush(self) -> None:
        """Until the outbox is empty, or the sink fails."""
        while await self.forward():
            pass

    async def check(self) -> str:
        """Unhealthy when nothing has been taken for 10 s though it was tried."""
        if self._failing_since is not None and clock.monotonic() - self._failing_since > UNHEALTHY_AFTER_S:
            raise SinkError(self._last_error)
        return f"{self._stream}, {await self._store.outbox_size()} lines wait"

    async def restart(self) -> None:
        """A new client."""
        await self.close()

    async def close(self) -> None:
        """Let go of the client."""
        await self._client.close()

    def _note(self, error: Exception) -> None:
        self._last_error = f"{type(error).__name__}: {error}"
        if self._failing_since is None:
            self._failing_since = clock.monotonic()
            self._log.warning("the sink fails", error=self._last_error)

    def _well(self) -> None:
        if self._failing_since is not None:
            self._log.info("the sink works again", failed_s=round(clock.monotonic() - self._failing_since, 1))
        self._failing_since = None


class NullSink:
    """For cells without a sink: lines are forgotten."""

    name = "sink"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = structlog.get_logger("sink")

    async def run(self) -> None:
        """Forget until cancelled. Raises FencedError."""
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
        """Forget all."""
        while batch := await self._store.outbox(MAX_PUT_LINES):
            await self._store.delete(batch[-1][0])

    async def check(self) -> str:
        """Always well."""
        return "none"

    async def restart(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


def _errors(answer: Any, count: int) -> list[str]:
    """The error of each record, "" for none. Raises SinkError for an answer that doesn't say so for each."""
    match answer:
        case {"RequestResponses": [*entries]} if len(entries) == count:
            return [entry.get("ErrorCode") or "" for entry in entries]
    raise SinkError(f"the answer to {count} records is not one of Firehose's")
