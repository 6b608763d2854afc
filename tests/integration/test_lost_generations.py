"""A registry that has lost its data counts a cell's generations from one again; the cell's own store doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from cell_worker.contract import protocol
from tests.support.worker_process import WorkerProcess, body, post

pytestmark = pytest.mark.one_kind  # it is about the cell's store


def test_an_outdated_generation_ends_and_the_next_one_is_higher(redis_url: str, tmp_path: Path) -> None:
    """Its worker ends. After it the registry gives out a generation above every one that the store has seen."""
    with WorkerProcess(redis_url, tmp_path, generation=7) as worker:
        status, _ = post(f"{worker.url()}{protocol.EVENTS_PATH}", body("a", generation=7))
        assert status == 200  # with its first event the worker takes the store
        worker.process.terminate()
        assert worker.process.wait(20) == 0
    with WorkerProcess(redis_url, tmp_path, generation=1) as worker:
        assert worker.process.wait(20) != 0
        assert "7" in worker.said()
        with Redis.from_url(redis_url) as redis:
            next_one = redis.hget(protocol.redis_key(worker.environment, "generations"), "cell-0000")
        assert int(next_one or 0) > 7
