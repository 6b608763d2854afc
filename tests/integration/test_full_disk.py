"""What a really full disk does: nothing is lost, nothing is sent again and again, and all works again with room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from cell_worker.components.sink import FirehoseSink
from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import StoreError
from router.adapters.saved_routing import SavedRouting
from router.core.policy import NO_POLICY
from router.core.slot_map.routing import KnownRouting, Routing
from router.core.slot_map.slots import SlotMap, assign
from tests.support.aio import run
from tests.support.small_disk import small_disk
from tests.support.stores import named


class Firehose:
    """Takes every record."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def put_record_batch(self, *, DeliveryStreamName: str, Records: Sequence[dict[str, bytes]]) -> Any:  # noqa: N803 - boto's
        self.taken += [record["Data"] for record in Records]
        return {"RequestResponses": [{} for _ in Records]}


def test_a_full_disk_makes_the_sink_send_no_line_twice(tmp_path: Path) -> None:
    """Delivered lines can't be deleted, and events can't be committed; with room again each is done once."""

    async def main(directory: Path) -> None:
        store, firehose = SqliteStore(directory / "store.db"), Firehose()
        sink = FirehoseSink(store, "stream")
        sink._client._client = firehose
        await store.open(1)
        await store.commit(named("a"), [b"1", b"2"])
        disk.fill()
        with pytest.raises(StoreError, match=r"store\.db.*full"):
            await store.commit(named("b"), [b"x" * 10_000])
        for _ in range(5):
            with pytest.raises(StoreError, match=r"store\.db.*full"):
                await sink.deliver()
        assert firehose.taken == [b"1", b"2"]
        assert await store.seen(named("a"))
        assert not await store.seen(named("b"))
        disk.free()
        assert await store.commit(named("b"), [b"3"])
        await sink.flush()
        assert firehose.taken == [b"1", b"2", b"3"]
        await store.close()

    with small_disk(tmp_path / "disk") as disk:
        run(main(disk.path))


def test_a_router_that_can_not_save_its_routing_keeps_what_it_saved_before(tmp_path: Path) -> None:
    """It says so, leaves nothing behind that takes more room, and saves again once there is room."""

    def known(epoch: int) -> KnownRouting:
        return KnownRouting(Routing(SlotMap(epoch, assign(None, {"cell-0000": 1})), {}, frozenset()), NO_POLICY)

    with small_disk(tmp_path / "disk") as disk, structlog.testing.capture_logs() as logs:
        saved = SavedRouting(disk.path / "routing.json")
        saved.save(known(1))
        disk.fill()
        files = sorted(disk.path.iterdir())
        for epoch in (2, 3):
            saved.save(known(epoch))
        assert [entry["event"] for entry in logs] == ["the routing can't be saved"] * 2
        assert sorted(disk.path.iterdir()) == files
        assert saved.load() == known(1)
        disk.free()
        saved.save(known(4))
        assert saved.load() == known(4)
