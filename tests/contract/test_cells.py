"""What routers, controllers and operators ask of a real worker: the same by plain HTTP, TLS and mutual TLS."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

import aiohttp
import psutil
import pytest

from cell_worker.contract import protocol
from cell_worker.contract.protocol import Fault, FaultKind
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.chaos import inject
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.control import HttpCellControl
from router.adapters.clock import SystemClock
from router.core.errors import CellRefusedError, CellUnavailableError, ChaosRefusedError
from router.core.models import Event, Outcome, Result, Target
from tests.support.aio import run, until
from tests.support.keys import OTHER_SECRET, SECRET, ring
from tests.support.ways import CLIENTS, WAYS, Way, session_of, way_of
from tests.support.worker_process import WorkerProcess

pytestmark = pytest.mark.one_kind  # it is about sockets

CELL: Final = "cell-0000"
PATIENCE_S: Final = 30.0


@dataclass
class World:
    """A worker, and the way in which it is reached."""

    worker: WorkerProcess
    way: Way
    target: Target

    def call(self, story: Callable[[CellCalls], Awaitable[None]], secret: str = SECRET) -> None:
        """Run a story with calls as routers make them, once by each client."""

        async def main(client: str) -> None:
            async with session_of(client) as session:
                calls = CellCalls(session, ring(self.worker.environment, secret), SystemClock(), ends=self.way.ends)
                await story(calls)
            # TLS connections that were broken off are closed only a second later.
            await until(self.is_left, "no connection to the worker is open")

        for client in CLIENTS:
            run(main(client))

    async def is_left(self) -> bool:
        """Whether this process has no connection to the worker any more."""
        port = int(self.target.address.rpartition(":")[2])
        return not [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]


@pytest.fixture(scope="module", params=WAYS)
def world(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Runs a worker that is reached in each of the ways."""
    folder, environment = tmp_path_factory.mktemp("cell"), f"t-{uuid.uuid4().hex[:8]}"
    way = way_of(request.param, folder, environment)
    settings = {"environment": environment, "chaos": True, "handler": "tests.support.trivial:as_told"}
    with WorkerProcess(redis_url, folder, **settings, **way.settings) as worker:
        lease = worker.ready()
        yield World(worker, way, Target(CELL, lease.generation, lease.address, lease.concurrency, 1))


async def processed(calls: CellCalls, target: Target, *bodies: object, ids: str = "") -> list[Result]:
    """Send a batch of events with these bodies, and return the results as they come."""
    ids = ids or uuid.uuid4().hex
    batch = [Event(f"{ids}-{i}", "key", json.dumps(body).encode()) for i, body in enumerate(bodies)]
    return [result async for result in HttpCellClient(calls, PATIENCE_S).process(target, batch)]


def test_each_event_of_a_batch_has_its_own_result(world: World) -> None:
    """With the reason; what was done before is a duplicate."""

    async def story(calls: CellCalls) -> None:
        ids = uuid.uuid4().hex
        for again in (False, True):
            found = await processed(calls, world.target, 0, "failed", "rejected", "retry", ids=ids)
            results = {result.index: (result.outcome, result.reason) for result in found}
            assert results == {
                0: (Outcome.OK, None),
                1: (Outcome.FAILED, "ValueError: as told"),
                2: (Outcome.REJECTED, "as told"),
                3: (Outcome.RETRY, "as told"),
            }
            assert [result.duplicate for result in sorted(found, key=lambda each: each.index)] == [again, *[False] * 3]

    world.call(story)


def test_results_come_as_the_events_finish(world: World) -> None:
    """A slow event keeps none waiting."""

    async def story(calls: CellCalls) -> None:
        assert [result.index for result in await processed(calls, world.target, 0.5, 0)] == [1, 0]

    world.call(story)


def test_a_large_batch_is_processed(world: World) -> None:
    """It comes in many pieces, and is proven as a whole."""

    async def story(calls: CellCalls) -> None:
        found = await processed(calls, world.target, *["x" * 30_000] * 30)
        assert [result.outcome for result in found] == [Outcome.OK] * 30

    world.call(story)


def test_components_are_told_and_restarted(world: World) -> None:
    """A component that there isn't is refused, and the answer says which there are."""

    async def story(calls: CellCalls) -> None:
        control = HttpCellControl(calls)
        assert {"store", "worker"} <= {part.name for part in await control.components(world.target, PATIENCE_S)}
        await control.restart(world.target, "store", PATIENCE_S)
        with pytest.raises(CellRefusedError, match="there are") as refused:
            await control.restart(world.target, "no such", PATIENCE_S)
        assert refused.value.status == 404

    world.call(story)


def test_faults_are_injected_and_ended(world: World) -> None:
    """An answer that is none comes to nothing; a fault that would do nothing is refused with the reason."""

    async def story(calls: CellCalls) -> None:
        await inject(calls, world.target, Fault(FaultKind.GARBAGE))
        with pytest.raises(CellUnavailableError):
            await processed(calls, world.target, 0)
        await inject(calls, world.target, Fault(FaultKind.GARBAGE, seconds=0))
        assert [result.outcome for result in await processed(calls, world.target, 0)] == [Outcome.OK]
        with pytest.raises(ChaosRefusedError, match="slow by nothing"):
            await inject(calls, world.target, Fault(FaultKind.SLOW))

    world.call(story)


@pytest.mark.parametrize(("generation", "status"), [(0, 409), (1, 401)], ids=["in the batch", "in the proof"])
def test_what_is_for_another_instance_is_refused(world: World, generation: int, status: int) -> None:
    """Whether the batch says so, or the call itself: then not even the batch is read."""

    async def story(calls: CellCalls) -> None:
        target = world.target
        other = Target(CELL, target.generation + generation, target.address, 1, 1)
        with pytest.raises(CellRefusedError) as refused:
            async with calls.call("POST", other, protocol.EVENTS_PATH, batch_of(target), TIMEOUT):
                pass
        assert refused.value.status == status

    world.call(story)


def test_who_has_another_secret_is_refused(world: World) -> None:
    """By every path, though the certificates are right."""

    async def story(calls: CellCalls) -> None:
        for asked in (
            processed(calls, world.target, 0),
            HttpCellControl(calls).components(world.target, PATIENCE_S),
            HttpCellControl(calls).restart(world.target, "store", PATIENCE_S),
        ):
            with pytest.raises(CellRefusedError) as refused:
                await asked
            assert refused.value.status == 401

    world.call(story, OTHER_SECRET)


TIMEOUT: Final = aiohttp.ClientTimeout(total=PATIENCE_S)


def batch_of(target: Target) -> bytes:
    """Make an empty batch for an instance that never was."""
    return b'{"cell_id":"%s","generation":%d,"epoch":1,"deadline_s":1,"events":[]}' % (
        target.cell_id.encode(),
        target.generation + 7,
    )
