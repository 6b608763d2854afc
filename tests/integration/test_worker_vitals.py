"""A real worker measures itself: its lease tells the leader, and its metrics tell Prometheus."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cell_worker.contract import protocol
from tests.support.aio import run, until
from tests.support.worker_process import WorkerProcess, body, get, post


def test_a_worker_that_computes_all_the_time_says_that_it_is_busy(redis_url: str, tmp_path: Path) -> None:
    """Before, it says that it is not. On a busy machine it computes less, and waits for a core instead."""
    with WorkerProcess(redis_url, tmp_path, handler="tests.support.trivial:spin", event_timeout_s=20) as worker:
        url = worker.url()

        def said() -> protocol.Vitals | None:
            found = worker.lease()
            return found[0].vitals if found is not None else None

        async def idle() -> bool:
            vitals = said()
            return vitals is not None and wanted(vitals) < 0.4

        async def busy() -> bool:
            vitals = said()
            return vitals is not None and wanted(vitals) > 0.7

        run(until(idle, "it is idle", 30))
        threading.Thread(target=post, args=(f"{url}/v1/events", body("a")), daemon=True).start()
        run(until(busy, "it is busy", 18))
        shown = dict(line.split() for line in get(f"{url}/metrics")[1].splitlines() if line.startswith("cell_cpu"))
        assert 0 < float(shown["cell_cpus"]) <= (os.cpu_count() or 1)
        assert float(shown["cell_cpu_ratio"]) > 0


def wanted(vitals: protocol.Vitals) -> float:
    """Of how many cores the worker has made use, or would have."""
    return vitals.cpu * vitals.cpus + (vitals.waited or 0.0)
