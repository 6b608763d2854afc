"""A worker whose machine goes: it goes on after a SIGTERM until its successor has the cell, or until time is over."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from cell_worker.contract import protocol
from tests.support.aio import run, until
from tests.support.worker_process import WorkerProcess, body, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the worker

EVENTS = protocol.EVENTS_PATH
NOTICED = "goes on until another instance has the cell"


def told_to_end(worker: WorkerProcess) -> None:
    """Send SIGTERM, and wait until the worker has taken it in."""
    worker.process.send_signal(signal.SIGTERM)

    async def noticed() -> bool:
        return NOTICED in worker.said()

    run(until(noticed, "the worker goes on"))


def test_it_serves_until_its_successor_is_admitted(redis_url: str, tmp_path: Path) -> None:
    """Then it ends in order, long before its time is over."""
    with WorkerProcess(redis_url, tmp_path, generation=1, notice_s=100) as worker:
        url = worker.url()
        worker.admit(1)
        worker.has_taken()
        told_to_end(worker)
        assert outcomes(post(f"{url}{EVENTS}", body("after"))[1]) == {0: "ok"}
        found = worker.lease()
        assert found is not None
        assert found[0].ready
        worker.admit(2)
        assert worker.process.wait(30) == 0, worker.said()


def test_without_a_successor_it_drains_when_its_time_is_over(redis_url: str, tmp_path: Path) -> None:
    """And at a second signal at once."""
    with WorkerProcess(redis_url, tmp_path, generation=1, notice_s=1) as worker:
        worker.ready()
        worker.admit(1)
        worker.has_taken()
        told_to_end(worker)
        assert worker.process.wait(30) == 0, worker.said()
    with WorkerProcess(redis_url, tmp_path, generation=2, notice_s=100) as worker:
        worker.ready()
        worker.admit(2)
        worker.has_taken()
        told_to_end(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(30) == 0, worker.said()


def test_one_that_has_no_cell_yet_ends_at_once(redis_url: str, tmp_path: Path) -> None:
    """Nobody would miss it."""
    with WorkerProcess(redis_url, tmp_path, generation=1, notice_s=100) as worker:
        worker.ready()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(30) == 0, worker.said()
        assert NOTICED not in worker.said()
