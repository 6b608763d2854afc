"""The sinks that empty a cell's store: one suite for the fake in memory, for SQLite and for DynamoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from cell_worker.components.sink import MAX_LINE_BYTES, FirehoseSink, NullSink, SinkError
from cell_worker.store.store import FencedError, Store, StoreError
from tests.support.aio import run
from tests.support.memory_store import MemoryStore
from tests.support.stores import Make, named, on


class Firehose:
    """Takes every record but those of `refuses`; waits for `open` first, and answers `garbage` when that is set."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.calls = 0
        self.refuses: set[bytes] = set()
        self.garbage: object = None
        self.open = asyncio.Event()
        self.open.set()

    async def put_record_batch(self, *, DeliveryStreamName: str, Records: Sequence[dict[str, bytes]]) -> Any:  # noqa: N803 - boto's
        self.calls += 1
        await self.open.wait()
        lines = [record["Data"] for record in Records]
        if self.garbage is not None:
            return self.garbage
        self.taken += [line for line in lines if line not in self.refuses]
        return {"RequestResponses": [{"ErrorCode": "Slow"} if line in self.refuses else {} for line in lines]}


def sink_of(store: Store) -> tuple[FirehoseSink, Firehose]:
    """Make a sink whose Firehose client is a fake."""
    sink, firehose = FirehoseSink(store, "stream"), Firehose()
    sink._client._client = firehose
    return sink, firehose


def test_what_firehose_refuses_stays_and_comes_again(make: Make) -> None:
    """Only the refused lines stay in the outbox and are put again."""

    async def story(store: Store) -> None:
        sink, firehose = sink_of(store)
        await store.commit(named("a"), [b"1", b"2", b"3"])
        firehose.refuses = {b"2"}
        with pytest.raises(SinkError, match="1 of 3 records were refused: Slow"):
            await sink.deliver()
        assert [line for _, line in await store.outbox(10)] == [b"2"]
        firehose.refuses = set()
        assert await sink.deliver()
        assert not await sink.deliver()
        assert firehose.taken == [b"1", b"3", b"2"]

    on(make, story)


def test_only_the_instance_that_has_the_store_delivers(make: Make) -> None:
    """In standby nothing is put. Once the newer instance has the store, the older one's sink ends with the reason."""

    async def story(older: Store) -> None:
        newer = make()
        await newer.open(2)
        (old_sink, old_firehose), (sink, firehose) = sink_of(older), sink_of(newer)
        await older.commit(named("a"), [b"1"])
        await sink.flush()
        assert firehose.calls == 0
        await old_sink.flush()
        await older.commit(named("b"), [b"2"])
        await newer.take()
        with pytest.raises(FencedError):
            await old_sink.run()
        with pytest.raises(FencedError):
            await NullSink(older).run()
        await sink.flush()
        assert (old_firehose.taken, firehose.taken) == ([b"1"], [b"2"])
        await newer.close()

    on(make, story)


def test_lines_that_a_predecessor_still_delivered_are_not_counted_for_ever(make: Make) -> None:
    """The predecessor had read the lines before its successor took the store."""

    async def story(older: Store) -> None:
        newer = make()
        await newer.open(2)
        await older.commit(named("a"), [b"1"])
        ((number, _),) = await older.outbox(10)
        await newer.take()
        await older.delete(number)
        assert await newer.outbox(10) == []
        assert await newer.outbox_size() == 0
        await newer.close()

    on(make, story)


@pytest.mark.parametrize("garbage", [{}, {"RequestResponses": []}, {"RequestResponses": [{}] * 3}, "no"])
def test_an_answer_that_firehose_would_never_give_loses_nothing(make: Make, garbage: object) -> None:
    """Such an answer says nothing about the lines, so they stay, and the sink goes on trying."""

    async def story(store: Store) -> None:
        sink, firehose = sink_of(store)
        await store.commit(named("a"), [b"1", b"2"])
        firehose.garbage = garbage
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(sink.run())
            while firehose.calls < 2:  # noqa: ASYNC110 - a poll within the test's time
                await asyncio.sleep(0.01)  # noqa: TID251 - the sink waits in real time
            assert await store.outbox_size() == 2
            firehose.garbage = None
            while await store.outbox_size():  # noqa: ASYNC110 - a poll within the test's time
                await asyncio.sleep(0.01)  # noqa: TID251 - the sink waits in real time
            running.cancel()
            await asyncio.wait([running])
        assert [entry["event"] for entry in logs] == ["the sink fails", "the sink works again"]

    on(make, story)


def test_a_flush_beside_the_sinks_own_work_puts_no_line_twice(make: Make) -> None:
    """This happens at the end of every worker."""

    async def story(store: Store) -> None:
        sink, firehose = sink_of(store)
        await store.commit(named("a"), [b"x" * MAX_LINE_BYTES] * 9)
        firehose.open.clear()
        flushing = asyncio.gather(sink.deliver(), sink.flush())
        while not firehose.calls:  # noqa: ASYNC110 - a poll within the test's time
            await asyncio.sleep(0.01)  # noqa: TID251 - the store has a thread
        firehose.open.set()
        await flushing
        assert len(firehose.taken) == 9
        assert firehose.calls == 3  # four lines a call: 4 MiB

    on(make, story)


def test_lines_that_were_delivered_and_can_not_be_deleted_are_not_put_again(make: Make) -> None:
    """Nothing at all is put before the store has deleted them; what was refused stays for the next try."""

    async def story(store: Store) -> None:
        sink, firehose = sink_of(store)
        delete = store.delete

        async def fail(last_seq: int, keep: Sequence[int] = ()) -> None:
            raise StoreError("disk full")

        await store.commit(named("a"), [b"1", b"2", b"3"])
        firehose.refuses = {b"2"}
        store.delete = fail  # type: ignore[method-assign]
        for _ in range(5):
            with pytest.raises(StoreError, match="disk full"):
                await sink.deliver()
        assert (firehose.calls, firehose.taken) == (1, [b"1", b"3"])
        store.delete, firehose.refuses = delete, set()  # type: ignore[method-assign]
        await sink.flush()
        assert firehose.taken == [b"1", b"3", b"2"]

    on(make, story)


def test_a_full_disk_does_not_end_a_worker_without_a_sink(tmp_path: Path) -> None:
    """Deleting lines needs room too. The sink logs the failure and tries again."""

    class Full(MemoryStore):
        async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
            raise StoreError("disk full")

    async def main() -> None:
        store = Full()
        await store.commit(named("a"), [b"1"])
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(NullSink(store).run())
            await asyncio.wait([running], timeout=0.01)
            assert not running.done()
            running.cancel()
            await asyncio.wait([running])
        assert [entry["error"] for entry in logs] == ["disk full"]

    run(main())
