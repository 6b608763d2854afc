"""Faults injected into a real worker process: each does what it says, and ends by itself."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell_worker.contract import protocol
from router.adapters.clock import SystemClock
from tests.support.aio import run, until
from tests.support.worker_process import WorkerProcess, body, get, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the worker's faults

EVENTS, CHAOS = protocol.EVENTS_PATH, protocol.CHAOS_PATH
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """One worker for all tests, with fault injection allowed."""
    with WorkerProcess(redis_url, tmp_path_factory.mktemp("faults"), chaos=True) as made:
        yield made


def send(url: str, kind: str, seconds: float, **more: object) -> None:
    """POST a fault to the worker, as a person would."""
    status, answer = post(f"{url}{CHAOS}", json.dumps({"kind": kind, "seconds": seconds, **more}).encode())
    assert status == 200, answer


def inject(url: str, kind: str, **more: object) -> None:
    """Begin a fault that goes on until it is ended, however busy the machine is."""
    send(url, kind, 600, **more)
    assert kind in get(f"{url}/components")[1]


def end(url: str, kind: str) -> None:
    """End a fault as a person would."""
    send(url, kind, 0)


def ask(url: str, name: str, *, canary: bool = False) -> tuple[str, float]:
    """The outcome for one event or canary and its duration; the raw text when the answer is no result."""
    begun = CLOCK.monotonic()
    _, text = post(f"{url}{EVENTS}", body(name, canary=canary))
    took = CLOCK.monotonic() - begun
    try:
        return outcomes(text)[0], took
    except ValueError:
        return text, took


def ended(worker: WorkerProcess, url: str) -> None:
    """Check that no fault is injected any more and that events are ok."""
    components = worker.components(url)
    assert components["worker"] == (True, "takes events")
    assert components["store"][0]
    assert ask(url, "after")[0] == "ok"


FAULTS: dict[str, dict[str, Any]] = {
    "slow": {"delay_s": 0.3},
    "hang": {},
    "errors": {},
    "garbage": {},
    "component": {"component": "store"},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_ends_by_itself(worker: WorkerProcess, kind: str) -> None:
    """Each kind of fault ends when its time is over."""
    url = worker.url()
    send(url, kind, 0.2, **FAULTS[kind])

    async def over() -> bool:
        return worker.components(url)["worker"] == (True, "takes events")

    run(until(over, "it has ended"))
    ended(worker, url)


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_can_be_ended_by_hand(worker: WorkerProcess, kind: str) -> None:
    """A fault of 0 seconds ends it; until then `/components` shows it."""
    url = worker.url()
    inject(url, kind, **FAULTS[kind])
    assert f"injected: {kind}" in worker.components(url)["worker"][1]
    end(url, kind)
    ended(worker, url)


def test_slow_delays_events_and_canaries(worker: WorkerProcess) -> None:
    """Events and canaries take the delay longer."""
    url = worker.url()
    inject(url, "slow", delay_s=0.3)
    assert "injected: slow (+0.3 s, x1)" in worker.components(url)["worker"][1]
    for canary in (False, True):
        outcome, took = ask(url, "slow", canary=canary)
        assert (outcome, took > 0.3) == ("ok", True)
    end(url, "slow")
    ended(worker, url)


def test_hang_is_a_gray_failure(worker: WorkerProcess) -> None:
    """No event and no canary gets an answer, while lease, health and readiness are fine; then all are answered."""
    url = worker.url()
    before = worker.lease()
    assert before is not None

    async def beats() -> bool:
        after = worker.lease()
        assert after is not None
        return after[0].beat > before[0].beat

    async def story() -> None:
        inject(url, "hang")
        asking = [asyncio.create_task(asyncio.to_thread(ask, url, "held", canary=canary)) for canary in (False, True)]
        for path in ("/healthz", "/readyz"):
            assert (await asyncio.to_thread(get, f"{url}{path}"))[0] == 200
        await until(beats, "the lease is renewed")
        done, _ = await asyncio.wait(asking, timeout=0.5)
        assert not done
        assert "held" not in worker.events()
        end(url, "hang")
        assert [(await asked)[0] for asked in asking] == ["ok", "ok"]

    run(story())
    ended(worker, url)


def test_errors_fails_events_and_canaries(worker: WorkerProcess) -> None:
    """Events fail, and canaries are answered with retry."""
    url = worker.url()
    inject(url, "errors")
    assert ask(url, "wrong")[0] == "failed"
    assert ask(url, "wrong", canary=True)[0] == "retry"
    end(url, "errors")
    ended(worker, url)
    assert "wrong" not in worker.events()


def test_garbage_makes_answers_unreadable(worker: WorkerProcess) -> None:
    """The event is processed, but nobody can read that from the answer."""
    url = worker.url()
    inject(url, "garbage")
    assert ask(url, "unread")[0].startswith('{"index": "no')
    end(url, "garbage")
    ended(worker, url)
    assert "unread" in worker.events()


def test_a_component_fault_ends_with_a_restart_of_that_component(worker: WorkerProcess) -> None:
    """Before that its check fails, and events and canaries get retry. A restart of another one does not end it."""
    url = worker.url()
    inject(url, "component", component="store")
    assert not worker.components(url)["store"][0]
    assert post(f"{url}/v1/components/sink/restart", b"")[0] == 200
    for canary in (False, True):
        assert ask(url, "no store", canary=canary)[0] == "retry"
    assert post(f"{url}/v1/components/store/restart", b"")[0] == 200
    ended(worker, url)


def test_crash_kills_the_worker(redis_url: str, tmp_path: Path) -> None:
    """The worker dies of SIGKILL, and the client gets no answer."""
    with WorkerProcess(redis_url, tmp_path, chaos=True) as worker:
        assert post(f"{worker.url()}{CHAOS}", b'{"kind": "crash"}')[0] == 0
        assert worker.process.wait(10) == -signal.SIGKILL


def test_a_hanging_worker_drains_all_the_same(redis_url: str, tmp_path: Path) -> None:
    """SIGTERM ends the injected faults, and then the worker in order."""
    with WorkerProcess(redis_url, tmp_path, chaos=True) as worker:
        inject(worker.url(), "hang")
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
def test_an_unknown_fault_is_refused_with_an_explanation(worker: WorkerProcess, fault: object, words: str) -> None:
    """The worker refuses it with a text, and injects nothing."""
    url = worker.url()
    status, answer = post(f"{url}{CHAOS}", json.dumps(fault).encode())
    assert status == 400
    assert words in json.loads(answer)["detail"]
    assert worker.components(url)["worker"] == (True, "takes events")
