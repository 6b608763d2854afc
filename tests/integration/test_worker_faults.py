"""Faults injected into a real worker process: each does what it says, and ends by itself."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_worker import protocol
from router.adapters.clock import SystemClock
from tests.aio import run, until
from tests.worker_process import WorkerProcess, body, get, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the worker's faults

EVENTS, CHAOS = protocol.EVENTS_PATH, protocol.CHAOS_PATH
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """One that may be made to fail."""
    with WorkerProcess(redis_url, tmp_path_factory.mktemp("faults"), chaos=True) as made:
        yield made


def inject(url: str, kind: str, seconds: float = 1, **more: object) -> None:
    """It begins now."""
    status, answer = post(f"{url}{CHAOS}", json.dumps({"kind": kind, "seconds": seconds, **more}).encode())
    assert status == 200, answer
    assert kind in get(f"{url}/components")[1]


def ask(url: str, name: str, *, canary: bool = False) -> tuple[str, float]:
    """The answer for one event or canary, and how long it took; the text as it came when it is none."""
    begun = CLOCK.monotonic()
    _, text = post(f"{url}{EVENTS}", body(name, canary=canary))
    took = CLOCK.monotonic() - begun
    try:
        return outcomes(text)[0], took
    except ValueError:
        return text, took


def ended(worker: WorkerProcess, url: str) -> None:
    """Wait until nothing is injected any more; then all is as before."""

    async def over() -> bool:
        return worker.components(url)["worker"] == (True, "takes events")

    run(until(over, "it has ended by itself"))
    assert ask(url, "after")[0] == "ok"


def test_slow(worker: WorkerProcess) -> None:
    """Events and canaries take longer by that, for so long."""
    url = worker.url()
    inject(url, "slow", delay_s=0.3)
    assert "injected: slow (+0.3 s, x1)" in worker.components(url)["worker"][1]
    for canary in (False, True):
        outcome, took = ask(url, "slow", canary=canary)
        assert (outcome, took > 0.3) == ("ok", True)
    ended(worker, url)


def test_hang_is_a_gray_failure(worker: WorkerProcess) -> None:
    """No event and no canary gets an answer, while lease, health and readiness are fine; then all are answered."""
    url = worker.url()
    before = worker.lease()
    inject(url, "hang", 1.5)
    for path in ("/healthz", "/readyz"):
        assert get(f"{url}{path}")[0] == 200
    outcome, took = ask(url, "hung", canary=True)
    assert (outcome, took > 0.8) == ("ok", True)
    after = worker.lease()
    assert before is not None
    assert after is not None
    assert after[0].beat > before[0].beat
    ended(worker, url)


def test_a_hang_ended_by_hand(worker: WorkerProcess) -> None:
    """With 0 seconds; until then nothing of an event is begun, and then it is answered."""
    url = worker.url()

    async def story() -> None:
        inject(url, "hang", 600)
        asking = asyncio.create_task(asyncio.to_thread(ask, url, "held"))
        await asyncio.wait([asking], timeout=0.5)
        assert not asking.done()
        assert "held" not in worker.events()
        assert post(f"{url}{CHAOS}", b'{"kind": "hang", "seconds": 0}')[0] == 200
        assert (await asking)[0] == "ok"

    run(story())
    ended(worker, url)


def test_errors(worker: WorkerProcess) -> None:
    """Events are failed, canaries say retry."""
    url = worker.url()
    inject(url, "errors")
    assert ask(url, "wrong")[0] == "failed"
    assert ask(url, "wrong", canary=True)[0] == "retry"
    ended(worker, url)
    assert "wrong" not in worker.events()


def test_garbage(worker: WorkerProcess) -> None:
    """The event is processed, but nobody can read it from the answer."""
    url = worker.url()
    inject(url, "garbage")
    assert ask(url, "unread")[0].startswith('{"index": "no')
    ended(worker, url)
    assert "unread" in worker.events()


def test_a_component_fault_ends_with_its_time(worker: WorkerProcess) -> None:
    """Until then its check fails, and events and canaries are answered retry."""
    url = worker.url()
    inject(url, "component", component="store")
    assert not worker.components(url)["store"][0]
    for canary in (False, True):
        assert ask(url, "no store", canary=canary)[0] == "retry"
    ended(worker, url)
    assert worker.components(url)["store"][0]


def test_a_component_fault_ends_with_a_restart_of_the_component(worker: WorkerProcess) -> None:
    """Of that one, and of no other."""
    url = worker.url()
    inject(url, "component", 600, component="store")
    assert post(f"{url}/v1/components/sink/restart", b"")[0] == 200
    assert ask(url, "no store")[0] == "retry"
    assert post(f"{url}/v1/components/store/restart", b"")[0] == 200
    ended(worker, url)
    assert worker.components(url)["store"][0]


def test_crash(redis_url: str, tmp_path: Path) -> None:
    """SIGKILL, with no answer."""
    with WorkerProcess(redis_url, tmp_path, chaos=True) as worker:
        assert post(f"{worker.url()}{CHAOS}", b'{"kind": "crash"}')[0] == 0
        assert worker.process.wait(10) == -signal.SIGKILL


def test_a_hanging_worker_drains_all_the_same(redis_url: str, tmp_path: Path) -> None:
    """SIGTERM ends what is injected, and the worker in order."""
    with WorkerProcess(redis_url, tmp_path, chaos=True) as worker:
        inject(worker.url(), "hang", 600)
        worker.process.terminate()
        assert worker.process.wait(10) == 0
        assert "an injected fault has ended" in worker.said()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nonsense", "not a fault"),
        ({"kind": "fire"}, "Invalid enum value 'fire'"),
        ({"kind": "hang", "seconds": 601}, "<= 600"),
        ({"kind": "hang", "seconds": -1}, ">= 0"),
        ({"kind": "errors", "rate": 2}, "<= 1"),
        ({"kind": "slow"}, "slow by nothing"),
        ({"kind": "slow", "factor": 0.5}, ">= 1"),
        ({"kind": "component", "component": "engine"}, "no component 'engine'; there are worker, store, sink, hold"),
        ({"kind": "hang", "secs": 5}, "unknown field `secs`"),
    ],
    ids=str,
)
def test_what_is_no_fault_is_explained(worker: WorkerProcess, fault: object, words: str) -> None:
    """And injects nothing."""
    url = worker.url()
    status, answer = post(f"{url}{CHAOS}", json.dumps(fault).encode())
    assert status == 400
    assert words in json.loads(answer)["detail"]
    assert worker.components(url)["worker"] == (True, "takes events")
