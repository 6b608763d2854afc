"""A real worker process on real servers: its lease, its answers, and every way it can end."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis

from cell_worker import protocol
from router.adapters.aws import AwsConfig, open_client
from router.adapters.aws_resources import AwsCellResources, Names
from tests.aio import run, until
from tests.servers import ministack
from tests.worker_process import SECRET, WorkerProcess, body, get, in_parallel, outcomes, post

EVENTS = protocol.EVENTS_PATH


def test_a_batch_is_processed_and_committed(redis_url: str, tmp_path: Path) -> None:
    """A result line each; a second delivery is ok as a duplicate."""
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
        (body("a"), {}, 401, "secret is missing or wrong"),
        (body("a"), {"Authorization": "Bearer wrong"}, 401, "secret is missing or wrong"),
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
def test_what_is_not_a_batch_for_it_is_refused(
    shared_worker: WorkerProcess, data: bytes, headers: dict[str, str] | None, status: int, words: str
) -> None:
    """With a status that says what kind of wrong, and a sentence that says what."""
    before = shared_worker.events()
    answer = post(f"{shared_worker.url()}{EVENTS}", data, headers)
    assert answer[0] == status
    assert words in answer[1]
    assert shared_worker.events() == before


@pytest.fixture(scope="module")
def shared_worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> object:
    """One worker for the tests that change nothing."""
    with WorkerProcess(redis_url, tmp_path_factory.mktemp("shared")) as worker:
        worker.ready()
        yield worker


def test_its_pages(shared_worker: WorkerProcess) -> None:
    """Health and readiness, components by name, metrics; commands need the secret."""
    url = shared_worker.url()
    assert '"generation":1' in get(f"{url}/healthz")[1]
    assert get(f"{url}/readyz")[0] == 200
    components = {part["name"]: part["healthy"] for part in json.loads(get(f"{url}/components")[1])}
    assert components == {"worker": True, "store": True, "sink": True, "hold": False}  # there is no AWS here
    assert "cell_events_total" in get(f"{url}/metrics")[1]
    for path in ("/v1/drain", "/v1/components/store/restart", "/v1/chaos/crash"):
        assert post(f"{url}{path}", b"", {})[0] == 401
    assert post(f"{url}/v1/chaos/crash", b"")[0] == 403
    assert post(f"{url}/v1/components/nothing/restart", b"")[0] == 404
    for part in ("store", "sink"):
        assert post(f"{url}/v1/components/{part}/restart", b"")[0] == 200
    assert outcomes(post(f"{url}{EVENTS}", body(uuid.uuid4().hex))[1]) == {0: "ok"}


def test_sigkill_in_the_middle_then_the_next_generation(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """Every event is done exactly once in the store, and every line arrives in the bucket."""
    environment = f"t-{uuid.uuid4().hex[:8]}"
    batches = [[f"e{number}-{i}" for i in range(10)] for number in range(6)]
    settings = {"environment": environment, "handler": "tests.trivial:slow", "sink": "firehose", "chaos": True}
    all_ids = {event for ids in batches for event in ids}

    async def story() -> None:
        async with AsyncExitStack() as stack:
            aws = AwsConfig("us-east-1", aws_endpoint)
            clients = [await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose")]
            names = Names("cellrouter", environment, "q", "d")
            await AwsCellResources(names, *clients, region="us-east-1", firehose_role="arn:aws:iam::1:role/r").ensure(
                "cell-0000"
            )
            with WorkerProcess(redis_url, tmp_path, generation=1, **settings) as worker:
                url = await asyncio.to_thread(worker.url)
                asking = asyncio.create_task(in_parallel(url, batches))

                async def some_done() -> bool:
                    return len(worker.events()) >= 16

                await until(some_done, "some events are done")
                await asyncio.to_thread(post, f"{url}{protocol.CRASH_PATH}", b"")
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
                    pages = clients[1].get_paginator("list_objects_v2").paginate(Bucket=names.cell("cell-0000"))
                    for key in [found["Key"] async for page in pages for found in page.get("Contents", ())]:
                        reply = await clients[1].get_object(Bucket=names.cell("cell-0000"), Key=key)
                        for line in (await reply["Body"].read()).splitlines():
                            record = json.loads(line)
                            lines.setdefault(record["event_id"], set()).add(record["generation"])
                    return lines.keys() == all_ids

                await until(all_arrived, "every line has arrived")
                assert all(len(generations) == 1 for generations in lines.values())
                assert {1, 2} == {generation for found in lines.values() for generation in found}

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
        run(story(), limit_s=90)


def test_sigterm_under_load_finishes_what_has_begun_and_exits_0(redis_url: str, tmp_path: Path) -> None:
    """Each event that was answered ok is committed; the lease is gone at once."""

    async def story() -> None:
        with WorkerProcess(redis_url, tmp_path, handler="tests.trivial:slow", concurrency=8) as worker:
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
    """Each start has the next one, also when Redis has forgotten all: the store remembers."""
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
    """In order, saying why; the first goes on."""
    with WorkerProcess(redis_url, tmp_path, generation=1) as first:
        url = first.url()
        (tmp_path / "other").mkdir()
        with WorkerProcess(redis_url, tmp_path / "other", generation=1, environment=first.environment) as second:
            assert second.process.wait(20) == 0
            assert "another live instance has this cell's generation" in second.said()
        assert outcomes(post(f"{url}{EVENTS}", body("a"))[1]) == {0: "ok"}


def test_an_older_generation_fences_itself_when_a_higher_one_is_admitted(redis_url: str, tmp_path: Path) -> None:
    """It exits 0 and says why; and it can't come back to the store."""
    with WorkerProcess(redis_url, tmp_path, generation=1) as old:
        old.ready()
        with Redis.from_url(redis_url) as redis:
            redis.hset(protocol.redis_key(old.environment, "cells"), "cell-0000", '{"generation": 2}')
        assert old.process.wait(20) == 0
        assert "a higher generation of this cell is admitted" in old.said()
    with WorkerProcess(redis_url, tmp_path, generation=2, environment=old.environment) as new:
        new.ready()
    with WorkerProcess(redis_url, tmp_path, generation=1, environment=f"{old.environment}-x") as back:
        assert back.process.wait(20) == 1
        assert "generation 2 has the cell's store; this is 1" in back.said()


