"""Events that their cell had done before, by key and id: counted, and a warning where the body is another one."""

from __future__ import annotations

import json

from structlog.testing import capture_logs

from router.adapters.logs import LogObserver, Observers
from router.adapters.metrics.router import RouterMetrics
from router.core.telemetry import BodyDiffers
from router.services.data_plane.inbox import TELL_EVERY_S
from tests.support.fake_clock import play
from tests.support.router_world import World


def test_the_same_ids_of_two_tenants_are_all_done() -> None:
    """Each tenant counts from 1, and one cell has them both."""
    world = World(cells=1)

    async def story() -> None:
        for number in range(100):
            for tenant in ("a", "b"):
                await world.send_raw(json.dumps({"event_id": str(number), "tenant": tenant}), group=tenant)
        async with world.routing():
            await world.settled()
        (cell,) = world.cells.cells.values()
        assert len(cell.bodies) == len(world.cells.order) == 200
        assert world.notes.count(BodyDiffers) == 0

    play(world.clock, story())


def test_another_body_under_a_known_name_is_told_now_and_then() -> None:
    """One record for a flood, and another one later; equal bodies tell nothing, and a second cell tells for itself."""
    world = World(cells=2)
    first, other = world.keys_of("cell-0000", 1)[0], world.keys_of("cell-0001", 1)[0]

    async def sent(tenant: str, state: int) -> None:
        await world.send_raw(json.dumps({"event_id": "order-7", "tenant": tenant, "state": state}), group=tenant)
        await world.settled()

    def told() -> list[BodyDiffers]:
        return [record for record in world.notes.records if isinstance(record, BodyDiffers)]

    async def story() -> None:
        async with world.routing():
            for _ in range(3):
                await sent(first, 0)
            assert told() == []
            for state in range(1, 6):
                await sent(first, state)
            assert told() == [BodyDiffers("cell-0000", first, "order-7")]
            await sent(other, 0)
            await sent(other, 1)
            assert told()[1:] == [BodyDiffers("cell-0001", other, "order-7")]
            await world.clock.sleep(TELL_EVERY_S)
            await sent(first, 9)
            assert len(told()) == 3

    play(world.clock, story())
    metrics, log = RouterMetrics(), LogObserver()
    with capture_logs() as lines:
        observer = Observers(metrics, log)
        for record in world.notes.records:
            observer.observe(record)
    for body, count in (("same", 2), ("other", 6)):
        labels = {"cell": "cell-0000", "body": body}
        assert metrics.registry.get_sample_value("cellrouter_duplicates_total", labels) == count
    warned = [line for line in lines if line.get("event_id") == "order-7"]
    assert {(line["log_level"], line["cell"], line["key"]) for line in warned} == {
        ("warning", "cell-0000", first),
        ("warning", "cell-0001", other),
    }
