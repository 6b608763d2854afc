"""The way of emitted lines from the cell's outbox to its Firehose stream.

Guarantees: no line is lost: it leaves the outbox only after Firehose has taken it. A line may arrive twice (after a
kill between the two), byte for byte the same, so lines carry ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from cell_worker import clock
from cell_worker.aws import AWS_ERRORS, AwsClient
from cell_worker.store import Store, StoreError

MAX_LINE_BYTES: Final = 1000 * 1024  # Firehose's limit for a record
MAX_PUT_BYTES: Final = 4 * 1024 * 1024  # for a call
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
        self._failing_since: float | None = None
        self._last_error = ""

    async def run(self) -> None:
        """Forward until cancelled."""
        failures = 0
        while True:
            try:
                busy = await self.forward()
            except (StoreError, SinkError, *AWS_ERRORS) as error:
                self._note(error)
                failures = min(failures + 1, 16)
                await clock.sleep(min(LAST_BACKOFF_S, 0.1 * 2**failures) * clock.jitter())
            else:
                self._failing_since, failures = None, 0
                if not busy:
                    await clock.sleep(IDLE_S)

    async def forward(self) -> bool:
        """Put one batch; False when nothing was there. Raises when anything of it wasn't taken."""
        batch = _fitting(await self._store.outbox(MAX_PUT_LINES))
        if not batch:
            return False
        client = await self._client.get()
        records = [{"Data": line} for _, line in batch]
        answer = await client.put_record_batch(DeliveryStreamName=self._stream, Records=records)
        refused = [
            (seq, entry["ErrorCode"])
            for (seq, _), entry in zip(batch, answer["RequestResponses"], strict=True)
            if entry.get("ErrorCode")
        ]
        await self._store.delete(batch[-1][0], keep=[seq for seq, _ in refused])
        if refused:
            raise SinkError(f"{len(refused)} of {len(batch)} records were refused: {refused[0][1]}")
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


class NullSink:
    """For cells without a sink: lines are forgotten."""

    name = "sink"

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Forget until cancelled."""
        while True:
            await self.flush()
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


def _fitting(lines: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """As many, from the first, as one call may carry."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for seq, line in lines:
        size += len(line)
        if batch and size > MAX_PUT_BYTES:
            break
        batch.append((seq, line))
    return batch