def test_a_sink_that_is_away_loses_nothing_and_is_shown(redis_url: str, tmp_path: Path) -> None:
    """Events go on; the lines wait in the outbox until there is a Firehose."""
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
                    aws = AwsConfig("us-east-1", endpoint)
                    clients = [await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose")]
                    names = Names("cellrouter", worker.environment, "q", "d")
                    resources = AwsCellResources(
                        names, *clients, region="us-east-1", firehose_role="arn:aws:iam::1:role/r"
                    )
                    await resources.ensure("cell-0000")

            run(make_stream())

            async def emptied() -> bool:
                return "cell_outbox_lines 0.0" in get(f"{url}/metrics")[1]

            run(until(emptied, "the outbox is empty", 30))
            details = {part["name"]: part["detail"] for part in json.loads(get(f"{url}/components")[1])}
            assert details["hold"].endswith("0 wait, 0 are delayed, 0 are with a router")


def test_all_faults_of_the_environment_are_named_at_once(redis_url: str, tmp_path: Path) -> None:
    """With the variables' names, and exit code 2."""
    with WorkerProcess(redis_url, tmp_path, id="NOT GOOD", secret="short", concurrency=0, handler="x") as worker:
        assert worker.process.wait(20) == 2
        said = worker.said()
    for name in ("CELL_ID", "CELL_SECRET", "CELL_CONCURRENCY", "CELL_HANDLER"):
        assert f"{name}: " in said
    assert SECRET not in said


def test_a_handler_that_cannot_start_ends_the_worker_with_its_reason(redis_url: str, tmp_path: Path) -> None:
    """Exit code 1 and no traceback for what is the operator's to mend."""
    with WorkerProcess(redis_url, tmp_path, handler="tests.trivial:nothing") as worker:
        assert worker.process.wait(20) == 1
        assert "CELL_HANDLER=tests.trivial:nothing" in worker.said()
        assert "Traceback" not in worker.said()


def test_a_bad_rule_file_ends_the_worker_and_is_named(redis_url: str, tmp_path: Path) -> None:
    """The shipped workload's start: the file and what is wrong with it, as the log's last line."""
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
    """What had begun is committed, and the log has no traceback."""
    with WorkerProcess(redis_url, tmp_path, handler="tests.trivial:slow", concurrency=2) as worker:
        url = worker.url()
        request = urllib.request.Request(
            f"{url}{EVENTS}", body("a", "b", "c", "d"), {"Authorization": protocol.bearer(SECRET)}
        )
        urllib.request.urlopen(request, timeout=10).close()

        async def committed() -> bool:
            return {"a", "b"} <= worker.events()

        run(until(committed, "what had begun is committed"))
        assert outcomes(post(f"{url}{EVENTS}", body("e"))[1]) == {0: "ok"}
        assert "Traceback" not in worker.said()
