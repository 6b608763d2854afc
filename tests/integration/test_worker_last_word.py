"""What a worker that can't start says in Redis, for a controller that can't read its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from cell_worker.contract import protocol
from tests.support.worker_process import WorkerProcess

pytestmark = pytest.mark.one_kind  # it is about the worker's process


def test_an_instance_that_cannot_start_leaves_its_last_word_in_redis(redis_url: str, tmp_path: Path) -> None:
    """A controller that can't read its log learns there why; a lease that is there already stays as it is."""
    said = []
    for handler in ("tests.support.trivial:nothing", "tests.support.handlers:CannotStart"):
        with WorkerProcess(redis_url, tmp_path, environment="last-word", generation=1, handler=handler) as worker:
            assert worker.process.wait(20) == 1
        with Redis.from_url(redis_url) as redis:
            found: Any = redis.hvals(protocol.redis_key("last-word", "leases"))
        (value,) = found
        lease = msgspec.json.decode(value, type=protocol.Lease)
        assert lease.ended
        said.append(lease.note)
    assert "has no attribute 'nothing'" in said[0]
    assert said[1] == said[0]
